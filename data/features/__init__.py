"""Files of features, and how they are built by one of many processes."""
