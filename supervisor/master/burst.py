"""`run --burst`: is there anything left that this run waits for (design.md section 4)?

Not waited for: delays that users asked for, schedules, waiting parents, other workers' jobs. Waited for: a
delayed job that was started before, because its retry belongs to this run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from supervisor.errors import OxherdError, RedisError, RedisRefused
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.work import AnyStarted, CountWork
from supervisor.protocol.keys import QueueKeys

LOOK_AGAIN_S = 1.0
POLL_S = 0.05


class QueuePaused(OxherdError):
    """A burst cannot end on a paused queue."""

    code = "queue_paused"


class QueueBroken(OxherdError):
    """A burst cannot end on a queue whose keys hold something else."""

    code = "queue_broken"


class QueueDegraded(OxherdError):
    """A burst cannot end on a queue whose jobs all lose their runner."""

    code = "queue_degraded"


class Redis(Protocol):
    async def execute(self, command: Command[Any]) -> Any: ...


class BurstWorker(Protocol):
    keys: QueueKeys

    @property
    def hopeless(self) -> str: ...

    def settled(self) -> bool: ...


async def until_nothing_left(redis: Redis, workers: Sequence[BurstWorker]) -> None:
    """Return when, seen twice one second apart, nothing is left.

    Raises `QueuePaused`, `QueueBroken` and `QueueDegraded`.
    """
    seen_empty = False
    while True:
        if await _empty(redis, workers):
            if seen_empty:
                return
            seen_empty = True
            await asyncio.sleep(LOOK_AGAIN_S)
        else:
            seen_empty = False
            await asyncio.sleep(POLL_S)


async def _empty(redis: Redis, workers: Sequence[BurstWorker]) -> bool:
    for worker in workers:
        if worker.hopeless:
            raise QueueDegraded(
                f"queue {worker.keys.name!r} is degraded, a burst would take very long: {worker.hopeless}. "
                "The jobs that were not tried are still waiting"
            )
        if not worker.settled():
            return False
        try:
            left = await redis.execute(CountWork(worker.keys))
            started = bool(left.delayed_ids) and await redis.execute(
                AnyStarted(worker.keys, left.delayed_ids)
            )
        except RedisError as error:
            if isinstance(error, RedisRefused) and "WRONGTYPE" in str(error):
                raise QueueBroken(
                    f"queue {worker.keys.name!r} cannot be read, so a burst would never end: one of its keys "
                    f"holds something else ({error}). No job was lost. Look at the keys {worker.keys.base}:*"
                ) from None
            return False  # the master waits for Redis, and so does the burst
        if left.paused:
            raise QueuePaused(
                f"queue {worker.keys.name!r} is paused, so a burst would never end; "
                f"no job was lost. Resume it first: oxherd resume {worker.keys.name}"
            )
        if left.waiting or left.prioritized or started or not worker.settled():
            return False
    return True
