"""What a checkpoint holds, when it is written, and how a file stays whole."""
