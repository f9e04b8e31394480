"""stdout and stderr of a process of ours, cut into lines.

Decides where a line ends and how many are told in one turn of the loop. What arrives is bytes from a stranger
(I7): bounded before memory is spent on it. Which job has printed it is the slot's owner's to know.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from supervisor.master.budget import LeftOut, OutputBudget
from supervisor.master.pipe import DRAIN_READS, READ_BYTES

LINE_BYTES: Final = 16 * 1024
LINES_A_TURN: Final = 200  # of one pipe: a flood of short lines must not keep the loop from its renewals
DRAIN_LINES: Final = 4_000  # told at the end of a job; of what is still in the pipe the rest is counted


class OutputPipe:
    """stdout or stderr of one process, cut into lines of at most 16 KiB; `on_line(text)` for each that the
    budget allows, and for how many it did not.

    One read and so many lines in one turn of the loop, and no further read while lines are left: who prints
    faster than that waits for us.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        on_line: Callable[[str], None],
        budget: OutputBudget | None = None,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_line = on_line
        self._budget = budget
        self.before_read: Callable[[], None] | None = None  # called when there is something to be read
        self._left_out = LeftOut()
        self.total_bytes = 0  # that came by it
        self._received = bytearray()
        self._paused = False
        self._ended = False
        self._closed = False
        self._more: asyncio.Handle | None = None  # lines that are complete wait for the next turn
        self._reading = False
        self.telling = False  # a line of it is being told
        os.set_blocking(fd, False)
        self._want_more()

    def pause(self) -> None:
        self._paused = True
        self._want_more()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._turn()

    def _want_more(self) -> None:
        """Have the reader in place exactly when more may be read."""
        wanted = not (self._paused or self._ended or self._closed or self._more)
        if wanted and not self._reading:
            self._loop.add_reader(self._fd, self._readable)
        elif self._reading and not wanted:
            self._loop.remove_reader(self._fd)
        self._reading = wanted

    def _readable(self) -> None:
        if self.before_read is not None:
            self.before_read()
            if self._closed:
                return
        self._read_once()
        self._turn()

    def _turn(self) -> None:
        """One turn's share of the lines."""
        self._more = None
        if not self._paused and not self._closed and not self._cut(LINES_A_TURN):
            self._more = self._loop.call_soon(self._turn)
        self._want_more()

    def _read_once(self) -> bool:
        try:
            data = os.read(self._fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._ended = True
            return False
        self.total_bytes += len(data)
        self._received += data
        return True

    def _cut(self, at_most: int) -> bool:
        """Tell complete lines, parts of endless ones; False when `at_most` were told, and more is left."""
        received, begin = self._received, 0
        told_by_another, self.telling = self.telling, True
        try:
            for _ in range(at_most):
                end = received.find(b"\n", begin)
                if end < 0 and len(received) - begin <= LINE_BYTES:
                    return True
                whole = 0 <= end - begin <= LINE_BYTES
                line_end = end if whole else begin + LINE_BYTES
                if self._budget is not None and not self._budget.take(line_end - begin):
                    begin = self._leave_out(begin)
                    return True
                if self._left_out:
                    self._on_line(self._left_out.sentence())
                line, begin = received[begin:line_end], line_end + whole
                self._tell(line)
            return received.find(b"\n", begin) < 0 and len(received) - begin <= LINE_BYTES
        finally:
            self.telling = told_by_another
            del received[:begin]

    def _leave_out(self, begin: int) -> int:
        """All that has come, but for the begin of a line that may be short; where that begins."""
        received = self._received
        end = received.rfind(b"\n", begin) + 1 or begin
        if len(received) - end > LINE_BYTES:
            end = len(received)
        self._left_out.add(received[begin:end], received.count(b"\n", begin, end))
        return end

    def _tell(self, line: bytearray | bytes) -> None:
        self._on_line(line.decode("utf-8", "backslashreplace"))

    def end_line(self) -> None:
        """Tell what has come of a line: the job that wrote it is over. Of it nothing is left to be read."""
        if self._received or self._left_out:
            self.drain(reads=0)

    def drain(self, reads: int = DRAIN_READS) -> None:
        """Tell what the runner has written so far and end a half line: the job that wrote it is over."""
        for _ in range(reads):
            if self._closed or not self._read_once():
                break
        self.telling = True
        if not self._cut(DRAIN_LINES):
            self._received = self._received[self._leave_out(0) :]
        if self._left_out:
            last = self._left_out.last_lines()
            self._on_line(self._left_out.sentence() + ("; the last of them:" if last else ""))
            for line in last:
                self._tell(line)
        if self._received:
            self._tell(self._received)
            self._received.clear()
        self.telling = False
        self._want_more()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._more is not None:
                self._more.cancel()
                self._more = None
            self._want_more()
            os.close(self._fd)
