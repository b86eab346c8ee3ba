"""The recurrent core: `core.nn` (torch alone) and, on it, `core.training` (Lightning)."""
