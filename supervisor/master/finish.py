"""From what became of an attempt to what is written about it (core.md section 7.5).

Pure: decides retry, delay or final failure. Does not send anything.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import structs

from supervisor.errors import InvalidOptions
from supervisor.master.evidence import Evidence
from supervisor.master.verdicts import (
    CRASHES,
    AskedForChildren,
    AskedForDelay,
    AskedForPause,
    Cause,
    Crashed,
    CutOff,
    GaveUp,
    LockGone,
    Raised,
    Returned,
    Verdict,
)
from supervisor.protocol.backoff import delay_of
from supervisor.protocol.commands.work import (
    AwaitsChildren,
    Completed,
    Failed,
    FetchedJob,
    HandedBack,
    Outcome,
    Postponed,
    RateLimited,
    Retried,
    Told,
)
from supervisor.protocol.job_options import JobOptions, Keep, KeepJobs, backoff_of, resolve_keep
from supervisor.protocol.keys import QueueKeys

BUILT_IN_BACKOFFS = ("fixed", "exponential")
NO_EVIDENCE: Final = Evidence()


class FinishRules(msgspec.Struct, frozen=True):
    """What a worker's settings say about outcomes."""

    keep_completed: Keep | None
    keep_failed: Keep | None
    max_started_attempts: int | None
    dead_letter: QueueKeys | None = None  # gets a copy of each job that fails for good
    max_crashes: int = 2


def outcome_of(
    job: FetchedJob,
    options: JobOptions,
    verdict: Verdict,
    rules: FinishRules,
    rng: Callable[[], float],
    evidence: Evidence | None = None,
) -> Outcome | None:
    """What to write, or None when nothing may be written."""
    match verdict:
        case Returned(value):
            return Completed(
                job.id, job.token, value, resolve_keep(options.remove_on_complete, rules.keep_completed)
            )
        case Raised(cause=None):
            return _failure(job, options, verdict, rules, rng)
        case Raised() | Crashed():
            return _with_verdict(job, options, verdict, rules, rng, evidence or NO_EVIDENCE)
        case AskedForDelay(delay_ms):
            return Postponed(job.id, job.token, delay_ms)
        case AskedForPause(delay_ms):
            return RateLimited(job.id, job.token, delay_ms)
        case GaveUp(reason=reason, stack=stack):
            return _failure(job, options, Raised(reason, stack, final=True), rules, rng)
        case AskedForChildren():
            return AwaitsChildren(job.id, job.token)
        case CutOff(cause, why):
            known = evidence or NO_EVIDENCE
            told = Told(known.record(cause, why), [f"verdict: {why}"]) if why else None
            return HandedBack(job.id, job.token, told)
        case LockGone():
            return None


def _with_verdict(
    job: FetchedJob,
    options: JobOptions,
    verdict: Raised | Crashed,
    rules: FinishRules,
    rng: Callable[[], float],
    evidence: Evidence,
) -> Outcome:
    """The failure of an attempt that did not end by its processor's own word, with what is told of it."""
    raised, is_crash, crashes = _as_raised(verdict, evidence), verdict.cause in CRASHES, job.crashes
    crashes += is_crash
    if is_crash and crashes >= rules.max_crashes and not raised.final and _may_retry(job, options, rules):
        raised = structs.replace(
            raised, final=True, reason=f"quarantined after {_times(crashes)}: {raised.reason}"
        )
    outcome = _failure(job, options, raised, rules, rng)
    assert isinstance(outcome, Failed | Retried) and verdict.cause is not None
    further = {"attempt": job.attempts_made + 1, "crashes": crashes, "final": isinstance(outcome, Failed)}
    told = Told(
        evidence.record(verdict.cause, outcome.reason, **further),
        evidence.rows(verdict.cause, outcome.reason),
        is_crash,
        max(0, options.keep_logs or 0),
    )
    if verdict.cause is Cause.CANCELLED and isinstance(outcome, Failed):
        outcome = structs.replace(outcome, dead_letter=None)  # somebody has decided: nobody need look at it
    return structs.replace(outcome, told=told)


def once_more(job: FetchedJob, options: JobOptions, verdict: Crashed, evidence: Evidence) -> HandedBack:
    """It met its memory limit and may run once more with a larger one: no attempt burnt, no crash counted."""
    attempt = {"attempt": job.attempts_made + 1, "crashes": job.crashes, "final": False}
    rows = [*evidence.rows(verdict.cause, verdict.reason), "run once more, alone, with twice the memory"]
    told = Told(
        evidence.record(verdict.cause, verdict.reason, **attempt),
        rows,
        keep_rows=max(0, options.keep_logs or 0),
        is_bigger=True,
    )
    return HandedBack(job.id, job.token, told)


def _as_raised(verdict: Raised | Crashed, evidence: Evidence) -> Raised:
    """With a stack in any case: the reason, and what the threads were doing."""
    if isinstance(verdict, Raised):
        return structs.replace(verdict, stack=verdict.stack or verdict.reason)
    stack = verdict.stack or evidence.python_stack
    return Raised(verdict.reason, f"{verdict.reason}\n{stack}" if stack else verdict.reason, verdict.final)


def _times(crashes: int) -> str:
    return "1 crash" if crashes == 1 else f"{crashes} crashes"


def _failure(
    job: FetchedJob, options: JobOptions, verdict: Raised, rules: FinishRules, rng: Callable[[], float]
) -> Outcome:
    reason, delay_ms = verdict.reason, -1
    if not verdict.final and _may_retry(job, options, rules):
        try:
            delay_ms = _delay_ms(options, job.attempts_made + 1, verdict, rng)
        except InvalidOptions as error:
            reason = f"{verdict.reason} (not tried again: {error})"
    if delay_ms >= 0:
        return Retried(
            job.id, job.token, reason, verdict.stack, delay_ms, options.lifo, options.stack_trace_limit
        )
    keep = keep_failed(options, rules)
    return Failed(
        job.id,
        job.token,
        reason,
        verdict.stack,
        keep,
        options.attempts,
        options.stack_trace_limit,
        dead_letter=rules.dead_letter,
    )


def _may_retry(job: FetchedJob, options: JobOptions, rules: FinishRules) -> bool:
    if job.attempts_made + 1 >= options.attempts:
        return False
    return rules.max_started_attempts is None or job.attempts_started < rules.max_started_attempts


def _delay_ms(options: JobOptions, attempt: int, raised: Raised, rng: Callable[[], float]) -> int:
    """The pause before the next attempt; -1 for none.

    First what the exception said, then the job's own built-in backoff, then the processor's.
    """
    if raised.retry_after_ms is not None:
        return raised.retry_after_ms
    backoff = backoff_of(options)
    if backoff is not None and backoff.type in BUILT_IN_BACKOFFS:
        return delay_of(backoff, attempt, rng)
    if raised.backoff_ms is not None:
        return raised.backoff_ms
    return 0 if backoff is None else delay_of(backoff, attempt, rng)  # raises: nobody knows this type


def refuse_to_run(job: FetchedJob, rules: FinishRules, started_too_often: str) -> Raised | None:
    """The failure of a job that must not be run at all, or None when it may."""
    if job.deferred is not None:
        return Raised(job.deferred, final=True)
    if rules.max_started_attempts is not None and job.attempts_started > rules.max_started_attempts:
        return Raised(started_too_often, final=True)
    return None


def keep_failed(options: JobOptions, rules: FinishRules) -> KeepJobs:
    """How long a failed job stays: its own option, else the worker's."""
    return resolve_keep(options.remove_on_fail, rules.keep_failed)
