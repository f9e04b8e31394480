"""The fixtures of a whole master."""

from ordinary_user import unprivileged  # noqa: F401
from running import ask, oxherd, queue  # noqa: F401
