"""The process itself and the others beside it: signals, random numbers, memory, the group of a run."""
