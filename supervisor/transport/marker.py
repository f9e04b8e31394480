"""Waiting for work: the blocking pop on a queue's marker, on a connection of its own.

It decides how long to block and when a silent connection is given up. What a score means, and what to fetch,
the fetcher decides. No answer is no error here: a Redis that is away costs time, and then `wait` says None.

A command may be sent in one write with the pop: the server runs it as soon as the pop is over, and who waited
is woken once, with both replies, and not twice.

Reads    the socket, `clock` and `rng` as passed in
Tells    `on_state(connected, why)` at each loss and each return
Rule     one waits at a time; a pop whose reply was lost may have eaten the marker, so `wait` returns at once
         after a reconnect, and the fetcher fetches. What was sent behind a pop and got no reply may have run:
         its sender is told on which connection, and sends no other before that is settled
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import hiredis

from supervisor import lua
from supervisor.errors import RedisRefused, RedisUnavailable, WrongReply
from supervisor.protocol.commands.base import Reply, ScriptCommand
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import DID_NOT_RUN, GONE_ELSEWHERE, explained, pause_s, word_of
from supervisor.transport.call import decoded
from supervisor.transport.link import Asked, ConnectionLost
from supervisor.transport.opening import Opened, open_link
from supervisor.transport.requests import Scripts, pack, pack_script

T = TypeVar("T")

MARGIN_S: Final = 2.0  # the server wakes its blocked clients ten times a second; a slow script may add to it
_SHORTEST_S: Final = 0.001
_SHORTEST_BEFORE_7_0_8_S: Final = 0.002  # shorter ones were rounded to 0 there, which blocks for ever
_UNBLOCKED: Final = "UNBLOCKED"
_CLOCK_FOR_S: Final = 60.0  # then the server is asked again what time it is


class Behind(Generic[T]):
    """A command that is to run at the server right after a pop, whatever that brought.

    make      called right before it is sent, with the server's clock in epoch microseconds.
    ran       called with what it came to, as soon as that is here: before `wait` returns.
    command   what was sent; None: nothing was.
    result    what it came to; None when it did not run: not sent, or refused. The next one of its kind that
              is sent in the common way learns why, and makes its script known where it is not.
    lost_on   the connection on which its reply was lost: it ran or not.
    """

    def __init__(self, make: Callable[[int], ScriptCommand[T]], ran: Callable[[T], None]) -> None:
        self.make = make
        self.ran = ran
        self.command: ScriptCommand[T] | None = None
        self.result: T | None = None
        self.lost_on: Opened | None = None


class MarkerWaiter:
    """Waits on one queue's marker. Connects by itself when it is first used.

    reconnects   how often the connection was opened again.
    warning      the sentence about a client name that Redis refused, else None.
    """

    def __init__(
        self,
        address: Address,
        *,
        client_name: str | None = None,
        connect_timeout_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
        on_state: Callable[[bool, str], None] | None = None,
    ) -> None:
        self.address = address
        self.reconnects = 0
        self.warning: str | None = None
        self._client_name = client_name
        self._connect_timeout_s = connect_timeout_s
        self._clock = clock
        self._rng = rng
        self._on_state = on_state
        self._opened: Opened | None = None
        self._ever_opened = False
        self._heard: tuple[Place, ...] = ()
        self._failures = 0
        self._waits: asyncio.Timeout | None = None
        self._scripts = Scripts(lua.source, address.guard)
        self._asked_at = -math.inf  # when the server was asked what time it is, on this connection
        self._server_us = 0.0  # what it said, less our clock then

    @property
    def connected(self) -> bool:
        return self._opened is not None and self._opened.link.usable

    async def wait(self, key: str, timeout_s: float, behind: Behind[T] | None = None) -> float | None:
        """The score of the marker popped from `key`; None when there was none in time, or we cannot know.

        behind   sent in the same write; afterwards it says what became of it, however this ends.

        None comes early after `interrupt()`, and after a reconnect. While Redis is away it comes at the end
        of the time. Raises `RedisRefused` for an error that waiting does not cure.
        """
        if self._waits is not None:
            raise RuntimeError("a marker waiter waits once at a time")
        try:
            async with asyncio.timeout(None) as self._waits:
                return await self._wait(key, self._clock() + timeout_s, behind)
        except (TimeoutError, asyncio.CancelledError) as error:
            self._drop("the wait was interrupted")  # its reply would be taken for the next one's
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        finally:
            self._waits = None

    def interrupt(self) -> None:
        """Make the present `wait`, if any, return None at once. A marker it was about to pop may be lost."""
        if self._waits is not None and not self._waits.expired():
            self._waits.reschedule(0.0)

    async def close(self) -> None:
        self.interrupt()
        self._drop("closed")
        await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop

    async def _wait(self, key: str, until: float, behind: Behind[T] | None) -> float | None:
        while True:
            opened = await self._connected(until)
            if opened is None:
                return None
            if self._failures:  # we are back: whoever waits should look first
                self._failures = 0
                return None
            if behind is not None:
                try:
                    if not await self._knows_the_time(opened):
                        behind = None
                except (TimeoutError, ConnectionLost) as error:
                    self._fail(str(error) or "Redis did not tell the time")
                    continue
            left_s = until - self._clock()
            shortest_s = _SHORTEST_S if opened.server.version >= (7, 0, 8) else _SHORTEST_BEFORE_7_0_8_S
            block_s = max(shortest_s, math.floor(left_s * 1000) / 1000)
            try:
                async with asyncio.timeout(block_s + MARGIN_S):
                    reply = await self._pop(opened, key, block_s, behind)
            except (TimeoutError, ConnectionLost) as error:
                self._fail(str(error) or f"Redis did not answer a pop of {block_s:g} s")
                if behind is not None and behind.lost_on is not None:
                    return None
                continue
            if not isinstance(reply, hiredis.ReplyError):
                return _score(reply)
            self._judge(str(reply))
            if behind is not None and behind.result is not None:
                return None
            await asyncio.sleep(min(max(until - self._clock(), 0.0), self._pause_s()))

    async def _pop(self, opened: Opened, key: str, block_s: float, behind: Behind[T] | None) -> Reply:
        pop = ("BZPOPMIN", key, f"{block_s:.3f}")
        if behind is None:
            return await opened.link.ask(*pop)
        command = behind.make(round(self._server_us + self._clock() * 1e6))
        request = pack(pop) + pack_script(self._scripts.get(command.script), command)
        asked = _Both(asyncio.get_running_loop().create_future(), behind)
        behind.command = command
        try:
            opened.link.send(request, asked, now=True)
            return (await asked.future)[0]
        except ConnectionLost as lost:
            behind.lost_on = opened if lost.sent else None
            raise
        except asyncio.CancelledError:
            if asked.left:
                behind.lost_on = opened
            raise

    async def _knows_the_time(self, opened: Opened) -> bool:
        """What the server's clock says was asked not long ago. False when it does not tell this user.

        Taken as told when the answer is here: a time that is derived from it is rather later than the true
        one than earlier, by the way of the answer.
        """
        if self._clock() - self._asked_at < _CLOCK_FOR_S:
            return True
        async with asyncio.timeout(MARGIN_S):
            told = await opened.link.ask("TIME")
        if not isinstance(told, list):
            return False
        self._asked_at = self._clock()
        self._server_us = int(told[0]) * 1e6 + int(told[1]) - self._asked_at * 1e6
        return True

    async def _connected(self, until: float) -> Opened | None:
        """The connection, opened when there is none; None when the time is over first."""
        while not self.connected:
            if self._opened is not None:
                self._fail("Redis closed the connection")
            left_s = until - self._clock()
            if left_s <= 0:
                return None
            try:
                opened = await open_link(
                    self.address,
                    client_name=self._client_name,
                    connect_timeout_s=min(self._connect_timeout_s, max(left_s, 0.1)),
                    reply_timeout_s=None,
                    heard=self._heard,
                )
            except RedisUnavailable as error:
                self._fail(str(error))
                await asyncio.sleep(min(max(until - self._clock(), 0.0), self._pause_s()))
                continue
            self._opened = opened
            self._heard = opened.found.heard
            self.warning = opened.warning
            if self._ever_opened:
                self.reconnects += 1
                if self._on_state is not None:
                    self._on_state(True, f"connected again to {self.address}")
            self._ever_opened = True
        return self._opened

    def _judge(self, text: str) -> None:
        """An error reply: go on after a pause, on a new connection where that may help; else raise it."""
        word = word_of(text)
        if word in GONE_ELSEWHERE or word in (_UNBLOCKED, "NOAUTH"):
            self._fail(text)
        elif word in DID_NOT_RUN:
            self._failures += 1
        else:
            raise RedisRefused(explained(text))

    def _pause_s(self) -> float:
        return pause_s(max(self._failures - 1, 0), self._rng())

    def _fail(self, why: str) -> None:
        self._failures += 1
        if self._opened is not None:
            self._drop(why)
            if self._on_state is not None:
                self._on_state(False, why)

    def _drop(self, why: str) -> None:
        opened, self._opened = self._opened, None
        self._asked_at = -math.inf
        if opened is not None:
            opened.link.abort(why)


class _Both(Asked):
    """The reply to a pop, and that to what was sent behind it."""

    __slots__ = ("_behind",)

    def __init__(self, future: asyncio.Future[list[Reply]], behind: Behind[Any]) -> None:
        super().__init__(future, 2)
        self._behind = behind

    def take(self, reply: Reply) -> bool:
        last = super().take(reply)
        behind = self._behind
        if last and behind.command is not None and not isinstance(reply, hiredis.ReplyError):
            behind.result = decoded(behind.command, reply)
            behind.ran(behind.result)
        return last


def _score(reply: object) -> float | None:
    if reply is None:
        return None
    if isinstance(reply, list) and len(reply) == 3:
        try:
            return float(reply[2])
        except (TypeError, ValueError):
            pass
    raise WrongReply(f"the reply to BZPOPMIN cannot be read: {reply!r:.300}")
