"""Embedded data sets: small, real or generated, read through the same code as real data."""
