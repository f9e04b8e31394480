"""How things look: tables and times for people, one JSON object a line for programs.

Whatever comes from Redis may have been written by anybody, so for people it loses its control characters: a
job's name must not move the cursor of whoever looks at it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

_AGES: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))


def clean(text: str) -> str:
    """`text` on one line and without anything a terminal would act on."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    spelled = char.encode("unicode_escape", "backslashreplace").decode()
    return {"\n": " ", "\t": " ", "\r": ""}.get(char, spelled)


def clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def span(ms: float) -> str:
    """A length of time, to the eye's precision: `340 ms`, `1.2 s`, `12 s`, `3 min`, `2 h`, `5 d`."""
    ms = max(0, ms)
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 9_950:
        return f"{ms / 1_000:.1f} s"
    size, unit = next((size, unit) for size, unit in _AGES if ms >= size)
    return f"{ms // size:.0f} {unit}"


def moment(on_ms: int | None, now_ms: int) -> str:
    """Local time and how long ago, or how soon; `-` for never."""
    if not on_ms:
        return "-"
    try:
        local = datetime.fromtimestamp(on_ms / 1000).astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):
        return str(on_ms)  # a date no calendar has; somebody stored nonsense
    away = f"{span(now_ms - on_ms)} ago" if on_ms <= now_ms else f"in {span(on_ms - now_ms)}"
    return f"{local} ({away})"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Aligned columns under a header; those in `right` are numbers."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    numbers = set(right)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    known = list(rows)
    width = max((len(name) for name, _ in known), default=0)
    below = "\n" + " " * (width + 2)
    return "\n".join(
        f"{name.ljust(width)}  {value.replace(chr(10), below)}".rstrip() for name, value in known
    )


def as_json(value: Any) -> str:
    """One line of JSON. Letters stay letters where the output can carry them."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8" or _has_surrogates(text):
        return json.dumps(value, separators=(",", ":"), default=str)
    return text


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def pretty_json(value: Any) -> str:
    """JSON for people: on one line while it is short, else indented."""
    short = json.dumps(value, ensure_ascii=False, default=str)
    if len(short) > 80 and isinstance(value, (dict, list)):
        short = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    # JSON escapes control characters below U+0020; those from U+0080 on act on terminals too.
    return "".join(char if char == "\n" or char.isprintable() else _escaped(char) for char in short)


def out(text: str) -> None:
    """One piece of the answer. Flushed, because who reads it may be waiting for the line."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line that is no part of the answer."""
    print(text, file=sys.stderr, flush=True)
