"""How much of what a runner prints is told: so many lines and bytes at once, then so many a second.

A bucket of tokens, shared by stdout and stderr. Who finds it empty is not slowed down: what he prints is
counted and left out, until half a second's worth is there again. Whether a job may print so much at all is a
limit of its own (`output`); this one keeps the log, and whoever reads it, from drowning. A reader that is
slower than that finds the bucket empty, too: otherwise the log would drop its oldest lines, and those are not
the job's but everybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LINES_AT_ONCE: Final = 2_000
LINES_A_SECOND: Final = 1_000
BYTES_AT_ONCE: Final = 1024 * 1024
BYTES_A_SECOND: Final = 128 * 1024
AGAIN_S: Final = 0.5  # how long the bucket is filled before anything is told again
FIRST_LINES: Final = 100  # what every job finds, whatever the one before has printed
FIRST_BYTES: Final = 16 * 1024
END_LINES: Final = 20
END_BYTES: Final = 2 * 1024  # of what was left out: the last words of a job say most


class OutputBudget:
    """One runner's. `crowded`: the log's reader does not keep up."""

    def __init__(self, clock: Callable[[], float], crowded: Callable[[], bool] = lambda: False) -> None:
        self._clock = clock
        self._crowded = crowded
        self._lines = float(LINES_AT_ONCE)
        self._bytes = float(BYTES_AT_ONCE)
        self._filled_at = clock()
        self._empty = False
        self._begun = False

    def begin(self) -> None:
        """A job begins, which is not to go without for what another has printed.

        Most jobs print nothing, so the work is left to the first line.
        """
        self._begun = True

    def _begin(self) -> None:
        self._begun = False
        self._fill()
        self._lines = max(self._lines, FIRST_LINES)
        self._bytes = max(self._bytes, FIRST_BYTES)
        self._empty = False

    def take(self, length: int) -> bool:
        """One more line of so many bytes: may it be told?"""
        if self._begun:
            self._begin()
        if not self._empty and self._lines >= 1 and self._bytes >= length and not self._crowded():
            self._lines -= 1
            self._bytes -= length
            return True
        self._fill()
        if self._crowded():
            self._lines = self._bytes = 0.0
        enough = AGAIN_S if self._empty else 0.0
        self._empty = (
            self._lines < max(1, enough * LINES_A_SECOND) or self._bytes < length + enough * BYTES_A_SECOND
        )
        if self._empty:
            return False
        self._lines -= 1
        self._bytes -= length
        return True

    def _fill(self) -> None:
        now_at = self._clock()
        passed_s, self._filled_at = now_at - self._filled_at, now_at
        self._lines = min(LINES_AT_ONCE, self._lines + passed_s * LINES_A_SECOND)
        self._bytes = min(BYTES_AT_ONCE, self._bytes + passed_s * BYTES_A_SECOND)


class LeftOut:
    """What one pipe has left out since it was told last, and the end of it."""

    def __init__(self) -> None:
        self.lines = 0
        self.bytes = 0
        self.end = b""

    def __bool__(self) -> bool:
        return self.bytes > 0

    def add(self, data: bytes | bytearray, lines: int) -> None:
        self.lines += lines
        self.bytes += len(data)
        self.end = (self.end + bytes(data[-END_BYTES:]))[-END_BYTES:]

    def last_lines(self) -> list[bytes]:
        """The first of them may be half a line, and is none."""
        return [line for line in self.end.splitlines()[1:] if line][-END_LINES:]

    def sentence(self) -> str:
        """And from now on it is told."""
        text = f"... {self.lines} lines were left out ({self.bytes} bytes)"
        self.lines = self.bytes = 0
        self.end = b""
        return text
