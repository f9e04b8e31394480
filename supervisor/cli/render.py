"""How things look: tables and times for people, one JSON object a line for programs.

Whatever comes from Redis may have been written by anybody, so for people it loses its control characters: a
job's name must not move the cursor of whoever looks at it.
"""

from __future__ import annotations

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from supervisor.errors import OxherdError

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
    """A length of time, to the eye's precision: `340 ms`, `1.2 s`, `12 s`, `1.7 min`, `2 h`, `5 d`."""
    ms = max(0, ms)
    if ms < 1_000:
        return f"{ms:.0f} ms"
    size, unit = next((size, unit) for size, unit in _AGES if ms >= size)
    if ms >= 9.95 * size:
        return f"{ms // size:.0f} {unit}"
    number = f"{ms / size:.1f}"
    return f"{number if unit == 's' else number.removesuffix('.0')} {unit}"


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
    widths = [max(columns_of(line[column]) for line in lines) for column in range(len(header))]
    numbers = set(right)
    return "\n".join(
        "  ".join(
            padded(cell, width, right=column in numbers)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes: a Chinese letter or an ox takes two, an accent none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """`text` with spaces to `width` columns, before it or, as usual, behind it."""
    spaces = " " * (width - columns_of(text))
    return spaces + text if right else text + spaces


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


class OutputFailed(OxherdError):
    """The answer cannot be written to stdout. A reader who has gone is told by `BrokenPipeError` instead."""

    code = "output_failed"

    def __init__(self, why: OSError) -> None:
        super().__init__(
            f"the answer cannot be written: {why.strerror}; what it was to tell of is done all the same"
        )


def out(text: str) -> None:
    """One piece of the answer. Flushed, because who reads it may be waiting for the line."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(error) from None


class Report:
    """Lines about work that must not end half-way because nobody reads them any more.

    A context: whatever became of the output is raised at its end, when the work is done.
    """

    def __init__(self) -> None:
        self._failed: BrokenPipeError | OutputFailed | None = None

    def out(self, text: str) -> None:
        if self._failed is None:
            try:
                out(text)
            except (BrokenPipeError, OutputFailed) as error:
                self._failed = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._failed is not None:
            raise self._failed


def note(text: str) -> None:
    """A line that is no part of the answer, so that nothing ends when it cannot be written."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
