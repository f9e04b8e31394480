"""The running thing: one process that talks to Redis for all its runners and never runs user code."""
