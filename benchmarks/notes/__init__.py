"""The claims of the lecture notes as experiments: `python -m benchmarks.notes` runs them all (docs/notes.md)."""
