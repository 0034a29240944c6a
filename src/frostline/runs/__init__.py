"""The run directory: what is written, how a snapshot is read back, how a sweep is collected."""
