"""What is done to one job after it was added, and what is set for a queue as a whole.

Each function makes an action that a queue carries out: `await queue.run(change_delay("17", 5_000))`, the same
without await in the blocking client. None of them needs the job's lock; all but where it is said raise
`JobNotFound` for a job that is not there.
"""

from __future__ import annotations

from supervisor import __version__
from supervisor.client.core import Action, Context, ask
from supervisor.errors import JobError, UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.job import (
    AddLog,
    ChangeDelay,
    ChangePriority,
    ClearLog,
    PromoteJob,
    RemoveJob,
    RetryJob,
    UpdateData,
    UpdateProgress,
)
from supervisor.protocol.commands.queue import (
    RegisterQueue,
    RemoveGlobalRateLimit,
    SetGlobalConcurrency,
    SetGlobalRateLimit,
)
from supervisor.protocol.given import check_flags, check_job_ref, kind, shown
from supervisor.protocol.new_job import MAX_DELAY_MS, Json, encode_json, whole
from supervisor.protocol.steps import Steps
from supervisor.protocol.validate import check_priority


def retry(
    job_id: str,
    *,
    state: str = fields.FAILED,
    reset_attempts: bool = False,
    reset_started: bool = False,
) -> Action[None]:
    """Put a job that is in `state` (failed or completed) back to be run again.

    reset_attempts   count its attempts from the start.
    reset_started    forget how often it was started too, which `max_started_attempts` looks at.

    Raises `JobNotInState` when it is not in `state`.
    """
    check_job_ref(job_id)
    if state not in fields.FINISHED:
        raise UsageError(f"only a failed or completed job can be run again, not one that is {shown(state)}")
    check_flags(reset_attempts=reset_attempts, reset_started=reset_started)

    def steps(context: Context) -> Steps[None]:
        return ask(RetryJob(context.keys, job_id, state, reset_attempts, reset_started))

    return steps


def remove(job_id: str) -> Action[None]:
    """Remove a job and what belongs to it, if it is there. One that a worker holds is refused: `JobError`."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[None]:
        if not (yield RemoveJob(context.keys, job_id)):
            raise JobError(f"Job {job_id} could not be removed because it is locked by another worker")

    return steps


def promote(job_id: str) -> Action[None]:
    """Let a delayed job run now. Raises `JobNotInState` when it is not delayed."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[None]:
        return ask(PromoteJob(context.keys, job_id))

    return steps


def change_delay(job_id: str, delay_ms: int) -> Action[None]:
    """Let a delayed job become due `delay_ms` from now. Raises `JobNotInState` when it is not delayed."""
    check_job_ref(job_id)
    whole(0, MAX_DELAY_MS)("delay_ms", delay_ms)

    def steps(context: Context) -> Steps[None]:
        return ask(ChangeDelay(context.keys, job_id, delay_ms, context.clock()))

    return steps


def change_priority(job_id: str, priority: int, *, lifo: bool = False) -> Action[None]:
    """Give a job another priority. A waiting job moves at once; for one that is delayed it counts later.

    priority   0 for none, else 1 (first) to 2_097_151 (last).
    lifo       before all others of the same priority.
    """
    check_job_ref(job_id)
    check_priority(priority)
    check_flags(lifo=lifo)

    def steps(context: Context) -> Steps[None]:
        return ask(ChangePriority(context.keys, job_id, priority, lifo))

    return steps


def update_progress(job_id: str, progress: Json) -> Action[None]:
    """Say how far a job is: a number, or anything JSON can say. Event `progress`.

    Raises `InvalidJob` before anything is sent when JSON cannot say it.
    """
    check_job_ref(job_id)
    text = encode_json(progress, "the progress")

    def steps(context: Context) -> Steps[None]:
        return ask(UpdateProgress(context.keys, job_id, text))

    return steps


def update_data(job_id: str, data: Json) -> Action[None]:
    """Replace a job's data. A run that has begun keeps the old.

    Raises `InvalidJob` before anything is sent when JSON cannot say them.
    """
    check_job_ref(job_id)
    text = encode_json(data, "the data")

    def steps(context: Context) -> Steps[None]:
        return ask(UpdateData(context.keys, job_id, text))

    return steps


def add_log(job_id: str, row: str, *, keep: int = 0) -> Action[int]:
    """Append a row to a job's log, of which the newest `keep` stay (0: all); how many there are now."""
    check_job_ref(job_id)
    if not isinstance(row, str):
        raise UsageError(f"a row of a log is text, not {kind(row)}")
    whole(0)("keep", keep)

    def steps(context: Context) -> Steps[int]:
        return ask(AddLog(context.keys, job_id, row, keep))

    return steps


def clear_log(job_id: str, *, keep: int = 0) -> Action[None]:
    """Forget the rows of a job's log but the newest `keep`. A job that is not there has none."""
    check_job_ref(job_id)
    whole(0)("keep", keep)

    def steps(context: Context) -> Steps[None]:
        return ask(ClearLog(context.keys, job_id, keep))

    return steps


def set_global_concurrency(most: int | None) -> Action[None]:
    """At most so many jobs of the queue are active at a time, over all workers; None for no limit."""
    if most is not None:
        whole(1)("the global concurrency", most)

    def steps(context: Context) -> Steps[None]:
        return ask(SetGlobalConcurrency(context.keys, most))

    return steps


def set_global_rate_limit(most: int | None, *, duration_ms: int = 0) -> Action[None]:
    """At most so many jobs of the queue start in `duration_ms`, over all workers; None for no limit."""
    if most is not None:
        whole(1)("the global rate limit", most)
        whole(1)("duration_ms", duration_ms)

    def steps(context: Context) -> Steps[None]:
        if most is None:
            yield RemoveGlobalRateLimit(context.keys)
        else:
            yield SetGlobalRateLimit(context.keys, most, duration_ms)

    return steps


def register(*, max_events: int = fields.DEFAULT_MAX_EVENTS) -> Action[None]:
    """Store, where nothing is stored yet, about how many events the queue keeps and who made it."""
    whole(0)("max_events", max_events)

    def steps(context: Context) -> Steps[None]:
        return ask(RegisterQueue(context.keys, f"oxherd:{__version__}", max_events))

    return steps
