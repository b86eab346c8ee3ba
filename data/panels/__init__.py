"""Tables of time series: reading, columns, frequency, alignment."""
