"""Dead letters: the copies of jobs that failed for good, read and replayed.

Each function makes an action that the queue of dead letters carries out: `await queue.run(replay("17"))`, the
same without await in the blocking client. A dead letter is an ordinary job whose data tells of the one that
failed; whoever can read jobs can read it (docs/how-to/dead-letter-queue.md has the fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor.client.core import Action, Context, check_range
from supervisor.client.job import Job, job_of
from supervisor.errors import JobError, JobNotFound
from supervisor.protocol import fields
from supervisor.protocol.commands.dead_letter import (
    NO_LETTER,
    ReplayDeadLetters,
    Replayed,
    replay_letters,
)
from supervisor.protocol.commands.read import GetJob, GetJobIds, GetJobs
from supervisor.protocol.given import check_job_ref, clipped
from supervisor.protocol.job_record import JobRecord
from supervisor.protocol.jsontext import decode
from supervisor.protocol.new_job import whole
from supervisor.protocol.steps import Steps
from supervisor.protocol.validate import check_queue_name

__all__ = ["DeadLetter", "Replayed", "dead_letter", "dead_letters", "replay", "replay_all"]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter.

    id            of the letter, in the queue of dead letters.
    queue, job_id, name
                  the job that failed.
    data, options
                  what that job was to do; None where its text is no JSON.
    failed_reason, stacktrace, attempts_made
                  how it failed.
    timestamp, finished_on
                  epoch milliseconds: made, failed for good.
    verdicts      as those of a `Job`.
    extra         other fields of Oxherd's own in the job's hash, as text.
    problems      one sentence for each thing that could not be understood; one for a job that is no letter.
    """

    id: str
    queue: str = ""
    job_id: str = ""
    name: str = ""
    data: Any = None
    options: Any = None
    failed_reason: str = ""
    stacktrace: tuple[str, ...] = ()
    attempts_made: int = 0
    timestamp: int = 0
    finished_on: int = 0
    verdicts: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, str] = msgspec.field(default_factory=dict)
    problems: tuple[str, ...] = ()


def dead_letters(start: int = 0, end: int = 99) -> Action[list[DeadLetter]]:
    """The letters that wait, oldest first, from place `start` to `end`, both included; -1 is the last."""
    check_range(start, end)

    def steps(context: Context) -> Steps[list[DeadLetter]]:
        ids = yield GetJobIds(context.keys, fields.WAITING, start, end, False)
        records = (yield GetJobs(context.keys, ids)) if ids else []
        return [_letter_of(record) for record in records if record is not None]

    return steps


def dead_letter(letter_id: str) -> Action[DeadLetter | None]:
    """One letter by its own id; None if there is none."""
    check_job_ref(letter_id)

    def steps(context: Context) -> Steps[DeadLetter | None]:
        record = yield GetJob(context.keys, letter_id)
        return None if record is None else _letter_of(record)

    return steps


def replay(letter_id: str, *, to: str | None = None) -> Action[Replayed]:
    """Let the job of a letter run again with fresh attempts, and remove the letter; where the job waits now.

    A job that is still in failed is put back under its id; else it is added anew, with the id its producer
    gave it or a new number.

    to   the queue that gets it; its own one if not given.

    Raises `JobNotFound` for a letter that is not there, and `JobError` when the letter is left as it is: the
    job was put back before, or another job has its id.
    """
    check_job_ref(letter_id)
    if to is not None:
        check_queue_name(to)

    def steps(context: Context) -> Steps[Replayed]:
        (result,) = yield ReplayDeadLetters(context.keys, context.clock(), to, [letter_id])
        if not result.done:
            kind = JobNotFound if result.why == NO_LETTER else JobError
            raise kind(
                f"dead letter {clipped(letter_id)} of {context.keys.name} is not replayed: {result.why}"
            )
        return result  # type: ignore[no-any-return]

    return steps


def replay_all(*, to: str | None = None, limit: int | None = None) -> Action[list[Replayed]]:
    """Replay the letters that wait, oldest first, at most `limit`; what became of each.

    It goes in slices, so that others have their turn with Redis. Letters that come meanwhile are left; those
    that are left for a reason (`why`) stand behind the others then.
    """
    if to is not None:
        check_queue_name(to)
    if limit is not None:
        whole(1)("limit", limit)

    def steps(context: Context) -> Steps[list[Replayed]]:
        return replay_letters(context.keys, context.clock(), to=to, limit=limit)

    return steps


def _letter_of(record: JobRecord) -> DeadLetter:
    try:
        told = decode(record.data)
    except ValueError:
        told = _bent(record.data)
    if not (isinstance(told, dict) and all(isinstance(told.get(name), str) for name in _TEXTS)):
        return DeadLetter(id=record.id, name=record.name, problems=("it is no dead letter",))
    # Data, options and stack traces are read as any job's are, with the same sentences for what is broken.
    stacktrace, found = told.get(fields.STACKTRACE), told.get(fields.LETTER_EXTRA)
    extra = found if isinstance(found, dict) else {}
    verdicts = extra.pop(fields.VERDICTS, None)
    job: Job = job_of(
        told[fields.LETTER_QUEUE],
        JobRecord(
            id=told[fields.LETTER_ID],
            data=_raw(told[fields.DATA]),
            opts=_raw(told[fields.OPTS]),
            verdicts=_raw(verdicts) if isinstance(verdicts, str) else None,
        ),
    )
    unread = {problem.split()[1] for problem in job.problems}
    return DeadLetter(
        id=record.id,
        queue=job.queue,
        job_id=job.id,
        name=told[fields.NAME],
        data=job.data,
        options=None if "options" in unread else job.options,
        failed_reason=str(told.get(fields.FAILED_REASON, "")),
        stacktrace=tuple(map(str, stacktrace)) if isinstance(stacktrace, list) else (),
        attempts_made=_number(told.get(fields.ATTEMPTS_MADE_LEGACY)),
        timestamp=_number(told.get(fields.TIMESTAMP)),
        finished_on=_number(told.get(fields.FINISHED_ON)),
        verdicts=job.verdicts,
        extra=extra,
        problems=job.problems,
    )


_TEXTS = (fields.LETTER_QUEUE, fields.LETTER_ID, fields.NAME, fields.DATA, fields.OPTS)


def _bent(text: bytes) -> Any:
    """A letter about data that is not UTF-8: shown as well as it can be; replaying keeps every byte."""
    try:
        return decode(text.decode("utf-8", "replace").encode())
    except ValueError:
        return None


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _number(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0
