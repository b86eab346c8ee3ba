"""Time-series forecasting (notes N17): a window of the past in, all steps of the horizon out."""
