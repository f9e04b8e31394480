"""Lines to a descriptor that may stop taking them.

A log goes to a pipe more often than not, and a reader of a pipe may stop reading: a pager, a service manager
that is itself stuck. The master must not stop with it, or its locks run out and its jobs are run twice. So a
line that would block waits in memory, and when there are too many the oldest are dropped and counted.

The descriptor is never made non-blocking: that flag belongs to everybody who shares it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

PIECE: Final = select.PIPE_BUF  # a pipe that is ready takes so many bytes without blocking
MAX_WAITING_BYTES: Final = 1024 * 1024


class LineWriter:
    """Writes whole lines, in order, without ever blocking but in `flush`. For one thread."""

    def __init__(self, fd: int, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._fd = fd
        self._max = max_waiting_bytes
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()  # the first may be the rest of a line
        self._waiting_bytes = 0
        self._torn = False  # the first is such a rest, and must not be dropped
        self.dropped = 0

    def write(self, line: bytes) -> None:
        """Write `line` (without its end) now, or keep it for the next time."""
        self._waiting.append(line + b"\n")
        self._waiting_bytes += len(line) + 1
        while self._waiting and self._ready():
            if not self._write_piece():
                return
        while self._waiting_bytes > self._max and len(self._waiting) > 1 + self._torn:
            self._drop()

    # What structlog calls on the object it logs to.
    debug = info = warning = error = critical = msg = write

    def flush(self, within_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Write what waits, blocking for at most so long. For the end of the process."""
        until = clock() + within_s
        while self._waiting and (left := until - clock()) > 0:
            if not self._ready(left) or not self._write_piece():
                return

    def _ready(self, within_s: float = 0) -> bool:
        return bool(self._poll.poll(within_s * 1000))

    def _write_piece(self) -> bool:
        """False when the reader is gone; what waits is dropped then."""
        first = self._waiting[0]
        try:
            written = os.write(self._fd, first[:PIECE])
        except BlockingIOError:  # somebody else made the descriptor non-blocking
            return False
        except OSError:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._torn = False
            return False
        self._waiting_bytes -= written
        if written == len(first):
            self._waiting.popleft()
            self._torn = False
        else:
            self._waiting[0] = first[written:]
            self._torn = True
        return True

    def _drop(self) -> None:
        """Drop the oldest whole line."""
        line = self._waiting[int(self._torn)]
        del self._waiting[int(self._torn)]
        self._waiting_bytes -= len(line)
        self.dropped += 1


class StreamWriter:
    """The same face for a stream without a descriptor, as tests have. It cannot block."""

    dropped = 0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: bytes) -> None:
        if not self._stream.closed:
            self._stream.write(line.decode("utf-8", "backslashreplace") + "\n")

    debug = info = warning = error = critical = msg = write

    def flush(self) -> None:
        if not self._stream.closed:
            self._stream.flush()


def writer_for(stream: TextIO) -> LineWriter | StreamWriter:
    try:
        return LineWriter(stream.fileno())
    except OSError:  # io.UnsupportedOperation among them
        return StreamWriter(stream)
