"""Settings: a typed, frozen model, and how it is read from a file, the environment and flags."""
