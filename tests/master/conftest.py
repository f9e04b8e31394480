"""The fixtures of a whole master."""

from running import oxherd, queue  # noqa: F401
