"""One folder an application: forecasting, translation, captioning, video classification."""
