"""Numbers about finished runs and encoders, and the statistics they share."""
