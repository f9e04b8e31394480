"""Verdicts: what became of an attempt, as values. What is written about each is finish.py's decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Returned:
    """The processor returned; `value` is JSON text that nobody here parses."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Raised:
    """The attempt failed.

    final            whatever `attempts` say.
    backoff_ms       what the processor's own backoff said; None without one.
    retry_after_ms   what the exception said of the next attempt: goes before any backoff. None: nothing.
    """

    reason: str
    stack: str | None = None
    final: bool = False
    backoff_ms: int | None = None
    retry_after_ms: int | None = None


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
    NO_RUNNER = "no_runner"  # the template or the runner could not be had
    BAD_FRAME = "bad_frame"
    BAD_RESULT = "bad_result"  # unserialisable or too large
    LOST_LOCK = "lost_lock"


@dataclass(frozen=True, slots=True)
class Crashed:
    """The attempt was ended from outside the processor's own code, or died.

    reason   one sentence that stands alone: it becomes `failedReason`.
    final    whatever `attempts` say.
    """

    cause: Cause
    reason: str
    stack: str | None = None
    final: bool = False


@dataclass(frozen=True, slots=True)
class AskedForDelay:
    delay_ms: int


@dataclass(frozen=True, slots=True)
class AskedForPause:
    """`RateLimited`: back to the front, and nothing from this queue for a while."""

    delay_ms: int


@dataclass(frozen=True, slots=True)
class AskedForChildren:
    """`WaitingChildren`: run again when the children that are pending are done."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """Stopped by us before it ended (I9): handed back unharmed."""


@dataclass(frozen=True, slots=True)
class LockGone:
    """The lock is lost or no longer trusted (I3): nothing is written."""

    why: str


Verdict = Returned | Raised | Crashed | AskedForDelay | AskedForPause | AskedForChildren | CutOff | LockGone
