"""Where in a TOML text each of its keys stands.

Python's reader of TOML tells no lines, so the text is given to it once more, one statement at a time: a
statement is as few lines as can be read by themselves. That is done only where somebody wants to know.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

LONGEST_STATEMENT: Final = 500  # lines; reading one takes their number squared


@lru_cache(maxsize=2)
def lines_of(text: str) -> Mapping[str, int]:
    """`queue.mail.concurrency` -> the number of its line; tables and keys alike. `text` is TOML that can be
    read."""
    import tomllib  # at the top it would cost each start without a file 3 ms

    found: dict[str, int] = {}
    table: tuple[str, ...] = ()
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        first, statement, read = at, "", None
        while read is None and at < min(len(lines), first + LONGEST_STATEMENT):
            statement += lines[at] + "\n"
            at += 1
            try:
                read = tomllib.loads(statement)
            except tomllib.TOMLDecodeError:
                continue
        names = list(_names(read or {}))
        if names and statement.lstrip().startswith("["):
            table, names = names[-1], [names[-1]]
            first_of_table: tuple[str, ...] = ()
        else:
            first_of_table = table
        for name in names:
            found.setdefault(".".join((*first_of_table, *name)), first + 1)
    return found


def _names(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key, and those of the tables in it."""
    for key, value in table.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _names(value, (*above, key))
