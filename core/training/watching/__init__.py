"""What can be seen of a run: progress, throughput, loggers, pictures."""
