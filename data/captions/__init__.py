"""Pictures and what people have said of them: every form such a corpus comes in, read to the same object."""
