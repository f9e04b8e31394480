"""What the clients do, written once: each operation as the commands it takes, driven by either client.

An operation is an `Action`: a function that is given the queue's `Context` and yields commands. The asyncio
and the blocking client run the same actions, so they cannot drift apart. What is done to one job, and what
only a few callers need, stands in `edit.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar
from uuid import uuid4

import msgspec

from supervisor.client.job import Job, added_job, job_of
from supervisor.errors import InvalidJob, OxherdError, QueueFull, RedisRefused, UsageError
from supervisor.protocol import fields
from supervisor.protocol.codes import Code, error_of
from supervisor.protocol.commands.add import JOBS_PER_CALL, AddJobs, AddResult, NewJob, NotAdded, Room
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.queue import PauseQueue, resume_queue
from supervisor.protocol.commands.read import (
    GetCounts,
    GetJob,
    GetJobIds,
    GetJobs,
    GetLogs,
    GetState,
    IsPaused,
)
from supervisor.protocol.given import check_flags, check_job_ref, check_state, check_text, kind, whole
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import MAX_DATA_BYTES, AddOptions, Choices, JobSpec, as_spec, encode_job
from supervisor.protocol.steps import Steps
from supervisor.protocol.validate import check_queue_name
from supervisor.transport.answers import explained

T = TypeVar("T")
_FURTHEST: Final = 2**53
Clock: TypeAlias = Callable[[], int]


class Context(msgspec.Struct, frozen=True):
    """One queue as its client sees it. `clock` tells epoch milliseconds; `max_waiting` None is any number."""

    keys: QueueKeys
    clock: Clock
    defaults: AddOptions
    max_data_bytes: int = MAX_DATA_BYTES
    max_waiting: int | None = None


Action: TypeAlias = Callable[[Context], Steps[T]]


def ask(command: Command[T]) -> Steps[T]:
    """The operation that is one command."""
    reply: T = yield command
    return reply


def add(context: Context, spec: JobSpec) -> Steps[Job]:
    job = _encoded(context, spec)
    room = None if context.max_waiting is None else Room(context.max_waiting, 1)
    results = yield AddJobs(context.keys, [job], room=room)
    _raise_if_full(context, results)
    return added_job(context.keys.name, job, _id_of(results[0], job), spec.data)


def _raise_if_full(context: Context, results: Sequence[AddResult]) -> None:
    refused = [result for result in results if isinstance(result, NotAdded) and result.code == Code.FULL]
    if refused:
        raise _full(context, int(refused[0].text), len(refused))


def _full(context: Context, waiting: int, count: int) -> QueueFull:
    most = context.max_waiting or 0
    what = "the job was" if count == 1 else f"the {count:,} jobs were"
    return QueueFull(
        f"{waiting:,} jobs wait in {context.keys.name}, and max_waiting is {most:,}: {what} not added. "
        "Try again when workers have caught up",
        waiting=waiting,
        max_waiting=most,
    )


class Bulk(msgspec.Struct, frozen=True):
    """A bulk add that passed every check: one pipeline of `commands`, then `jobs` of their results."""

    context: Context
    specs: Sequence[JobSpec]
    encoded: Sequence[NewJob]

    def commands(self) -> list[AddJobs]:
        token, count = uuid4().hex, len(self.encoded)
        most = self.context.max_waiting
        return [
            AddJobs(
                self.context.keys,
                self.encoded[at : at + JOBS_PER_CALL],
                room=None if most is None else Room(most, 0 if at else count, token),
            )
            for at in range(0, count, JOBS_PER_CALL)
        ]

    def jobs(self, replies: Iterable[list[AddResult] | OxherdError]) -> list[Job]:
        """The jobs; or the first error, after which the others have been added all the same."""
        results: list[AddResult] = []
        for reply in replies:
            if isinstance(reply, OxherdError):
                raise reply
            results += reply
        _raise_if_full(self.context, results)
        return [
            added_job(self.context.keys.name, job, _id_of(result, job), spec.data)
            for spec, job, result in zip(self.specs, self.encoded, results, strict=True)
        ]


def bulk(context: Context, jobs: Iterable[JobSpec | tuple[Any, ...]]) -> Bulk:
    """Check every job before the first is sent."""
    if isinstance(jobs, (str, bytes, Mapping)) or not isinstance(jobs, Iterable):
        raise InvalidJob(f"the jobs of a bulk add are a list, not {kind(jobs)}; nothing was added")
    specs = [as_spec(job) for job in jobs]
    known: dict[int, Choices] = {}
    return Bulk(context, specs, [_encoded(context, spec, known) for spec in specs])


def get(context: Context, job_id: str) -> Steps[Job | None]:
    check_job_ref(job_id)
    record = yield GetJob(context.keys, job_id)
    return None if record is None else job_of(context.keys.name, record)


def jobs(context: Context, state: str, start: int, end: int, newest_first: bool) -> Steps[list[Job]]:
    check_state(state, fields.STATES)
    check_range(start, end)
    check_flags(newest_first=newest_first)
    job_ids = yield GetJobIds(context.keys, state, start, end, newest_first)
    if not job_ids:
        return []
    records = yield GetJobs(context.keys, job_ids)
    return [job_of(context.keys.name, record) for record in records if record is not None]


def counts(context: Context) -> Steps[dict[str, int]]:
    return ask(GetCounts(context.keys))


def is_paused(context: Context) -> Steps[bool]:
    return ask(IsPaused(context.keys))


def pause(context: Context) -> Steps[None]:
    return ask(PauseQueue(context.keys))


def resume(context: Context) -> Steps[None]:
    return resume_queue(context.keys)


def state(context: Context, job_id: str) -> Steps[str]:
    check_job_ref(job_id)
    return ask(GetState(context.keys, job_id))


def logs(context: Context, job_id: str, start: int, end: int) -> Steps[list[str]]:
    check_job_ref(job_id)
    check_range(start, end)
    return ask(GetLogs(context.keys, job_id, start, end))


def check_range(start: int, end: int) -> None:
    whole(-_FURTHEST, _FURTHEST)("start", start)
    whole(-_FURTHEST, _FURTHEST)("end", end)


def check_client(name: str, url: object, redis: object, clock: object, connection: type) -> None:
    """What a queue is made of, before it is looked for."""
    check_queue_name(name)
    if url is not None:
        check_text(url, "the url of Redis")
    if redis is not None and not isinstance(redis, connection):
        raise UsageError(f"redis is a connection of {connection.__module__}, not {kind(redis)}")
    if not callable(clock):
        raise UsageError(f"clock is a function that tells epoch milliseconds, not {kind(clock)}")


def steps_of(action: Action[T], context: Context) -> Steps[T]:
    """What an action does in one queue; `UsageError` for what is none."""
    name = getattr(action, "__name__", kind(action))
    if callable(action) and not isinstance(action, type) and _takes_one(action):
        steps = action(context)
        if isinstance(steps, Generator):
            return steps
    raise UsageError(f"run takes an action, such as change_delay('17', 5_000), and {name} is none")


def _takes_one(action: Callable[..., Any]) -> bool:
    try:
        inspect.signature(action).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def _encoded(context: Context, spec: JobSpec, known: dict[int, Choices] | None = None) -> NewJob:
    return encode_job(
        spec,
        now_ms=context.clock(),
        defaults=context.defaults,
        max_data_bytes=context.max_data_bytes,
        prefix=context.keys.prefix,
        known=known,
    )


def _id_of(result: AddResult, job: NewJob) -> str:
    if not isinstance(result, NotAdded):
        return result
    if result.code == Code.GUILTY:
        raise RedisRefused(f"job {job.name!r} was not added: {explained(result.text)}")
    parent = job.parent.key if job.parent else "undefined"
    raise error_of(result.code, job_id=job.job_id or "", call="addJob", parent=parent)
