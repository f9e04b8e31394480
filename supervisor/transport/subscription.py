"""Channels: what others publish, heard on a connection of its own that is opened again for ever.

It decides when a silent connection is given up. A message may be lost, whenever there is no connection: so
who listens looks for itself at what was said, each time `on_heard` tells that it hears again.

Reads    the socket
Tells    `on_message(channel, payload)` in the event loop; `on_heard(hears, why)` at each change
Rule     nothing is asked on this connection but for what keeps it alive
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Final

import hiredis

from supervisor.errors import RedisRefused, RedisUnavailable
from supervisor.protocol.commands.base import Reply
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import pause_s
from supervisor.transport.link import Link
from supervisor.transport.opening import open_link
from supervisor.transport.requests import pack

PING_EVERY_S: Final = 10.0
REFUSED_PAUSE_S: Final = 60.0  # whoever may not subscribe is asked again, but seldom


class Subscription:
    """Listens to `channels`; `keep()` is its life."""

    def __init__(
        self,
        address: Address,
        channels: Sequence[str],
        *,
        on_message: Callable[[str, bytes], None],
        on_heard: Callable[[bool, str], None],
        connect_timeout_s: float = 5.0,
        ping_every_s: float = PING_EVERY_S,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._address = address
        self._channels = {channel.encode(): channel for channel in channels}
        self._on_message = on_message
        self._on_heard = on_heard
        self._connect_timeout_s = connect_timeout_s
        self._ping_every_s = ping_every_s
        self._rng = rng
        self._missing: set[bytes] = set()  # asked for, and not yet confirmed
        self._heard_any = False
        self._heard: tuple[Place, ...] = ()
        self._refused: str | None = None
        self._link: Link | None = None
        self._hears: bool | None = None  # as was told last

    async def keep(self) -> None:
        """Listen for ever; ends by being cancelled."""
        failures = 0
        while True:
            self._refused = None
            try:
                opened = await open_link(
                    self._address,
                    client_name=None,
                    connect_timeout_s=self._connect_timeout_s,
                    reply_timeout_s=None,
                    heard=self._heard,
                )
            except (RedisUnavailable, RedisRefused) as error:
                why = str(error)
            else:
                self._heard = opened.found.heard
                try:
                    why = await self._listen(opened.link)
                finally:
                    opened.link.abort("closed")
                if not self._missing:
                    failures = 0
            self._tell(False, self._refused or why)
            await asyncio.sleep(REFUSED_PAUSE_S if self._refused else pause_s(failures, self._rng()))
            failures += 1

    async def _listen(self, link: Link) -> str:
        """Until the connection has ended; why."""
        self._missing = set(self._channels)
        self._link = link
        link.listen(self._push)
        link.write(pack(("SUBSCRIBE", *self._channels.values())))
        while True:
            self._heard_any = False
            await asyncio.wait([link.lost], timeout=self._ping_every_s)
            if link.lost.done():
                return link.lost.result()
            if not self._heard_any:
                # Nothing since the last PING, or no answer to SUBSCRIBE.
                return f"Redis at {self._address} was silent for {self._ping_every_s:g} s"
            link.write(pack(("PING",)))

    def _push(self, reply: Reply) -> None:
        self._heard_any = True
        if isinstance(reply, hiredis.ReplyError) and self._link is not None:
            self._refused = str(reply)
            self._link.abort(self._refused)
        elif isinstance(reply, list) and len(reply) == 3:
            kind, channel, payload = reply
            if kind == b"message" and channel in self._channels:
                self._on_message(self._channels[channel], payload)
            elif kind == b"subscribe" and self._missing:
                self._missing.discard(channel)
                if not self._missing:
                    self._tell(True, "")

    def _tell(self, hears: bool, why: str) -> None:
        if hears is not self._hears:
            self._hears = hears
            self._on_heard(hears, why)
