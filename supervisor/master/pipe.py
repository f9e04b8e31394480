"""The master's end of what leads to a runner: the link of frames and the two output pipes.

Decides only where a frame or a line ends. What arrives is bytes from a stranger (I7): bounded before memory
is spent on it, typed, never unpickled. What a frame means is the dispatcher's business, whether a runner is
dead is `runners.py`'s: an end of file here is no death, and none is no life.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from sandbox.wire import FROM_RUNNER, HEADER, MAX_BODY, FrameError, Kind, frame, take_frame
from supervisor.master.budget import LeftOut, OutputBudget

READ_BYTES: Final = 64 * 1024  # above malloc's mmap threshold each read would cost two system calls more
LINE_BYTES: Final = 16 * 1024
CLOSED_FOR_S: Final = 1.0  # so long after the end of its link a process has ended too, or never will
DRAIN_READS: Final = 64  # the kernel holds less for us; a stray that goes on writing cannot hold the master
LINES_A_TURN: Final = 200  # of one pipe: a flood of short lines must not keep the loop from its renewals
DRAIN_LINES: Final = 4_000  # told at the end of a job; of what is still in the pipe the rest is counted


class LinkClosed(Exception):
    """The runner has closed its link and lives on."""

    def __init__(self) -> None:
        super().__init__("an end of file: it closed its link and went on")


class Pipe:
    """One runner's link. `on_frame(kind, body, attempt)` is called for each frame, `on_bad(error)` at
    most once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        max_body: int,
        on_frame: Callable[[Kind, bytes, int], None],
        on_bad: Callable[[Exception], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._max_body = max_body
        self._on_frame = on_frame
        self._on_bad = on_bad
        self._received = bytearray()
        self._unsent = bytearray()
        self._reading = False
        self._deaf = False
        self._closed = False
        self._ended: asyncio.TimerHandle | None = None  # the other end has closed it
        sock.setblocking(False)
        self.resume()

    def send(self, kind: Kind, body: bytes = b"", attempt: int = 0) -> bool:
        """Send one frame now, or as soon as the runner reads; False when nobody is there any more."""
        if self._closed:
            return False
        data = frame(kind, body, attempt)
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False
            if sent == len(data):
                return True
            data = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        elif len(self._unsent) > MAX_BODY and not self._deaf:
            self._on_bad(FrameError(kind, len(body)))  # it asks, and does not read what it is answered
            return False
        self._unsent += data
        return True

    def _writable(self) -> None:
        try:
            sent = self._sock.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
            sent = 0
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())

    def pause(self) -> None:
        """Stop reading: the runner then blocks on its next frame, which is the back-pressure wanted."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume(self) -> None:
        if self._reading or self._deaf or self._closed:
            return
        self._reading = True
        self._loop.add_reader(self._sock.fileno(), self._read_once)
        if self._received:
            self._loop.call_soon(self._cut)  # what had arrived before the pause

    def deafen(self) -> None:
        """Hear nothing more, whatever is said: after a bad frame nobody knows where the next one begins."""
        self.pause()
        self._deaf = True
        self._received = bytearray()

    def _read_once(self) -> bool:
        """Read what is there and hand on its frames; False when nothing was there or the other end closed."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            # The end of the link is not the end of the process, nor of its job: that is its exit. But who
            # goes on without one could never say that he is done.
            self.pause()
            if self._ended is None and not self._closed:
                self._ended = self._loop.call_later(CLOSED_FOR_S, self._still_there)
            return False
        self._received += data
        self._cut()
        return True

    def _still_there(self) -> None:
        if not (self._closed or self._deaf):
            self._on_bad(LinkClosed())

    def _cut(self, *, even_paused: bool = False) -> None:
        """Hand on the frames that are complete. Each may lead to a pause, or to the end."""
        try:
            while len(self._received) >= HEADER.size and (self._reading or even_paused) and not self._deaf:
                cut = take_frame(self._received, FROM_RUNNER, self._max_body)
                if cut is None:
                    break
                self._on_frame(*cut)
        except FrameError as error:
            self.deafen()
            self._on_bad(error)

    def drain(self) -> None:
        """Read until it would block, paused or not: what a runner said before its exit counts."""
        self._cut(even_paused=True)
        for _ in range(DRAIN_READS):
            if self._deaf or self._closed or not self._read_once():
                break
            self._cut(even_paused=True)

    def close(self) -> None:
        if not self._closed:
            self.pause()
            if self._unsent:
                self._loop.remove_writer(self._sock.fileno())
            if self._ended is not None:
                self._ended.cancel()
            self._closed = True
            self._sock.close()


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
        self._left_out = LeftOut()
        self.total_bytes = 0  # that came by it
        self._received = bytearray()
        self._paused = False
        self._ended = False
        self._closed = False
        self._more: asyncio.Handle | None = None  # lines that are complete wait for the next turn
        self._reading = False
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

    def drain(self) -> None:
        """Tell what the runner has written so far and end a half line: the job that wrote it is over."""
        for _ in range(DRAIN_READS):
            if self._closed or not self._read_once():
                break
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
        self._want_more()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            if self._more is not None:
                self._more.cancel()
                self._more = None
            self._want_more()
            os.close(self._fd)
