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

from sandbox.wire import FROM_RUNNER, HEADER, FrameError, Kind, frame, take_frame

READ_BYTES = 64 * 1024  # above malloc's mmap threshold each read would cost two system calls more
LINE_BYTES = 16 * 1024


class Pipe:
    """One runner's link. `on_frame(kind, body)` is called for each frame, `on_bad(error)` at most once."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        max_body: int,
        on_frame: Callable[[Kind, bytes], None],
        on_bad: Callable[[FrameError], None],
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._max_body = max_body
        self._on_frame = on_frame
        self._on_bad = on_bad
        self._received = bytearray()
        self._unsent = bytearray()
        self._reading = False
        self._closed = False
        sock.setblocking(False)
        self.resume()

    def send(self, kind: Kind, body: bytes = b"") -> None:
        """Send one frame now, or as soon as the runner reads. A vanished runner is noticed by its exit."""
        if self._closed:
            return
        data = frame(kind, body)
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._unsent += data

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
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._readable)

    def _readable(self) -> None:
        self._read_once()

    def _read_once(self) -> bool:
        """Read what is there and hand on its frames; False when nothing was there or the other end closed."""
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            # Closed by the runner, which may go on living: only its exit or a deadline ends its job.
            self.pause()
            return False
        received = self._received
        received += data
        try:
            while len(received) >= HEADER.size and not self._closed:
                cut = take_frame(received, FROM_RUNNER, self._max_body)
                if cut is None:
                    break
                self._on_frame(*cut)
        except FrameError as error:
            self.pause()
            self._received = bytearray()
            self._on_bad(error)
            return False
        return True

    def drain(self) -> None:
        """Read until it would block: what a runner said before its exit counts."""
        while not self._closed and self._read_once():
            pass

    def close(self) -> None:
        if not self._closed:
            self.pause()
            if self._unsent:
                self._loop.remove_writer(self._sock.fileno())
            self._closed = True
            self._sock.close()


class OutputPipe:
    """stdout or stderr of one runner, cut into lines of at most 16 KiB; `on_line(text)` for each."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, on_line: Callable[[str], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_line = on_line
        self._rest = b""
        self._closed = False
        os.set_blocking(fd, False)
        loop.add_reader(fd, self._read_once)

    def _read_once(self) -> bool:
        try:
            data = os.read(self._fd, 65536)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._fd)
            return False
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(rest) > LINE_BYTES:
            self._tell(rest[:LINE_BYTES])
            rest = rest[LINE_BYTES:]
        self._rest = rest
        return True

    def _tell(self, line: bytes) -> None:
        self._on_line(line[:LINE_BYTES].decode("utf-8", "backslashreplace"))

    def drain(self, at_most: int = 64) -> None:
        """Read what the runner has written so far and end a half line: the job that wrote it is over.

        `at_most` reads (64 KiB each), so that a stray which keeps writing cannot hold the master.
        """
        for _ in range(at_most):
            if self._closed or not self._read_once():
                break
        if self._rest:
            rest, self._rest = self._rest, b""
            self._tell(rest)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
