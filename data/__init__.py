"""Reading, batching and serving data; knows nothing of networks or training."""
