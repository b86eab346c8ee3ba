"""Recurrent layers and what surrounds them; needs torch and jaxtyping alone."""
