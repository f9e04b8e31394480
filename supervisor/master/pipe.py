"""The master's end of the link to a runner, and the making of all that leads to it.

Decides only where a frame ends. What arrives is bytes from a stranger (I7): bounded before memory
is spent on it, typed, never unpickled. What a frame means is the dispatcher's business, whether a runner is
dead is `runners.py`'s: an end of file here is no death, and none is no life.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from sandbox.wire import FROM_RUNNER, HEADER, MAX_BODY, FrameError, Kind, frame, take_frame
from supervisor.master.ahead import Permits

READ_BYTES: Final = 64 * 1024  # above malloc's mmap threshold each read would cost two system calls more
CLOSED_FOR_S: Final = 1.0  # so long after the end of its link a process has ended too, or never will
FULL_BYTES: Final = 64 * 1024  # put, and not sent yet: the next job goes elsewhere
DRAIN_READS: Final = 64  # the kernel holds less for us; a stray that goes on writing cannot hold the master


class LinkClosed(Exception):
    """The runner has closed its link and lives on."""

    def __init__(self) -> None:
        super().__init__("an end of file: it closed its link and went on")


class Pipe:
    """One runner's link. `on_frame(kind, body, attempt, note)` is called for each frame, `on_bad(error)` at
    most once.

    permits   for jobs that are sent ahead by it; None: none are.
    full      so much is to be sent that no further job is to be sent ahead: their data wait in our memory.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        max_body: int,
        on_frame: Callable[[Kind, bytes, int, int], None],
        on_bad: Callable[[Exception], None],
        permits: Permits | None = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._max_body = max_body
        self._on_frame = on_frame
        self._on_bad = on_bad
        self.permits = permits
        self.full = False
        self._ahead: list[bytes] = []  # frames of jobs to be sent ahead
        self._ahead_bytes = 0
        self._received = bytearray()
        self._unsent = bytearray()
        self._reading = False
        self._cutting = False
        self._deaf = False
        self._closed = False
        self._ended: asyncio.TimerHandle | None = None  # the other end has closed it
        sock.setblocking(False)
        self.resume()

    def send(self, kind: Kind, body: bytes = b"", attempt: int = 0) -> bool:
        """Send one frame now, or as soon as the runner reads; False when nobody is there any more."""
        if self._closed:
            return False
        return self._write(frame(kind, body, attempt))

    def put(self, body: bytes, attempt: int) -> None:
        """A job to be sent ahead, with the next `flush`."""
        self._ahead.append(frame(Kind.NEXT, body, attempt))
        self._ahead_bytes += len(body)
        self.full = self.full or self._ahead_bytes > FULL_BYTES

    def flush(self) -> None:
        """Send what was put, in one write. Who is dead by now has begun none of it: its permits tell."""
        ahead, self._ahead, self._ahead_bytes = self._ahead, [], 0
        if not ahead or self.permits is None or self._closed:
            return
        try:
            self.permits.grant(len(ahead))  # first: who finds a job without a permit skips it
        except OSError as error:
            if not self._deaf:
                self._on_bad(error)
            return
        self._write(b"".join(ahead))
        self.full = bool(self._unsent)

    def _write(self, data: bytes) -> bool:
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
            self._on_bad(FrameError(data[0], len(data)))  # it asks, and does not read what it is answered
            return False
        self._unsent += data
        self.full = True
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
            self.full = False
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

    def look(self) -> None:
        """Hand on all that has been said by now. Not from within a frame: the next one waits for its end."""
        for _ in range(DRAIN_READS):
            if not self._reading or self._cutting or not self._read_once():
                break

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
        self._cutting = True
        try:
            while len(self._received) >= HEADER.size and (self._reading or even_paused) and not self._deaf:
                cut = take_frame(self._received, FROM_RUNNER, self._max_body)
                if cut is None:
                    break
                self._on_frame(*cut)
        except FrameError as error:
            self.deafen()
            self._on_bad(error)
        finally:
            self._cutting = False

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
            if self.permits is not None:
                self.permits.close()
