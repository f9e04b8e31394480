"""The stalled check: the safety net under workers that died, and never the plan.

Decides only when; what is stalled is decided by lua/recoverStalled.lua, shared with every worker of the
queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from supervisor.errors import RedisError
from supervisor.observe.log import get
from supervisor.protocol.commands.work import RecoverStalled
from supervisor.protocol.keys import QueueKeys

log = get("stalled")


class Redis(Protocol):
    async def execute(self, command: RecoverStalled) -> list[str]: ...


async def watch_stalled(
    redis: Redis,
    keys: QueueKeys,
    *,
    interval_ms: int,
    max_stalled: int,
    wall_clock: Callable[[], float],
    recovered: Callable[[list[str]], None],
) -> None:
    """Check at once, then every interval, for ever. `recovered(ids)` when jobs were put back."""
    while True:
        now_ms = int(wall_clock() * 1000)
        try:
            job_ids = await redis.execute(RecoverStalled(keys, now_ms, interval_ms, max_stalled))
        except RedisError as error:
            log.warning("stalled.check_failed", queue=keys.name, error=str(error))
        else:
            for job_id in job_ids:
                log.warning("stalled.recovered", queue=keys.name, job_id=job_id)
            if job_ids:
                recovered(job_ids)
        await asyncio.sleep(interval_ms / 1000)
