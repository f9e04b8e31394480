"""The run after this one: when a job of a scheduler is fetched, the next is added.

Decides when that is asked of Redis and what becomes of a schedule that cannot be understood. The time comes
from `protocol/schedule.py`, and whether there is anything to add is the script's to say: only the pending run
of a scheduler has one after it. So any number of masters, a retry and a call sent again add nothing twice.

The call goes out before the job's own outcome on the same connection, so a job is not finished in Redis
before its next run is there. A master that dies before that leaves the job active: it stalls, is fetched
again, and then the same is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from supervisor.errors import InvalidSchedule, JobError, NotRepeatable, RedisError
from supervisor.observe.log import get
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.scheduler import NextIteration
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.schedule import following_run, migration_advice

log = get("scheduling")

PLACES_TRIED = 32  # of a pattern's runs whose jobs are there already


class Redis(Protocol):
    """What of transport.aio.Redis is needed here."""

    async def execute_repeatable(
        self, command: NextIteration, *, give_up: Callable[[], bool] | None = None
    ) -> str | Code | None: ...


class Scheduling:
    """The schedulers of one queue, as far as its worker keeps them going."""

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        *,
        wall_clock: Callable[[], float],
        give_up: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._wall_clock = wall_clock
        self._give_up = give_up
        self._loop = loop
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """A run may be on its way."""
        return bool(self._calls)

    def fetched(self, job: FetchedJob) -> None:
        """Have the run after this job added, if a scheduler made it. Costs nothing for any other job."""
        if job.scheduler_id is not None:
            call = self._loop.create_task(self._advance(job))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _advance(self, job: FetchedJob) -> None:
        await add_following(
            self._redis, self._keys, job, now_ms=int(self._wall_clock() * 1000), give_up=self._give_up
        )


async def add_following(
    redis: Redis, keys: QueueKeys, job: FetchedJob, *, now_ms: int, give_up: Callable[[], bool] | None = None
) -> None:
    """Have the run after this job's added. What cannot be done is told in the log; the job itself goes on."""
    if job.scheduler_id is None:
        return
    after_ms = now_ms
    why = "the jobs of its next runs are there already"
    try:
        for _ in range(PLACES_TRIED):
            run = following_run(job.opts, job.scheduler_id, after_ms)
            if run is None:
                return
            command = NextIteration(keys, job.scheduler_id, job.id, run, now_ms)
            try:
                added = await redis.execute_repeatable(command, give_up=give_up)
            except NotRepeatable:
                continue  # this call may run twice, and in any order: ask again, on the new connection
            if not isinstance(added, Code):
                if added is not None and run.legacy:
                    advice = migration_advice(job.scheduler_id)
                    log.warning(
                        "scheduler.legacy", queue=keys.name, scheduler=job.scheduler_id, advice=advice
                    )
                if added is not None:
                    log.debug("scheduler.advanced", queue=keys.name, scheduler=job.scheduler_id, job_id=added)
                return
            if run.cron_next_ms is None:
                break  # the script has tried the next ones itself
            after_ms = run.cron_next_ms
    except (InvalidSchedule, JobError) as error:
        why = str(error)
    except RedisError as error:
        why = f"Redis: {error}"
    # No run follows until somebody upserts the scheduler.
    log.error("scheduler.stuck", queue=keys.name, scheduler=job.scheduler_id, why=why)
