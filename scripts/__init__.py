"""Commands around the product: the demo, result runs, generated tables."""
