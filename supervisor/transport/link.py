"""One connection to Redis that pipelines by itself.

Whatever is sent during one turn of the event loop goes out in one write; replies are matched to requests by
their order. It decides when a connection is broken and what of it may have run. It knows no scripts, does not
connect again and repeats nothing: `aio` does.

Reads    the socket; the loop's clock
Rule     a request counts as sent from the moment it was offered to the kernel. Only what never was is lost
         with `sent=False`: claiming it for more would let a caller run something twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import hiredis

from supervisor.errors import RedisUnavailable
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.transport.requests import pack

HIGH_WATER: Final = (
    8_192  # requests without a reply; beyond it requests wait here, and `room()` makes callers wait
)
_READ_BYTES: Final = 64 * 1024  # a buffer of our own: asyncio's are made anew for each read, by mmap
_WRITE_BYTES: Final = 256 * 1024  # requests are joined up to about this much for one write
_NOTHING: Final = object()


class ConnectionLost(RedisUnavailable):
    """The connection ended before the reply. `sent` is False only if the request never left this process."""


class Pending(Protocol):
    """Who waits for the replies to one request (or to several that were packed together)."""

    @property
    def abandoned(self) -> bool:
        """Nobody waits any more: not sent if it was not yet, its replies dropped if it was."""

    @property
    def at_once(self) -> bool:
        """Whoever waits is told while the reply is read, and not in a later turn of the loop."""

    def take(self, reply: Reply) -> bool:
        """One reply. True when it was the last."""

    def lose(self, lost: ConnectionLost) -> None:
        """No reply will come."""


class Link(asyncio.BufferedProtocol):
    """One open connection. Made by `connect`.

    reply_timeout_s   silence for so long while a reply is due means broken; None: wait for ever.
    """

    def __init__(self, *, reply_timeout_s: float | None, high_water: int = HIGH_WATER) -> None:
        self._loop = asyncio.get_running_loop()
        self._reply_timeout_s = reply_timeout_s
        self._high_water = high_water
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._read = bytearray(_READ_BYTES)
        self._outbox: deque[tuple[bytes, Pending]] = deque()
        self._in_flight: deque[Pending] = deque()
        self._room_waiters: list[asyncio.Future[None]] = []
        self._flush_due = False
        self._paused = False
        self._retiring = False
        self._heard_at = 0.0  # or, if later, when something became due
        self.answered_at = 0.0
        """Loop time of the last bytes that came; 0 for never."""
        self._watch: asyncio.TimerHandle | None = None
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Resolves to the reason once the connection has ended."""
        self.on_lost: Callable[[Link, str], None] | None = None
        """Called at the end, before the waiting requests are told."""
        self._on_push: Callable[[Reply], None] | None = None
        self.unanswered = 0
        """Requests that were sent and whose reply was lost with the connection."""

    # --- for the owner ---------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """New requests are taken."""
        return not self._retiring and not self.lost.done()

    @property
    def idle(self) -> bool:
        """Nothing is under way."""
        return not self._outbox and not self._in_flight

    @property
    def in_order(self) -> bool:
        """Would the next who is told at once be told after all whose replies come before?"""
        last = self._outbox[-1][1] if self._outbox else self._in_flight[-1] if self._in_flight else None
        return last is None or last.at_once

    def send(self, request: bytes, pending: Pending, *, now: bool = False) -> None:
        """Queue a packed request. It is written at the end of this turn of the loop; or `now`, with what was
        queued before it.
        """
        if not self.usable:
            pending.lose(ConnectionLost("the connection is closed", sent=False))
            return
        self._outbox.append((request, pending))
        if now:
            self._flush()
        elif not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush_at_the_end)

    async def ask(self, *request: Arg) -> Reply:
        """One plain request on its own. An error reply is returned, not raised."""
        return (await self.ask_all([request]))[0]

    async def ask_all(self, requests: Sequence[Sequence[Arg]]) -> list[Reply]:
        """Plain requests in one write. Error replies are returned, not raised."""
        asked = Asked(self._loop.create_future(), len(requests))
        self.send(b"".join(pack(request) for request in requests), asked)
        return await asked.future

    def listen(self, on_push: Callable[[Reply], None]) -> None:
        """From now on nothing is asked here, and whatever arrives is told to `on_push`: a subscription."""
        self._on_push = on_push

    def write(self, request: bytes) -> None:
        """Send what nobody waits for the reply of; for who listens."""
        if self._transport is not None and self.usable:
            self._transport.write(request)

    async def room(self) -> None:
        """Return when a request would not have to wait for others first."""
        while len(self._in_flight) + len(self._outbox) >= self._high_water and self.usable:
            waiter = self._loop.create_future()
            self._room_waiters.append(waiter)
            await waiter

    def retire(self, reason: str) -> None:
        """Take nothing new, wait for the replies that are due, then close."""
        if not self.usable:
            return
        self._retiring = True
        self._lose_unsent(reason)
        if not self._in_flight:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        """End the connection now. Everything that waits is told; calling it twice is harmless."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        lost, self._in_flight = self._in_flight, deque()
        self.unanswered = len(lost)
        if self.on_lost is not None:
            self.on_lost(self, reason)
        for pending in lost:
            pending.lose(ConnectionLost(reason, sent=True))
        self._lose_unsent(reason)
        self._wake_waiters()

    # --- called by asyncio -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self.abort(f"the connection broke ({error})" if error else "Redis closed the connection")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._flush()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        self._heard_at = self._loop.time()
        self.answered_at = self._heard_at
        self._reader.feed(self._read, 0, nbytes)  # type: ignore[arg-type]  # any buffer, says its C
        while (reply := self._next_reply()) is not _NOTHING:
            if self._on_push is not None:
                self._on_push(reply)
                continue
            if not self._in_flight:
                self.abort(f"Redis said, unasked: {reply}")
                return
            # The last reply is taken off before it is handed on: whatever `take` does, the order stays right.
            pending = self._in_flight.popleft()
            if not pending.take(reply):
                self._in_flight.appendleft(pending)
        if self._retiring and not self._in_flight:
            self.abort("retired")
        elif self._outbox and not self._flush_due:
            self._flush()
        if self._room_waiters and len(self._in_flight) + len(self._outbox) < self._high_water:
            self._wake_waiters()

    # --- inside ----------------------------------------------------------------------------------------

    def _next_reply(self) -> Any:
        if self.lost.done():
            return _NOTHING
        try:
            return self._reader.gets()
        except hiredis.ProtocolError as error:
            self.abort(f"what answers does not speak Redis' protocol ({error})")
            return _NOTHING

    def _flush_at_the_end(self) -> None:
        self._flush_due = False
        if self._outbox:
            self._flush()

    def _flush(self) -> None:
        was_idle = not self._in_flight
        while self._outbox and not self._paused and self._transport is not None:
            parts: list[bytes] = []
            size = 0
            while self._outbox and size < _WRITE_BYTES and len(self._in_flight) < self._high_water:
                request, pending = self._outbox.popleft()
                if not pending.abandoned:
                    parts.append(request)
                    size += len(request)
                    self._in_flight.append(pending)
            if not parts:
                break
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if was_idle and self._in_flight:
            self._heard_at = self._loop.time()
            if self._watch is None and self._reply_timeout_s is not None:
                self._watch = self._loop.call_later(self._reply_timeout_s, self._judge_silence)

    def _judge_silence(self) -> None:
        """Bytes that wait in the socket are read before timers run, so a busy process is no silent Redis."""
        assert self._reply_timeout_s is not None
        self._watch = None
        if not self._in_flight:
            return
        left_s = self._heard_at + self._reply_timeout_s - self._loop.time()
        if left_s <= 0:
            self.abort(f"Redis did not answer for {self._reply_timeout_s:g} s")
        else:
            self._watch = self._loop.call_later(left_s, self._judge_silence)

    def _lose_unsent(self, reason: str) -> None:
        unsent, self._outbox = self._outbox, deque()
        for _, pending in unsent:
            pending.lose(ConnectionLost(reason, sent=False))

    def _wake_waiters(self) -> None:
        waiters, self._room_waiters = self._room_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Asked:
    """Plain requests and the future of their replies."""

    __slots__ = ("future", "left", "replies")

    at_once = False

    def __init__(self, future: asyncio.Future[list[Reply]], count: int) -> None:
        self.future = future
        self.left = count
        self.replies: list[Reply] = []

    @property
    def abandoned(self) -> bool:
        return self.future.done()

    def take(self, reply: Reply) -> bool:
        self.replies.append(reply)
        self.left -= 1
        if self.left == 0 and not self.future.done():
            self.future.set_result(self.replies)
        return self.left == 0

    def lose(self, lost: ConnectionLost) -> None:
        if not self.future.done():
            self.future.set_exception(lost)
