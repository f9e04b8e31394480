"""The scripts: one file each, with the fragments they share in `lib/`.

Decides only how a script's text is put together: a line `--- include lib/<name>` is replaced by that
fragment, each fragment at most once a script, fragments inside fragments at most two deep. What a script
does is told in its own header; who runs it is `transport`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_INCLUDE = re.compile(r"^--- include (lib/[a-z_]+)$")
_MAX_DEPTH = 2
_HERE = Path(__file__).parent


@cache
def source(name: str) -> str:
    """The whole text of `lua/<name>.lua`; always the same, so its SHA1 may be kept."""
    return "\n".join(_expand(name, included=set(), depth=0)) + "\n"


def _expand(name: str, included: set[str], depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise ValueError(f"{name}.lua is included more than {_MAX_DEPTH} deep")
    lines: list[str] = []
    for line in _read(name).splitlines():
        match = _INCLUDE.match(line)
        if match is None:
            lines.append(line)
        elif match[1] not in included:
            included.add(match[1])
            lines += _expand(match[1], included, depth + 1)
    return lines


def _read(name: str) -> str:
    # Not by importlib.resources, whose import costs every start 3 ms.
    return (_HERE / f"{name}.lua").read_text(encoding="utf-8")
