"""The negative replies of the scripts and the errors they become (core.md section 6.1)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from supervisor.errors import JobError, JobNotFound, JobNotInState, LockLost
from supervisor.protocol.given import clipped


class Code(IntEnum):
    """What a script says of one job. Negative values are BullMQ's; see also `GUILTY`."""

    DONE = 0
    NO_JOB = -1
    NO_LOCK = -2
    NOT_IN_STATE = -3
    PENDING_CHILDREN = -4
    NO_PARENT = -5
    OTHER_LOCK = -6
    OTHER_PARENT = -7
    OF_SCHEDULER = -8
    FAILED_CHILDREN = -9
    ID_COLLISION = -10
    SLOTS_BUSY = -11
    # Ours: something the job touches has a wrong type or the write was refused; the text tells what.
    GUILTY = -100
    CYCLE = -101  # a job that would wait, through others, for itself
    PARENT_ENDED = -102
    FULL = -103  # more jobs would wait than the producer allows; the text tells how many do


_TEXTS: Final[dict[int, tuple[type[JobError], str]]] = {
    Code.NO_JOB: (JobNotFound, "Missing key for job {id}. {call}"),
    Code.NO_LOCK: (LockLost, "Missing lock for job {id}. {call}"),
    Code.NOT_IN_STATE: (JobNotInState, "Job {id} is not in the {state} state. {call}"),
    Code.PENDING_CHILDREN: (JobError, "Job {id} has pending dependencies. {call}"),
    Code.NO_PARENT: (JobNotFound, "Missing key for parent job {parent}. {call}"),
    Code.OTHER_LOCK: (LockLost, "Lock mismatch for job {id}. Cmd {call} from {state}"),
    Code.OTHER_PARENT: (JobError, "The parent job {parent} cannot be replaced. {call}"),
    Code.CYCLE: (JobError, "The parent job {parent} waits, directly or not, for job {id} itself. {call}"),
    Code.PARENT_ENDED: (
        JobNotInState,
        "The parent job {parent} has ended and takes no more children. {call}",
    ),
    Code.OF_SCHEDULER: (
        JobError,
        "Job {id} belongs to a job scheduler and cannot be removed directly. {call}",
    ),
    Code.FAILED_CHILDREN: (
        JobError,
        "Cannot complete job {id} because it has at least one failed child. {call}",
    ),
}


def error_of(
    code: int, *, job_id: str, call: str, state: str = "active", parent: str = "undefined"
) -> JobError:
    """The error for a negative `code`, with BullMQ's text, so that users find it by searching."""
    job_id, parent = clipped(job_id), clipped(parent)
    if code not in _TEXTS:
        return JobError(f"Unknown code {code} error for {job_id}. {call}", status=code)
    kind, text = _TEXTS[code]
    return kind(text.format(id=job_id, call=call, state=state, parent=parent), status=code)
