"""Commands: one exchange with Redis as a value. One file a family."""
