"""Producers and readers: add jobs, look at them, wait for their results. Knows nothing of the master."""
