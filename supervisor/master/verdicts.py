"""Verdicts: what became of an attempt, as values. What is written about each is finish.py's decision."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec


class Returned(msgspec.Struct, frozen=True):
    """The processor returned; `value` is JSON text that nobody here parses."""

    value: bytes


class Cause(StrEnum):
    """Why an attempt ended otherwise than by its processor's returning or raising. Stable words: they are
    written into Redis, the log and the metrics.
    """

    MEMORY_LIMIT = "memory_limit"
    HOST_MEMORY = "host_out_of_memory"
    SIGNAL = "signal"  # one that nobody of us sent: a crash in C, or somebody else's kill
    EXIT = "exit"  # the process exited before the job was done
    WALL_TIME = "wall_time"
    CPU_TIME = "cpu_time"
    NO_PROGRESS = "no_progress"
    PROCESSES = "processes"
    OUTPUT = "output"
    CANCELLED = "cancelled"
    STOPPED = "stopped"  # by an operator
    NOT_BEGUN = "not_begun"  # it was sent ahead of a slot, and the job before it took too long
    NO_RUNNER = "no_runner"  # the template or the runner could not be had
    BAD_FRAME = "bad_frame"
    BAD_RESULT = "bad_result"  # unserialisable or too large
    LOST_LOCK = "lost_lock"


# What counts towards `max_crashes`: the process died, or was killed for what its job did. Not for what it did
# not do: a job that waits too long for something may well be done the next time, and `attempts` decide.
CRASHES: Final = frozenset(
    {
        Cause.MEMORY_LIMIT,
        Cause.HOST_MEMORY,
        Cause.SIGNAL,
        Cause.EXIT,
        Cause.CPU_TIME,
        Cause.PROCESSES,
        Cause.OUTPUT,
        Cause.BAD_FRAME,
    }
)


class Raised(msgspec.Struct, frozen=True):
    """The attempt failed.

    final            whatever `attempts` say.
    backoff_ms       what the processor's own backoff said; None without one.
    retry_after_ms   what the exception said of the next attempt: goes before any backoff. None: nothing.
    cause            why, when it was not for what the processor's own code raised.
    """

    reason: str
    stack: str | None = None
    final: bool = False
    backoff_ms: int | None = None
    retry_after_ms: int | None = None
    cause: Cause | None = None


class Crashed(msgspec.Struct, frozen=True):
    """The attempt was ended from outside the processor's own code, or died.

    reason   one sentence that stands alone: it becomes `failedReason`.
    final    whatever `attempts` say.
    """

    cause: Cause
    reason: str
    stack: str | None = None
    final: bool = False


class AskedForDelay(msgspec.Struct, frozen=True):
    delay_ms: int


class AskedForPause(msgspec.Struct, frozen=True):
    """`RateLimited`: back to the front, and nothing from this queue for a while."""

    delay_ms: int


class AskedForChildren(msgspec.Struct, frozen=True):
    """`WaitingChildren`: run again when the children that are pending are done."""


class GaveUp(msgspec.Struct, frozen=True):
    """`Cancelled` left the processor. Whether somebody has asked for that, cancelling.py knows."""

    reason: str
    stack: str | None = None


class CutOff(msgspec.Struct, frozen=True):
    """Ended by us for no fault of its own (I9): handed back unharmed.

    why   for the job's log; empty for jobs that had not begun, of which a stop may hand back thousands.
    """

    cause: Cause = Cause.STOPPED
    why: str = ""


class LockGone(msgspec.Struct, frozen=True):
    """The lock is lost or no longer trusted (I3): nothing is written."""

    why: str


def cause_of(verdict: Verdict) -> Cause | None:
    """Why it did not end by its processor's own word; None when it did."""
    if type(verdict) is Returned:  # first, because nearly all are
        return None
    if isinstance(verdict, Crashed | Raised | CutOff):
        return verdict.cause
    return Cause.LOST_LOCK if isinstance(verdict, LockGone) else None


Verdict = (
    Returned
    | Raised
    | Crashed
    | AskedForDelay
    | AskedForPause
    | AskedForChildren
    | GaveUp
    | CutOff
    | LockGone
)
