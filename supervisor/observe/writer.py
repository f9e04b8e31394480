"""Lines to a descriptor that may stop taking them.

A log goes to a pipe more often than not, and a reader of a pipe may stop reading: a pager, a service manager
that is itself stuck. The master must not stop with it, or its locks run out and its jobs are run twice. So a
line that would block waits in memory, and when there are too many the oldest are dropped and counted. Before
it comes to that it says that it is `crowded`.

The descriptor is never made non-blocking: that flag belongs to everybody who shares it.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TextIO

Later = Callable[[], None]

GATHERED_AFTER_S: Final = 0.002  # a line that follows another so soon waits for those of its turn
AGAIN_S: Final = 0.02  # what waits is tried again, whether more is said or not

PIECE: Final = select.PIPE_BUF  # a pipe that is ready takes so many bytes without blocking
MAX_WAITING_BYTES: Final = 1024 * 1024


class LineWriter:
    """Writes whole lines, in order, without ever blocking but in `flush`. For one thread."""

    def __init__(
        self,
        fd: int,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        soon: Callable[[Later], object] | None = None,
        later: Callable[[float, Later], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`soon` calls a function in the loop's next turn; without it every line goes out at once, with it
        only one that comes alone. `later` calls one after so many seconds; without it what waits goes out
        before the next line."""
        self._fd = fd
        self._max = max_waiting_bytes
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._waiting: deque[bytes] = deque()  # the first may be the rest of a line
        self._waiting_bytes = 0
        self._torn = False  # the first is such a rest, and must not be dropped
        self._scheduled = False
        self._clock = clock
        self._tried_at = -GATHERED_AFTER_S
        self.dropped = 0
        self.soon = soon
        self._later = later
        self._again = False  # it is to be tried again

    def write(self, line: bytes) -> None:
        """Write `line` (without its end) now, at the end of the turn, or keep it for the next time."""
        self._waiting.append(line + b"\n")
        self._waiting_bytes += len(line) + 1
        if self._scheduled:
            return
        if self.soon is None or self._clock() - self._tried_at >= GATHERED_AFTER_S:
            self._write_what_is_taken()
        else:
            self._scheduled = True
            self.soon(self._write_what_is_taken)

    def _write_what_is_taken(self) -> None:
        self._scheduled = False
        self._tried_at = self._clock()
        while self._waiting and self._ready() and self._write_piece():
            pass
        if self._waiting and self._later is not None and not self._again:
            self._again = True
            self._later(AGAIN_S, self._try_again)
        while self._waiting_bytes > self._max and len(self._waiting) > 1 + self._torn:
            self._drop()

    def _try_again(self) -> None:
        self._again = False
        self._write_what_is_taken()

    def crowded(self) -> bool:
        """Half of what may wait does: who says much of little weight is to be silent until it is less."""
        if self._waiting_bytes > self._max // 2:
            self._write_what_is_taken()
        return self._waiting_bytes > self._max // 2

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
        piece = self._next_piece()
        try:
            written = os.write(self._fd, piece)
        except BlockingIOError:  # somebody else made the descriptor non-blocking
            return False
        except OSError:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._torn = False
            return False
        self._waiting_bytes -= written
        while self._waiting and written >= len(self._waiting[0]):
            written -= len(self._waiting.popleft())
        self._torn = written > 0
        if self._torn:
            self._waiting[0] = self._waiting[0][written:]
        return True

    def _next_piece(self) -> bytes:
        """As many whole lines as a ready pipe takes without blocking, or the beginning of a longer one."""
        first = self._waiting[0]
        if len(first) >= PIECE or len(self._waiting) == 1:
            return first[:PIECE]
        lines, size = [], 0
        for line in self._waiting:
            size += len(line)
            if size > PIECE:
                break
            lines.append(line)
        return b"".join(lines)

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

    def crowded(self) -> bool:
        return False

    def write(self, line: bytes) -> None:
        if not self._stream.closed:
            self._stream.write(line.decode("utf-8", "backslashreplace") + "\n")

    debug = info = warning = error = critical = msg = write

    def flush(self) -> None:
        if not self._stream.closed:
            self._stream.flush()


def writer_for(
    stream: TextIO,
    soon: Callable[[Later], object] | None,
    later: Callable[[float, Later], object] | None,
) -> LineWriter | StreamWriter:
    try:
        return LineWriter(stream.fileno(), soon=soon, later=later)
    except OSError:  # io.UnsupportedOperation among them
        return StreamWriter(stream)
