"""Job schedulers in Redis: store one, add its next run, forget one, look at them.

Decides how the scripts are called and what a scheduler's hash means. When one runs is `protocol/schedule.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import msgspec

from supervisor.errors import JobError
from supervisor.protocol import fields
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.job_record import number_of
from supervisor.protocol.jsontext import decode, encode, encode_text
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.schedule import FollowingRun, Schedule, Template, iteration_options

_REFUSALS: Final = {
    Code.ID_COLLISION: "Cannot create job scheduler iteration - job ID already exists. addJobScheduler",
    Code.SLOTS_BUSY: "Cannot create job scheduler iteration - current and next time slots already have jobs. "
    "addJobScheduler",
}
# What BullMQ 3 and older put into the sorted set: name, id, end, zone and pattern or every, joined by colons.
_OLD_KEY: Final = re.compile(r"[^:]*:[^:]*:\d*:[^:]*:(?:.* .*|\d+)$")


class NextRun(msgspec.Struct, frozen=True):
    """The run that is pending: its job, and when it is due (epoch milliseconds)."""

    job_id: str
    due_on: int
    delay_ms: int


class Scheduler(msgspec.Struct, frozen=True, kw_only=True):
    """A job scheduler as it is stored.

    next_on      when its pending run is due; when it has ended, its last one was.
    iterations   jobs it has made; None for a repeatable of BullMQ 5 or older: see `legacy`.
    options      of its jobs, with BullMQ's names.
    """

    id: str
    name: str = ""
    next_on: int = 0
    every_ms: int | None = None
    pattern: str | None = None
    tz: str | None = None
    offset_ms: int | None = None
    limit: int | None = None
    start_on: int | None = None
    end_on: int | None = None
    iterations: int | None = None
    data: Any = None
    options: Any = None
    legacy: bool = False

    @property
    def pending_job_id(self) -> str:
        return f"{fields.REPEAT}:{self.id}:{self.next_on}"


def _id_json(scheduler_id: str) -> bytes:
    """JSON text of a run's id, up to its time: without the closing quote."""
    return encode_text(f"{fields.REPEAT}:{scheduler_id}:")[:-1]


class UpsertScheduler(msgspec.Struct, frozen=True):
    """Store a scheduler and its next run's job. Decodes to a `NextRun`; `JobError`: no slot is free.

    schedule   checked.
    cron_ms    the first run by its pattern.
    """

    script: ClassVar[str] = "upsertScheduler"

    queue: QueueKeys
    id: str
    schedule: Schedule
    template: Template
    now_ms: int
    cron_ms: int | None

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        schedule, template = self.schedule, self.template
        stored = schedule.stored()
        offset = {} if schedule.offset_ms is None else {fields.REPEAT_OFFSET: schedule.offset_ms}
        repeat = {**stored, **offset, fields.REPEAT_COUNT: 1}
        return [
            self.queue.base + ":",
            self.id.encode(),
            self.now_ms,
            *map(
                _given, (schedule.every_ms, self.cron_ms, schedule.offset_ms, stored.get(fields.REPEAT_START))
            ),
            template.name.encode(),
            template.data or b"{}",
            encode(iteration_options(template.opts, repeat, self.id, self.now_ms)),
            _id_json(self.id),
            template.opts.get(fields.PRIORITY, 0),
            int(template.opts.get(fields.OPTION_NAMES["lifo"], False)),
            *self._record(stored),
        ]

    def _record(self, stored: dict[str, Any]) -> list[Arg]:
        template = self.template
        record: list[Arg] = [fields.NAME, template.name.encode()]
        for name, value in ((fields.DATA, template.data), (fields.OPTS, template.stored_opts)):
            if value is not None:
                record += [name, value]
        for name, value in stored.items():
            record += [name, value]
        return record

    def decode(self, reply: Reply) -> NextRun:
        if isinstance(reply, int):
            raise JobError(_REFUSALS.get(Code(reply), str(reply)), status=reply)
        _raise_if_guilty(reply)
        job_id, delay_ms, due_on = reply
        return NextRun(job_id.decode(), int(due_on), delay_ms)


class NextIteration(msgspec.Struct, frozen=True):
    """Add the run after the one whose job was fetched. Repeatable: only the pending run has one after it.

    Decodes to the new job's id; None when there is nothing to add; a `Code` when its place is taken
    (`ID_COLLISION`: ask again with a later time; `SLOTS_BUSY`). Raises `JobError` with what is corrupt.
    """

    script: ClassVar[str] = "nextIteration"

    queue: QueueKeys
    scheduler_id: str
    job_id: str
    run: FollowingRun
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        run = self.run
        return [
            self.queue.base + ":",
            self.scheduler_id.encode(),
            self.job_id.encode(),
            self.now_ms,
            *map(_given, (run.cron_next_ms, run.every_ms, run.end_on)),
            run.opts,
            _id_json(self.scheduler_id),
            run.priority,
            int(run.lifo),
        ]

    def decode(self, reply: Reply) -> str | Code | None:
        if isinstance(reply, int):
            return None if reply == 0 else Code(reply)
        if isinstance(reply, bytes):
            return reply.decode()
        _raise_if_guilty(reply)
        return None

    def repetition(self) -> NextIteration:
        return self


class RemoveScheduler(msgspec.Struct, frozen=True):
    """Forget a scheduler and its delayed run. Decodes to whether there was one."""

    script: ClassVar[str] = "removeScheduler"

    queue: QueueKeys
    id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return [self.queue.base + ":", self.id.encode()]

    def decode(self, reply: Reply) -> bool:
        if isinstance(reply, list):
            _raise_if_guilty(reply)
        return bool(reply)


class GetSchedulerIds(msgspec.Struct, frozen=True):
    """Ids and next times from place `start` to place `end`, both included, by the next time."""

    queue: QueueKeys
    start: int
    end: int
    latest_first: bool

    def requests(self) -> Sequence[Sequence[Arg]]:
        order = "ZREVRANGE" if self.latest_first else "ZRANGE"
        return [(order, self.queue.repeat, self.start, self.end, "WITHSCORES")]

    def decode(self, reply: Reply) -> list[tuple[str, int]]:
        (flat,) = reply
        return [
            (member.decode("utf-8", "replace"), number_of(score))
            for member, score in zip(flat[::2], flat[1::2], strict=True)
        ]


class GetSchedulers(msgspec.Struct, frozen=True):
    """The records of these schedulers; None where there is nothing but an entry of the sorted set."""

    queue: QueueKeys
    entries: Sequence[tuple[str, int]]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("HGETALL", f"{self.queue.repeat}:{scheduler_id}") for scheduler_id, _ in self.entries]

    def decode(self, reply: Reply) -> list[Scheduler | None]:
        return [
            _scheduler(scheduler_id, next_on, flat)
            for (scheduler_id, next_on), flat in zip(self.entries, reply, strict=True)
        ]


class GetScheduler(msgspec.Struct, frozen=True):
    """One scheduler; None when there is none of this id."""

    queue: QueueKeys
    id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("ZSCORE", self.queue.repeat, self.id), ("HGETALL", f"{self.queue.repeat}:{self.id}")]

    def decode(self, reply: Reply) -> Scheduler | None:
        score, flat = reply
        return None if score is None else _scheduler(self.id, number_of(score), flat)


class CountSchedulers(msgspec.Struct, frozen=True):
    """How many schedulers there are."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("ZCARD", self.queue.repeat)]

    def decode(self, reply: Reply) -> int:
        return int(reply[0])


def _given(value: int | None) -> Arg:
    return "" if value is None else value


def _raise_if_guilty(reply: list[Any]) -> None:
    if reply and reply[0] == Code.GUILTY:
        raise JobError(reply[1].decode("utf-8", "replace"), status=Code.GUILTY)


def _scheduler(scheduler_id: str, next_on: int, flat: Sequence[bytes]) -> Scheduler | None:
    if not flat:
        if _OLD_KEY.match(scheduler_id) is None:
            return None
        return Scheduler(id=scheduler_id, name=scheduler_id.partition(":")[0], next_on=next_on, legacy=True)
    found = {
        name.decode("utf-8", "replace"): value for name, value in zip(flat[::2], flat[1::2], strict=True)
    }

    def text(name: str) -> str | None:
        return found[name].decode("utf-8", "replace") if name in found else None

    def number(name: str) -> int | None:
        return number_of(found[name]) if name in found else None

    return Scheduler(
        id=scheduler_id,
        name=text(fields.NAME) or "",
        next_on=next_on,
        every_ms=number(fields.REPEAT_EVERY),
        pattern=text(fields.REPEAT_PATTERN),
        tz=text(fields.REPEAT_ZONE),
        offset_ms=number(fields.REPEAT_OFFSET),
        limit=number(fields.REPEAT_LIMIT),
        start_on=number(fields.REPEAT_START),
        end_on=number(fields.REPEAT_END),
        iterations=number(fields.REPEAT_ITERATIONS),
        data=_json(found.get(fields.DATA)),
        options=_json(found.get(fields.OPTS)),
        legacy=fields.REPEAT_ITERATIONS not in found,
    )


def _json(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return decode(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")  # shown as it is; somebody else wrote it
