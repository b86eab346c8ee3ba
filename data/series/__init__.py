"""Windows and streams of time series, and features of the calendar."""
