"""What is done to a queue as a whole, to many of its jobs at once, and to its deduplication ids.

Each function makes an action that a queue carries out: `await queue.run(retry_all())`, the same without await
in the blocking client. What takes many jobs goes in slices of some milliseconds, so that others have their
turn with Redis between them: what happens to the queue meanwhile stands beside it, not before or after.
"""

from __future__ import annotations

from supervisor.client.core import Action, Context, ask
from supervisor.errors import UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.deduplication import GetDeduplicationOwner, RemoveDeduplication
from supervisor.protocol.commands.limits import GetRateLimitTtl, IsMaxed
from supervisor.protocol.commands.manage import (
    RemoveDeprecatedPriority,
    clean_jobs,
    drain_queue,
    obliterate_queue,
    promote_jobs,
    retry_jobs,
    trim_events,
)
from supervisor.protocol.commands.orphans import remove_orphans
from supervisor.protocol.commands.queue import RateLimitQueue
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.given import check_flags, check_job_ref, check_state, shown
from supervisor.protocol.new_job import MAX_DELAY_MS, whole
from supervisor.protocol.steps import Steps

# --- many jobs at once --------------------------------------------------------------------------------


def drain(*, delayed: bool = False) -> Action[int]:
    """Remove the jobs that wait, and with `delayed` those that are delayed too; how many. Emits no event."""
    check_flags(delayed=delayed)

    def steps(context: Context) -> Steps[int]:
        return drain_queue(context.keys, context.clock(), delayed=delayed)

    return steps


def clean(state: str = fields.COMPLETED, *, grace_ms: int = 0, limit: int | None = None) -> Action[list[str]]:
    """Remove the jobs in `state` that are older than `grace_ms`, at most `limit`; their ids. Event `cleaned`.

    The age is counted from the end of a finished job, else from its start, else from when it was made. Of
    active jobs those that a worker holds stay; so does the job for which a scheduler waits.
    """
    check_state(state, fields.STATES)
    whole(0, MAX_DELAY_MS)("grace_ms", grace_ms)
    if limit is not None:
        whole(1)("limit", limit)

    def steps(context: Context) -> Steps[list[str]]:
        return clean_jobs(context.keys, state, context.clock(), grace_ms=grace_ms, limit=limit)

    return steps


def obliterate(*, force: bool = False) -> Action[None]:
    """Remove a queue with everything it has. It is paused first and stays so when this is refused.

    force   although jobs are active; their workers lose them. Without it that is a `UsageError`.
    """
    check_flags(force=force)

    def steps(context: Context) -> Steps[None]:
        return obliterate_queue(context.keys, context.clock(), force=force)

    return steps


def retry_all(
    state: str = fields.FAILED,
    *,
    limit: int | None = None,
    before_on: int | None = None,
    reset_attempts: bool = False,
) -> Action[int]:
    """Put jobs that are in `state` (failed or completed) back to be run again, the oldest first; how many.

    limit            at most so many.
    before_on        only those that ended until then, in epoch milliseconds; until now if not given.
    reset_attempts   count their attempts from the start.
    """
    if state not in fields.FINISHED:
        raise UsageError(f"only failed or completed jobs can be run again, not those that are {shown(state)}")
    check_flags(reset_attempts=reset_attempts)
    if limit is not None:
        whole(1)("limit", limit)
    if before_on is not None:
        whole(0)("before_on", before_on)

    def steps(context: Context) -> Steps[int]:
        until = context.clock() if before_on is None else before_on
        return retry_jobs(context.keys, state, until, limit=limit, reset_attempts=reset_attempts)

    return steps


def promote_all(*, limit: int | None = None) -> Action[int]:
    """Let delayed jobs run now, those due first at first, at most `limit`; how many."""
    if limit is not None:
        whole(1)("limit", limit)

    def steps(context: Context) -> Steps[int]:
        return promote_jobs(context.keys, limit=limit)

    return steps


def remove_orphaned(*, limit: int | None = None) -> Action[int]:
    """Remove what is left of jobs that are in no state, of at most `limit` of them; how many there were."""
    if limit is not None:
        whole(1)("limit", limit)

    def steps(context: Context) -> Steps[int]:
        return remove_orphans(context.keys, limit=limit)

    return steps


def remove_deprecated_priority() -> Action[bool]:
    """Delete what BullMQ 3 kept of priorities, which no later version reads; False when there was none."""

    def steps(context: Context) -> Steps[bool]:
        return ask(RemoveDeprecatedPriority(context.keys))

    return steps


def forget_events(keep: int = 0) -> Action[int]:
    """Forget the queue's oldest events until about `keep` are left; how many."""
    whole(0)("keep", keep)

    def steps(context: Context) -> Steps[int]:
        return trim_events(context.keys, keep)

    return steps


# --- what holds a queue back --------------------------------------------------------------------------


def rate_limit(hold_ms: int) -> Action[None]:
    """Let no job of the queue start for `hold_ms`. It binds workers and queues that have a rate limit."""
    whole(1, MAX_DELAY_MS)("hold_ms", hold_ms)

    def steps(context: Context) -> Steps[None]:
        return ask(RateLimitQueue(context.keys, hold_ms))

    return steps


def remove_rate_limit() -> Action[None]:
    """Let jobs start again that a rate limit holds back now; the limit itself stays."""

    def steps(context: Context) -> Steps[None]:
        return ask(RateLimitQueue(context.keys, 0))

    return steps


def rate_limit_ttl_ms(max_jobs: int | None = None) -> Action[int]:
    """How many milliseconds no job is started for the rate's sake; 0 when jobs are.

    max_jobs   as many as a worker's limiter allows; else the queue's own rate counts, if it has one.
    """
    if max_jobs is not None:
        whole(1)("max_jobs", max_jobs)

    def steps(context: Context) -> Steps[int]:
        return ask(GetRateLimitTtl(context.keys, max_jobs))

    return steps


def is_maxed() -> Action[bool]:
    """Whether as many jobs are active as the queue's global concurrency allows."""

    def steps(context: Context) -> Steps[bool]:
        return ask(IsMaxed(context.keys))

    return steps


# --- deduplication ------------------------------------------------------------------------------------


def deduplication_owner(deduplication_id: str) -> Action[str | None]:
    """The id of the job that stands for a deduplication id; None when the next one would be added."""
    _check_id(deduplication_id)

    def steps(context: Context) -> Steps[str | None]:
        return ask(GetDeduplicationOwner(context.keys, deduplication_id))

    return steps


def remove_deduplication(deduplication_id: str, *, job_id: str | None = None) -> Action[bool]:
    """Let a deduplication id go, whosever it is, so that the next job of it is added; whether it was there.

    job_id   only if this job owns it.
    """
    _check_id(deduplication_id)
    if job_id is not None:
        check_job_ref(job_id)

    def steps(context: Context) -> Steps[bool]:
        return ask(RemoveDeduplication(context.keys, deduplication_id, job_id or ""))

    return steps


def _check_id(deduplication_id: str) -> None:
    Deduplication(deduplication_id)  # raises `InvalidJob`
