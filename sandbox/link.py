"""The runner's end of the link: whole frames in, whole frames out.

It is the `Channel` of the jobs this runner is given. It decides nothing about jobs; it knows which frames may
come while a processor runs (CANCEL, ANSWER) and keeps any other for the loop.

Rule     a frame is never left half sent or half read by the soft time limit or a cancel: sending and taking
         in are shielded, only waiting is not (alarm.py).
"""

from __future__ import annotations

import _thread
import os
import select
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from sandbox import codec, wire
from sandbox.alarm import Shield
from sandbox.errors import AskFailed
from sandbox.jobdir import Home
from sandbox.wire import START_META, Kind

CHUNK_BYTES = 64 * 1024


def cut_start(body: bytes) -> tuple[dict[str, Any], bytes]:
    """What a START frame says of the job, and its data as they came."""
    (length,) = START_META.unpack_from(body)
    end = START_META.size + length
    meta: dict[str, Any] = codec.decode(body[START_META.size : end])
    return meta, body[end:]


def _no_notice(value: Any) -> None:
    return None


class Link:
    """One stream socket to the master.

    on_progress   told of each progress value that was really sent (for the process title).
    home          the directory of its jobs.
    """

    def __init__(self, sock: socket.socket, shield: Shield) -> None:
        self.on_progress: Callable[[Any], None] = _no_notice
        self.home = Home("")
        self._sock = sock
        self._shield = shield
        self._pid = os.getpid()
        self._buffer = bytearray()
        self._kept: deque[wire.Frame] = deque()
        self._sending = _thread.allocate_lock()
        self._reading = _thread.allocate_lock()
        self._seq = 0
        self._answer: dict[str, Any] | None = None
        self._attempt = 0  # of the job at work
        self._before = b""  # goes out with the next frame
        self._cancel_reason: str | None = None
        self._asker = 0  # the thread that waits for an answer
        self._poll: select.poll | None = None  # of who has asked

    # --- the loop's side ---

    def next_frame(self) -> wire.Frame | None:
        """Wait for the next frame; None when the master has closed the link."""
        if self._kept:
            return self._kept.popleft()
        while (found := wire.take_frame(self._buffer, wire.TO_RUNNER)) is None:
            data = self._sock.recv(CHUNK_BYTES)
            if not data:
                return None
            self._buffer += data
        return found

    def start_job(self, attempt: int) -> None:
        """From now on this is the job that is spoken for; what belonged to the one before is forgotten."""
        self._attempt = attempt
        self._cancel_reason = None

    def send(self, kind: Kind, body: bytes, note: int = 0) -> None:
        # A process forked by the processor has a copy of the link and must not speak on it.
        if os.getpid() != self._pid:
            raise RuntimeError("only the process that was given the job may speak for it, not one it forked")
        whole = wire.frame(kind, body, self._attempt, note)
        try:
            with self._sending, self._shield:
                whole, self._before = self._before + whole, b""
                self._sock.sendall(whole)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the master has gone: nobody is left to work for

    def send_before(self, kind: Kind, body: bytes) -> None:
        """With the frame that is sent next and in front of it: two writes would wake the master twice."""
        self._before += wire.frame(kind, body, self._attempt)

    def hand_over(self) -> tuple[socket.socket, bytes]:
        """The socket, and what was read of it beyond GO: another reads and writes it from now on."""
        return self._sock, bytes(self._buffer)

    # --- the job's side: Channel ---

    def progress(self, encoded: bytes, value: Any) -> None:
        self.send(Kind.PROGRESS, encoded)
        self.on_progress(value)

    def log(self, text: bytes) -> None:
        self.send(Kind.LOG, text)

    def data(self, encoded: bytes) -> None:
        self.send(Kind.DATA, encoded)

    def cancel_reason(self) -> str | None:
        """Why the job at work is cancelled, as far as the link tells now; None when it is not."""
        if self._cancel_reason is None:
            # The shield stands outside: an alarm between acquiring and `try` would keep the lock for ever.
            with self._shield:
                if self._reading.acquire(blocking=False):
                    try:
                        self._take_in()
                    finally:
                        self._reading.release()
                elif self._asker == _thread.get_ident():
                    self._take_in()  # from a signal handler, while this very thread waits for an answer
        return self._cancel_reason

    def directory(self) -> str:
        return self.home.directory()

    def ask(self, what: str, arguments: dict[str, Any]) -> Any:
        """Ask the master and wait for the answer. One question at a time."""
        with self._reading:
            self._asker = _thread.get_ident()
            self._seq += 1
            self._answer = None
            self.send(Kind.ASK, codec.encode({"seq": self._seq, "what": what, **arguments}))
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self._sock, select.POLLIN)
            while self._answer is None:
                self._poll.poll()
                with self._shield:
                    self._take_in()
            answer = self._answer
        if "error" in answer:
            raise AskFailed(f"job.{what}: {answer['error']}")
        return answer.get("value")

    def _take_in(self) -> None:
        """Read what is there, without waiting. Shielded by the caller."""
        try:
            data = self._sock.recv(CHUNK_BYTES, socket.MSG_DONTWAIT)
            if not data:
                os._exit(0)
            self._buffer += data
        except BlockingIOError:
            pass  # a frame may have come in one piece with the START
        while (found := wire.take_frame(self._buffer, wire.TO_RUNNER)) is not None:
            self._sort(*found)

    def _sort(self, kind: Kind, body: bytes, attempt: int, note: int) -> None:
        if kind is Kind.CANCEL:
            if attempt == self._attempt and self._cancel_reason is None:  # an older one may come late
                self._cancel_reason = str(codec.decode(body).get("reason") or "cancelled")
        elif kind is Kind.ANSWER:
            answer: dict[str, Any] = codec.decode(body)
            # An older one belongs to a question that the time limit cut off.
            if answer.get("seq") == self._seq:
                self._answer = answer
        else:
            self._kept.append((kind, body, attempt, note))
