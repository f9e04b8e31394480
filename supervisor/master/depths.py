"""How deep the queues are: what Redis says of those that a master serves, for whoever scrapes it.

Decides when it is asked: when somebody wants to know, and every few seconds at most, however many want to; in
a few small pipelines for all queues together. What Redis does not say in time is not known, and not asked
again before the next time.

Reads    counts, whether it is paused, and the jobs that would run next; nothing that grows with a queue
Writes   nothing
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from supervisor.errors import RedisError
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.look import GetDepth
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive
from supervisor.protocol.thresholds import oldest_due_on

READ_EVERY_S: Final = 5.0
WITHIN_S: Final = 1.0  # a scrape waits no longer


class Redis(Protocol):
    async def execute(self, command: Command[Any], *, patience_s: float | None = None) -> Any: ...


class Depth(msgspec.Struct, frozen=True):
    """One queue.

    jobs       by state.
    oldest_s   how long the job that has waited longest has been due; 0 while none waits.
    """

    jobs: Mapping[str, int]
    paused: bool
    oldest_s: float


class Depths:
    """What was read last, by queue. One that is gone, or could not be read, is not among them."""

    def __init__(self, redis: Redis, *, clock: Callable[[], float], wall_clock: Callable[[], float]) -> None:
        self._redis = redis
        self._clock = clock
        self._wall_clock = wall_clock
        self._read: dict[QueueKeys, Depth] = {}
        self._read_at = -math.inf
        self._asked: set[QueueKeys] = set()
        self._reading = asyncio.Lock()

    async def look(self, queues: Sequence[QueueKeys]) -> dict[str, Depth]:
        """By the name of the queue."""
        async with self._reading:  # who comes meanwhile has the same
            old = self._clock() >= self._read_at + READ_EVERY_S
            if old or not self._asked.issuperset(queues):
                self._asked = set(queues)
                found = await asyncio.gather(*(self._depth(each) for each in queues))
                pairs = zip(queues, found, strict=True)
                self._read = {keys: depth for keys, depth in pairs if depth is not None}
                self._read_at = self._clock()
        return {keys.name: self._read[keys] for keys in queues if keys in self._read}

    async def _depth(self, queue: QueueKeys) -> Depth | None:
        try:
            async with asyncio.timeout(WITHIN_S):
                seen = await self._execute(GetDepth(queue))
                if not seen.exists:
                    return None
                due_on = await drive(oldest_due_on(queue), self._execute)
        except (RedisError, TimeoutError):
            return None
        oldest_s = 0.0 if due_on is None else max(0.0, self._wall_clock() - due_on / 1000)
        return Depth(seen.jobs, seen.paused, oldest_s)

    async def _execute(self, command: Command[Any]) -> Any:
        return await self._redis.execute(command, patience_s=0.0)
