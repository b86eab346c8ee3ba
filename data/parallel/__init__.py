"""Pairs of sentences: reading files and tables, and batches of pairs."""
