"""How recurrent layers run: layouts, kernels, scans, products."""
