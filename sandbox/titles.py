"""Process titles, for ps and top. Without `setproctitle` there are none, and nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader, PathFinder
from importlib.util import module_from_spec


def _no_title(title: str) -> None:
    return None


def find_setter() -> Callable[[str], None]:
    """The function that sets the title of this process, or one that does nothing.

    The import stands in a function because it is the one thing in this package that is not in the standard
    library, and the package works without it.
    """
    try:
        bare = _bare_setter()
        if bare is not None:
            return bare
        from setproctitle import setproctitle
    except (ImportError, AttributeError):
        return _no_title
    whole: Callable[[str], None] = setproctitle
    return whole


def _bare_setter() -> Callable[[str], None] | None:
    """Its C half alone: the other half imports `logging`, and with it `threading`, for which each process
    that is forked would pay half a millisecond. None where it is not laid out so.
    """
    package = PathFinder.find_spec("setproctitle")
    places = None if package is None else package.submodule_search_locations
    found = PathFinder.find_spec("setproctitle._setproctitle", places) if places else None
    if found is None or not isinstance(found.loader, ExtensionFileLoader):
        return None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    setter: Callable[[str], None] = module.setproctitle
    return setter


def percentage(value: object) -> str:
    """` 42%` for a progress that is a number from 0 to 100, else nothing."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100:
        return f" {int(value)}%"
    return ""
