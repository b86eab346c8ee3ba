"""Networks that turn an image into a grid of features, and their weights."""
