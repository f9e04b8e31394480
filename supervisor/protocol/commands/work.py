"""What a master sends while it works: outcomes and fetches in one call, locks, the stalled check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.keys import QueueKeys

# --- what became of an attempt -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Completed:
    """The processor returned. `value` is its result as JSON text, carried as it came."""

    job_id: str
    token: str
    value: bytes
    keep: KeepJobs


@dataclass(frozen=True, slots=True)
class Failed:
    """The last attempt failed, or the job must not be tried again.

    reason        raw text for `failedReason`.
    stack         one entry for the `stacktrace` array, or None to add none.
    stack_limit   `stackTraceLimit`: the newest n entries stay; None for all.
    attempts      `opts.attempts`; decides whether `retries-exhausted` is told.
    spare_parent  leave the parent's keys alone: they were found corrupt (see `Code.GUILTY`).
    """

    job_id: str
    token: str
    reason: str
    stack: str | None
    keep: KeepJobs
    attempts: int
    stack_limit: int | None = None
    spare_parent: bool = False


@dataclass(frozen=True, slots=True)
class Retried:
    """The attempt failed and the job waits for another: at once (`delay_ms` 0) or delayed. `atm` + 1."""

    job_id: str
    token: str
    reason: str
    stack: str | None
    delay_ms: int = 0
    lifo: bool = False
    stack_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Postponed:
    """The processor raised `Delayed`: back to delayed, no attempt counted."""

    job_id: str
    token: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class RateLimited:
    """The processor raised `RateLimited`: back to the front, no attempt counted.

    `hold_ms` > 0 also sets the queue's limiter key for so long, as BullMQ's `rateLimit(ms)` does.
    """

    job_id: str
    token: str
    hold_ms: int = 0


@dataclass(frozen=True, slots=True)
class HandedBack:
    """The job was cut off by a stop (I9): front of its queue or of its priority, `ats` - 1, no `processedOn`."""

    job_id: str
    token: str


Outcome = Completed | Failed | Retried | Postponed | RateLimited | HandedBack


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one outcome.

    code   `Code.DONE` when written; else nothing of it was written.
    text   for `Code.GUILTY` what Redis said; for an outcome that a repetition did not write, what was
           seen instead: `written` (its traces are there), `gone` (no hash) or `not ours`.
    """

    code: int
    text: str = ""


# --- what is fetched ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limiter:
    """The worker's own rate limit: at most `max` jobs in `duration_ms`."""

    max: int
    duration_ms: int


@dataclass(slots=True)
class FetchedJob:
    """An active job as the master carries it: data, options and parent stay bytes. `token` is its lock's."""

    id: str
    token: str
    name: str
    data: bytes
    opts: bytes
    timestamp: int
    priority: int
    attempts_made: int
    attempts_started: int
    stalled_count: int
    deferred: str | None
    parent: bytes | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The reply to `FinishAndFetch`.

    written      one entry for each outcome, in their order.
    jobs         what was fetched, at most as many as were asked for.
    dropped      ids that stood on a list without a usable hash; they are off the list now, with the reason.
    limited_ms   > 0: nothing may be fetched for so long (limiter).
    held         the queue is paused or at its global concurrency.
    next_due_ms  epoch milliseconds of the earliest delayed job when nothing was found; 0 for none.
    fetch_error  what Redis said when the fetching half failed; the outcomes stand all the same.
    """

    written: Sequence[Written]
    jobs: Sequence[FetchedJob]
    dropped: Sequence[tuple[str, str]] = ()
    limited_ms: int = 0
    held: bool = False
    next_due_ms: int = 0
    fetch_error: str | None = None


@dataclass(frozen=True, slots=True)
class FinishAndFetch:
    """Write outcomes and take up to `count` jobs of one queue, in one call. Decodes to an `Exchange`.

    call_token   the lock token of every job this call takes; never used for another call.
    now_ms       epoch milliseconds by this host's clock (BullMQ uses the client's clock throughout).
    metrics      points to keep per outcome (`metrics.maxDataPoints`); 0 for none.
    again        this call was sent before and its reply was lost: jobs whose lock holds `call_token` are
                 found in `active` first, and an outcome is written only where its lock still stands.
    """

    script: ClassVar[str] = "finishAndFetch"

    queue: QueueKeys
    call_token: str
    now_ms: int
    lock_ms: int
    count: int
    outcomes: Sequence[Outcome] = ()
    limiter: Limiter | None = None
    worker_name: str = ""
    metrics: int = 0
    again: bool = field(default=False)

    def keys(self) -> Sequence[str]:
        raise NotImplementedError

    def args(self) -> Sequence[Arg]:
        raise NotImplementedError

    def decode(self, reply: Reply) -> Exchange:
        raise NotImplementedError

    def repetition(self) -> FinishAndFetch:
        return replace(self, again=True)


@dataclass(frozen=True, slots=True)
class Lease:
    """A job id with the token its lock should hold."""

    job_id: str
    token: str


@dataclass(frozen=True, slots=True)
class ExtendLocks:
    """Renew locks. Decodes to the ids whose lock is lost."""

    script: ClassVar[str] = "extendLocks"

    queue: QueueKeys
    leases: Sequence[Lease]
    duration_ms: int

    def keys(self) -> list[str]:
        return [self.queue.stalled, *(self.queue.lock(lease.job_id) for lease in self.leases)]

    def args(self) -> list[Arg]:
        return [self.duration_ms, *(part for lease in self.leases for part in (lease.token, lease.job_id))]

    def decode(self, reply: Reply) -> frozenset[str]:
        return frozenset(job_id.decode() for job_id in reply)


@dataclass(frozen=True, slots=True)
class RecoverStalled:
    """One stalled check (core.md section 8). Decodes to the ids that were put back."""

    script: ClassVar[str] = "recoverStalled"

    queue: QueueKeys
    now_ms: int
    interval_ms: int
    max_stalled: int

    def keys(self) -> Sequence[str]:
        raise NotImplementedError

    def args(self) -> Sequence[Arg]:
        raise NotImplementedError

    def decode(self, reply: Reply) -> list[str]:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CountWork:
    """What `run --burst` asks: is anything left? A `ReadCommand`; decodes to a `WorkLeft`."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        raise NotImplementedError

    def decode(self, reply: Reply) -> WorkLeft:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """waiting and prioritized counts, the paused flag, and the first 1,000 delayed ids (for `HGET ats`)."""

    waiting: int
    prioritized: int
    paused: bool
    delayed_ids: Sequence[str]
