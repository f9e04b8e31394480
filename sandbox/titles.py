"""Process titles, for ps and top. Without `setproctitle` there are none, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable


def _no_title(title: str) -> None:
    return None


def find_setter() -> Callable[[str], None]:
    """The function that sets the title of this process, or one that does nothing.

    The import stands in a function because it is the one thing in this package that is not in the standard
    library, and the package works without it.
    """
    try:
        from setproctitle import setproctitle
    except ImportError:
        return _no_title
    setter: Callable[[str], None] = setproctitle
    return setter


def percentage(value: object) -> str:
    """` 42%` for a progress that is a number from 0 to 100, else nothing."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100:
        return f" {int(value)}%"
    return ""
