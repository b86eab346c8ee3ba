"""Pictures: reading them, listing them, and bringing them to the size that a network takes."""
