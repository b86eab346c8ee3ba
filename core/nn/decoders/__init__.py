"""What decoders are made of: their layers, loops, readouts and bridges."""
