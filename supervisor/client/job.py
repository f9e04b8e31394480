"""Job: what is known of one job, as a frozen record. It does nothing; what is done to a job takes its queue.

A field that Redis does not hold has the value BullMQ gives it when it reads: 0, None or empty. What is there
but cannot be understood (somebody wrote broken JSON) reads as None and is named in `problems`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.add import NewJob
from supervisor.protocol.job_record import JobRecord
from supervisor.protocol.jsontext import decode


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job, as it was when it was read or added.

    data, returned, progress    anything JSON can say.
    options                     what is stored with the job, under BullMQ's names.
    attempts                    how often it may be tried; `attempts_made` counts those that are over,
                                `attempts_started` every time a worker took it.
    timestamp, processed_on, finished_on
                                epoch milliseconds: made, last taken, ended.
    failed_reason, stacktrace   of the last failed attempt, and of all kept; they outlive a later success.
    stalled_count               how often its worker was lost.
    processed_by                the name of the worker that took it last, if it has one.
    crashes                     how many attempts have ended by a crash since it was added or retried.
    verdicts                    of the last attempts that did not end by their processor's word alone, oldest
                                first: cause, reason and what was measured, as the master wrote it.
    used                        of the last attempt that took a while: waits, times, memory, io.
    deferred_failure            the next worker that takes it fails it with this reason.
    parent                      `id` and queue of the job that waits for this one, as stored.
    extra                       hash fields that this version does not know, as text.
    problems                    one sentence for each field that could not be understood.
    """

    id: str
    queue: str
    name: str = ""
    data: Any = None
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    timestamp: int = 0
    delay_ms: int = 0
    priority: int = 0
    attempts: int = 0
    attempts_made: int = 0
    attempts_started: int = 0
    stalled_count: int = 0
    progress: Any = 0
    returned: Any = None
    failed_reason: str | None = None
    stacktrace: tuple[str, ...] = ()
    processed_on: int | None = None
    finished_on: int | None = None
    processed_by: str | None = None
    deferred_failure: str | None = None
    parent: Mapping[str, Any] | None = None
    deduplication_id: str | None = None
    scheduler_id: str | None = None
    crashes: int = 0
    verdicts: tuple[Mapping[str, Any], ...] = ()
    used: Mapping[str, Any] = msgspec.field(default_factory=dict)
    extra: Mapping[str, str] = msgspec.field(default_factory=dict)
    problems: tuple[str, ...] = ()


def added_job(queue: str, job: NewJob, job_id: str, data: Any) -> Job:
    """The job as it was just added; nothing is read for it."""
    options = decode(job.opts)
    return Job(
        id=job_id,
        queue=queue,
        name=job.name,
        data=data,
        options=options,
        timestamp=job.timestamp,
        delay_ms=job.delay_ms,
        priority=job.priority,
        attempts=_attempts(options),
    )


def job_of(queue: str, record: JobRecord) -> Job:
    """The job as its hash says."""
    problems: list[str] = []

    def parsed(field_name: str, text: bytes | None, missing: Any) -> Any:
        if text is None:
            return missing
        try:
            return decode(text)
        except ValueError as error:
            problems.append(f"its {field_name} cannot be read as JSON: {error}")
            return None

    options = parsed("options", record.opts, {})
    stacktrace = parsed("stack traces", record.stacktrace, [])
    verdicts = parsed("verdicts", record.verdicts, [])
    used = parsed("used", record.used, {})
    return Job(
        queue=queue,
        data=parsed("data", record.data, {}),
        options=options if isinstance(options, dict) else {},
        attempts=_attempts(options),
        progress=parsed("progress", record.progress, 0),
        returned=parsed("result", record.returned, None),
        stacktrace=tuple(map(str, stacktrace)) if isinstance(stacktrace, list) else (),
        verdicts=tuple(each for each in verdicts if isinstance(each, dict))
        if isinstance(verdicts, list)
        else (),
        used=used if isinstance(used, dict) else {},
        parent=parsed("parent", record.parent, None),
        problems=tuple(problems),
        **{name: getattr(record, name) for name in _AS_THEY_ARE},
    )


def _attempts(options: Any) -> int:
    attempts = options.get(fields.OPTION_NAMES["attempts"], 0) if isinstance(options, dict) else 0
    return attempts if isinstance(attempts, int) else 0


_AS_THEY_ARE: Final = (
    "id",
    "name",
    "timestamp",
    "delay_ms",
    "priority",
    "attempts_made",
    "attempts_started",
    "stalled_count",
    "failed_reason",
    "processed_on",
    "finished_on",
    "processed_by",
    "deferred_failure",
    "deduplication_id",
    "scheduler_id",
    "crashes",
    "extra",
)
