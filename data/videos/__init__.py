"""Videos: decoding any file frame by frame, choosing frames, and checking a whole folder beforehand."""
