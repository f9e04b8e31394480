"""The one connection that calls travel on, opened again for ever when it breaks.

It decides when to connect again and sees to it that nothing sent on a lost connection can still run once
there is a new one. What becomes of the calls, `aio` decides.

Tells    `on_state(connected, why)` at each loss and each return
Rule     `up` is set only after the lost connections with replies due were killed from the new one, or Redis
         refused that: then their `sealed` stays False and nothing of theirs may be repeated
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

import msgspec

from supervisor.errors import RedisUnavailable
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import pause_s
from supervisor.transport.finding import FailingOver, LoginRefused
from supervisor.transport.link import Link
from supervisor.transport.opening import Opened, kill, open_link

_RETIRE_EVERY_S = 1.0


class Settings(msgspec.Struct, frozen=True):
    """How a client connects and waits; see `aio.Redis.connect`."""

    client_name: str | None
    reply_timeout_s: float
    connect_timeout_s: float
    patience_s: float
    clock: Callable[[], float]
    rng: Callable[[], float]
    on_state: Callable[[bool, str], None]


class Grave(msgspec.Struct):
    """A connection that was lost with replies due.

    sealed   nothing sent on it can run any more.
    tried    it was asked for; without `sealed` Redis refused.
    """

    opened: Opened
    sealed: bool = False
    tried: bool = False


class Session:
    """One address and the connection to it.

    opened       the connection in use; None while there is none.
    last         the newest connection there was.
    up           set while there is one.
    last_grave   the newest connection that was lost with replies due.
    trouble      why there is none, or why it could not be opened again.
    reconnects   how often it was opened again.
    """

    def __init__(self, address: Address, settings: Settings) -> None:
        self.address = address
        self.settings = settings
        self.opened: Opened | None = None
        self.last: Opened
        self._heard: tuple[Place, ...] = ()
        self.last_grave: Grave | None = None
        self.up = asyncio.Event()
        self.trouble = ""
        self.reconnects = 0
        self.closed = False
        self._graves: list[Grave] = []
        self._retired_at = -math.inf
        self._reconnecting: asyncio.Task[None] | None = None

    async def start(self, retry_for_s: float) -> None:
        """Open the first connection, or raise what kept us from it. A failover is waited for in any case."""
        began_at = self.settings.clock()
        tries = 0
        while True:
            try:
                opened = await self.open(self.settings.reply_timeout_s)
            except LoginRefused:
                raise
            except RedisUnavailable as error:
                patience_s = self.settings.patience_s if isinstance(error, FailingOver) else 0.0
                if self.settings.clock() >= began_at + max(retry_for_s, patience_s):
                    raise
            else:
                if self._install(opened):
                    return
            await asyncio.sleep(pause_s(tries, self.settings.rng()))
            tries += 1

    async def open(self, reply_timeout_s: float | None, client_name: str | None = None) -> Opened:
        """A connection of the same kind, for whoever needs one alone; under a name of its own, if given."""
        opened = await open_link(
            self.address,
            client_name=client_name or self.settings.client_name,
            connect_timeout_s=self.settings.connect_timeout_s,
            reply_timeout_s=reply_timeout_s,
            heard=self._heard,
        )
        self._heard = opened.found.heard
        return opened

    def retire(self, why: str) -> None:
        """Another server is the right one now: what is due may come, then connect again and find it."""
        now_at = self.settings.clock()
        if self.opened is not None and now_at - self._retired_at >= _RETIRE_EVERY_S:
            self._retired_at = now_at
            link = self.opened.link
            self._down(why)
            link.retire(why)

    async def close(self) -> None:
        """End the connection and open no other."""
        self.closed = True
        opened, self.opened = self.opened, None
        self.up.clear()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if opened is not None:
            opened.link.abort("the connection was closed on our side")

    def _install(self, opened: Opened) -> bool:
        """Use this connection from now on. False if it has ended meanwhile."""
        if not opened.link.usable:
            return False
        opened.link.on_lost = self._lost
        self.opened = self.last = opened
        self.trouble = ""
        self.up.set()
        return True

    def _lost(self, link: Link, why: str) -> None:
        """Called once for each connection in use, before its calls are told."""
        if self.closed:
            return
        if link.unanswered:
            self.last_grave = Grave(self.last)
            self._graves.append(self.last_grave)
        self._down(why)
        self._reconnecting = asyncio.get_running_loop().create_task(self._connect_again())

    def _down(self, why: str) -> None:
        if self.opened is not None:
            self.opened = None
            self.up.clear()
            self.trouble = why
            self.settings.on_state(False, why)

    async def _connect_again(self) -> None:
        settings = self.settings
        lost_at = settings.clock()
        tries = 0
        while True:
            try:
                opened = await self.open(settings.reply_timeout_s)
                await self._seal_graves(opened)
            except RedisUnavailable as error:
                self.trouble = str(error)
            else:
                if self._install(opened):
                    break
            await asyncio.sleep(pause_s(tries, settings.rng()))
            tries += 1
        self.reconnects += 1
        away_s = settings.clock() - lost_at
        settings.on_state(True, f"connected again to {self.address} after {away_s:.3g} s")

    async def seal(self, grave: Grave) -> None:
        """Have that connection ended from the one in use, or from the next; one of ours was before."""
        while not grave.tried:
            await self.up.wait()
            opened = self.opened
            assert opened is not None
            try:
                async with asyncio.timeout(self.settings.connect_timeout_s):
                    grave.sealed = await kill(opened, grave.opened, opened_later=False)
            except (TimeoutError, RedisUnavailable):
                opened.link.abort("Redis did not answer CLIENT KILL")
            else:
                grave.tried = True

    async def _seal_graves(self, opened: Opened) -> None:
        """Kill the lost connections from the new one, before anything is repeated.

        A request may still sit in the server's input buffer. It would run after its own repetition, and the
        outcome would be written, or jobs fetched, twice.
        """
        try:
            async with asyncio.timeout(self.settings.connect_timeout_s):
                for grave in self._graves:
                    grave.sealed = await kill(opened, grave.opened)
                    grave.tried = True
        except TimeoutError:
            raise RedisUnavailable("Redis did not answer CLIENT KILL", sent=True) from None
        else:
            self._graves.clear()
        finally:
            if self._graves:  # timed out, lost or cancelled
                opened.link.abort("the lost connection could not be ended from this one")
