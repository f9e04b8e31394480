"""`Queue` for asyncio: add jobs, look at them, wait for them. Its twin without await is `blocking.py`.

It decides nothing: what an operation does stands in `core.py`, `edit.py` and `listen.py`, for both.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from msgspec import structs

from supervisor.client import cancel as cancelling
from supervisor.client import core, edit, listen, manage
from supervisor.client.core import Action, Context
from supervisor.client.job import Job
from supervisor.client.where import Where, find, resolve_url
from supervisor.errors import RedisUnavailable
from supervisor.protocol import fields
from supervisor.protocol.commands.base import Command
from supervisor.protocol.keys import DEFAULT_PREFIX, QueueKeys
from supervisor.protocol.new_job import AddOptions, JobSpec, Json, check_defaults, whole
from supervisor.protocol.queue_events import FollowEvents, QueueEvent, ReadEvents
from supervisor.protocol.steps import Steps, drive
from supervisor.transport.aio import Redis

T = TypeVar("T")


def epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class Queue:
    """One queue, seen by who adds jobs to it and looks at them.

        async with Queue("thumbnails") as queue:
            job = await queue.add("resize", {"path": "a.jpg"}, attempts=3, backoff=exponential(1_000))
            print(await queue.result(job, timeout_ms=30_000))

    name         any text without ":".
    url          redis://, rediss:// or unix://, or `embedded` for the user's own server if it runs. If not
                 given, OXHERD_REDIS_URL and oxherd.toml name the Redis, the prefix and the defaults; where
                 they do not, `ConfigError`.
    redis        a connection to share with others, who close it; then `url` is not looked at.
    prefix       what every key starts with, `bull` as a rule; all clients of a queue must agree on it.
    defaults     options for each job that does not give its own.
    max_waiting  back-pressure: `QueueFull` instead of an add when more jobs than this would wait. Producers
                 that add at one moment do not pass it together.
    clock        tells epoch milliseconds.

    Nothing is sent before the first operation, or `async with`. One connection, which operations share.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        redis: Redis | None = None,
        prefix: str | None = None,
        defaults: AddOptions | None = None,
        max_waiting: int | None = None,
        clock: core.Clock = epoch_ms,
    ) -> None:
        core.check_client(name, url, redis, clock, Redis)
        found = find(name, os.environ) if url is None and redis is None else None
        if prefix is None:
            prefix = found.prefix if found is not None else DEFAULT_PREFIX
        if defaults is None and found is not None:
            defaults = AddOptions(**found.defaults)  # type: ignore[typeddict-item]
        if max_waiting is not None:
            whole(0)("max_waiting", max_waiting)
        self.context = Context(
            QueueKeys(name, prefix), clock, check_defaults(defaults), max_waiting=max_waiting
        )
        self._url = url if found is None else found.url
        self._state_dir = None if found is None else found.state_dir
        self._where: Where | None = None
        self._redis = self._shared = redis
        self._connecting = asyncio.Lock()

    @property
    def name(self) -> str:
        """The queue's name."""
        return self.context.keys.name

    @property
    def keys(self) -> QueueKeys:
        """The names of its keys in Redis."""
        return self.context.keys

    # --- adding ------------------------------------------------------------------------------------------

    async def add(self, name: str, data: Json, **options: Unpack[AddOptions]) -> Job:
        """Add one job and return it.

        name      what the processor tells jobs apart by; any text.
        data      anything JSON can say, at most 60 MiB once encoded.
        options   `delay_ms`, `priority`, `job_id`, `attempts`, `backoff`...: see `AddOptions`.

        Raises `InvalidJob` or `DataTooLarge` before anything is sent, and `RedisUnavailable` when no answer
        came: if its `sent` is true the job may exist or not, so try again with a `job_id`.

        Wire: addJobs; events `added`, then `waiting` or `delayed`; or `duplicated` alone.
        """
        return await self._drive(core.add(self.context, JobSpec(name, data, options)))

    async def add_bulk(self, jobs: Iterable[JobSpec | tuple[Any, ...]]) -> list[Job]:
        """Add many jobs in one round trip; they come back in their order.

        jobs   each a `JobSpec` or a tuple of name, data and options.

        All are checked before the first is sent. If Redis then refuses one, its error is raised and the
        others have been added all the same.
        """
        many = core.bulk(self.context, jobs)
        redis = await self.connect()
        return many.jobs(await redis.execute_many(many.commands()))

    # --- looking -----------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> Job | None:
        """The job as it is now; None if there is none of this id."""
        return await self._drive(core.get(self.context, job_id))

    async def state(self, job_id: str) -> str:
        """Where the job is: `waiting`, `delayed`, `active`, `completed`..., or `unknown`."""
        return await self._drive(core.state(self.context, job_id))

    async def jobs(
        self, state: str, start: int = 0, end: int = 99, *, newest_first: bool = False
    ) -> list[Job]:
        """The jobs in one state, from place `start` to place `end`, both included; -1 is the last.

        Waiting jobs come in the order in which they will run, finished ones in that in which they ended.
        """
        return await self._drive(core.jobs(self.context, state, start, end, newest_first))

    async def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        return await self._drive(core.counts(self.context))

    async def logs(self, job_id: str, start: int = 0, end: int = -1) -> list[str]:
        """The rows of the job's log from place `start` to place `end`, oldest first; -1 is the last."""
        return await self._drive(core.logs(self.context, job_id, start, end))

    async def is_paused(self) -> bool:
        """Whether nothing is fetched from this queue."""
        return await self._drive(core.is_paused(self.context))

    # --- waiting -----------------------------------------------------------------------------------------

    async def result(self, job: Job | str, *, timeout_ms: int | None = None) -> Json:
        """Wait until the job has ended and return what its processor returned.

        job          what `add` returned, or an id.
        timeout_ms   wait so long at most; without it, for ever.

        Raises `JobFailed` with the job's failed reason, `ResultTimeout` when it had not ended in time (it
        goes on), `JobNotFound` when it is not there: what a job that is removed as it ends has returned is
        known as long as the queue keeps its event.
        """
        job_id = job.id if isinstance(job, Job) else job
        return await self.run(listen.result(job_id, timeout_ms, time.monotonic))

    async def events(self, *, since: str | None = None) -> AsyncIterator[QueueEvent]:
        """What happens in the queue, as it happens, without end.

        since   go on after the event of this `id`; `0-0` for all that is still stored; now if not given.

        No event is missed between reads, nor while the connection is opened again. The queue keeps its newest
        10,000 events or so: who falls behind further is told by an event named `ox:gap`, whose values `after`
        and `before` are the ids between which some may be missing. Raises `RedisUnavailable` when Redis stays
        away; go on then with `since`, the `id` of the last event.
        """
        place = await self.run(listen.first_place(since))
        while True:
            for event in await self.run(listen.next_events(place)):
                place = event.id
                yield event

    # --- acting ------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Let nobody fetch from this queue until `resume`. Jobs may be added; running ones go on."""
        await self._drive(core.pause(self.context))

    async def resume(self) -> None:
        """Let workers fetch from this queue again."""
        await self._drive(core.resume(self.context))

    async def retry(
        self,
        job_id: str,
        *,
        state: str = fields.FAILED,
        reset_attempts: bool = False,
        reset_started: bool = False,
    ) -> None:
        """Put a failed (or `state` completed) job back to be run again.

        reset_attempts   count its attempts from the start.
        reset_started    forget how often it was started too, which `max_started_attempts` looks at.

        Raises `JobNotFound`, or `JobNotInState` when it is not in `state`.
        """
        await self.run(
            edit.retry(job_id, state=state, reset_attempts=reset_attempts, reset_started=reset_started)
        )

    async def cancel(self, job: Job | str, reason: str = "", *, by: str | None = None) -> str:
        """See to it that a job is not done, wherever it is; what happened to it.

        Returns `cancelled` when it was not running: it has failed now and will never run. Returns `asked`
        when it is running: its worker was told, and if that is Oxherd's the job ends within 5 s. `result`
        waits for the end and raises `JobFailed` then.

        reason   why, for the job's failed reason: "cancelled by <by>: <reason>".
        by       who asks; the user and host of this process if not given.

        Raises `JobNotFound`, or `JobNotInState` when it has ended already.
        """
        return await self.run(cancelling.cancel(job, reason=reason, by=by))

    async def remove(self, job_id: str) -> None:
        """Remove a job and its log, if it is there. One that a worker holds is refused: `JobError`."""
        await self.run(edit.remove(job_id))

    async def promote(self, job_id: str) -> None:
        """Let a delayed job run now. Raises `JobNotInState` when it is not delayed."""
        await self.run(edit.promote(job_id))

    async def drain(self, *, delayed: bool = False) -> int:
        """Remove the jobs that wait, and with `delayed` those that are delayed too; how many. Emits no event.

        The job for which a scheduler waits stays.
        """
        return await self.run(manage.drain(delayed=delayed))

    async def clean(
        self, state: str = fields.COMPLETED, *, grace_ms: int = 0, limit: int | None = None
    ) -> list[str]:
        """Remove the jobs in `state` that are older than `grace_ms`, at most `limit`; their ids.

        The age is counted from the end of a finished job, else from its start, else from when it was made.
        Active jobs that a worker holds stay, and so does the job for which a scheduler waits.

        Wire: event `cleaned`.
        """
        return await self.run(manage.clean(state, grace_ms=grace_ms, limit=limit))

    async def run(self, action: Action[T]) -> T:
        """Carry out an action: `edit.change_delay("17", 5_000)`, `manage.retry_all()`, `getters.workers()`...

        They are made by the functions of `supervisor.client.edit`, `manage`, `getters`, `schedulers`,
        `flows`, `alerts` and others, for both clients. Making one checks what it is given, and sends nothing
        yet.
        """
        return await self._drive(core.steps_of(action, self.context))

    # --- the connection ----------------------------------------------------------------------------------

    async def connect(self) -> Redis:
        """The connection; opened now if it was not yet."""
        if self._redis is not None:
            return self._redis
        async with self._connecting:
            if self._redis is None:
                # In a thread: it may wait for another process that starts or stops the embedded server.
                if self._where is None:
                    self._where = await asyncio.to_thread(resolve_url, self._url or "", self._state_dir)
                self._redis = await Redis.connect(self._where.url, prefix=self.keys.prefix)
            return self._redis

    async def close(self) -> None:
        """End the connection. A later operation opens it again."""
        redis, self._redis = self._redis, self._shared
        where, self._where = self._where, None
        if redis is not None and self._shared is None:
            await redis.close()
        if where is not None:
            await asyncio.to_thread(where.close)

    async def _drive(self, steps: Steps[T]) -> T:
        return await drive(steps, self._execute)

    async def _execute(self, command: Command[Any]) -> Any:
        redis = await self.connect()
        if not isinstance(command, ReadEvents | FollowEvents) or command.block_ms == 0:
            return await redis.execute(command)
        try:
            name = self.keys.listener_name
            return await redis.read_blocking(command, command.block_ms / 1000, client_name=name)
        except RedisUnavailable:
            # Redis is away. Asking without waiting is patient, and then what may have been missed is seen.
            return await redis.execute(structs.replace(command, block_ms=0))

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
