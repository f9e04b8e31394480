"""Thresholds, watched while a master runs: a line in the log when one is passed, and one when it is over.

Decides when it looks and what is news. What a threshold means is said in `protocol/thresholds.py`; whoever
wants an exit status of it asks `oxherd status --check`.

Reads    counts and the oldest waiting job, once an interval
Writes   nothing
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from supervisor.errors import RedisError
from supervisor.observe.log import get
from supervisor.protocol.commands.base import Command
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive
from supervisor.protocol.thresholds import Alert, Thresholds, passed

log = get("alerts")


class Redis(Protocol):
    async def execute(self, command: Command[Any]) -> Any: ...


class Alerts:
    """The thresholds of one queue, and which of them are passed as far as the log has been told."""

    def __init__(
        self, redis: Redis, keys: QueueKeys, thresholds: Thresholds, *, wall_clock: Callable[[], float]
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._thresholds = thresholds
        self._wall_clock = wall_clock
        self._told: dict[str, Alert] = {}
        self._failing = False

    async def watch(self, interval_s: float) -> None:
        """Look at once, then every interval, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(interval_s)

    async def look(self) -> None:
        now_ms = int(self._wall_clock() * 1000)
        try:
            found = await drive(passed(self._keys, self._thresholds, now_ms), self._redis.execute)
        except RedisError as error:
            if not self._failing:  # said once: it is looked again soon
                log.warning("alert.check_failed", queue=self._keys.name, error=str(error))
            self._failing = True
            return
        self._failing = False
        self._tell({alert.kind: alert for alert in found})

    def _tell(self, passed_now: dict[str, Alert]) -> None:
        """Only what has changed since the last look."""
        for kind, alert in passed_now.items():
            if kind not in self._told:
                log.warning("alert.raised", queue=self._keys.name, threshold=kind, why=alert.sentence)
        for kind in self._told.keys() - passed_now.keys():
            log.info("alert.cleared", queue=self._keys.name, threshold=kind)
        self._told = passed_now
