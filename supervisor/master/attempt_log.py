"""The canonical log line: one for each attempt, when its outcome is written."""

from __future__ import annotations

from typing import Any, Final

from supervisor.master.attempt import Attempt
from supervisor.master.messages import Used
from supervisor.master.verdicts import Returned, cause_of
from supervisor.observe.log import get
from supervisor.protocol.commands.work import (
    AwaitsChildren,
    Completed,
    Failed,
    HandedBack,
    Outcome,
    Postponed,
    RateLimited,
    Retried,
)

log = get("dispatcher")

DELAY: Final = b'"delay"'  # in the options of a job


def facts_of(queue: str, attempt: Attempt) -> dict[str, Any]:
    """What every line about an attempt begins with."""
    job = attempt.job
    return {"queue": queue, "job_id": job.id, "job_name": job.name, "attempt": job.attempts_made + 1}


def figures_of(attempt: Attempt) -> dict[str, Any]:
    """Of an end that was not its processor's own word: the cause, and what was measured."""
    cause = cause_of(attempt.verdict) if attempt.verdict is not None else None
    if cause is None:
        return {}
    found: dict[str, Any] = {"cause": str(cause)}
    if (known := attempt.evidence) is not None:
        found |= {"runner": known.runner, "peak_bytes": known.peak_bytes, "cpu_ms": known.cpu_ms}
    return found


def usage_of(attempt: Attempt, used: Used, offset_s: float) -> dict[str, int]:
    """What was measured of an attempt; what is not known is left out.

    offset_s   from the clock of attempts to epoch seconds.
    """
    job = attempt.job
    found = {"attempt": job.attempts_made + 1}
    if job.attempts_started == 1 and DELAY not in job.opts:
        # Of a later start, and of a job with a delay, the wait was somebody's wish.
        found["waited_ms"] = max(0, round((attempt.fetched_at + offset_s) * 1000 - job.timestamp))
    found |= {
        "start_ms": round((attempt.started_at - attempt.fetched_at) * 1000),
        "ran_ms": round((attempt.ended_at - attempt.started_at) * 1000),
        "user_ms": used.user_ms,
        "system_ms": used.system_ms,
        "read_bytes": used.read_bytes,
        "written_bytes": used.written_bytes,
    }
    most = {"peak_bytes": attempt.peak_bytes, "processes": attempt.processes}
    return found | {name: value for name, value in most.items() if value}


def log_outcome(queue: str, attempt: Attempt, outcome: Outcome) -> None:
    facts = facts_of(queue, attempt)
    if attempt.started_at:
        facts["ran_ms"] = round((attempt.ended_at - attempt.started_at) * 1000)
    if attempt.figures is not None:
        facts |= attempt.figures
    if type(attempt.verdict) is not Returned:
        facts |= figures_of(attempt)
    match outcome:
        case Completed():
            log.info("job.completed", **facts)
        case Failed():
            log.error("job.failed", **facts, reason=outcome.reason)
        case Retried():
            log.warning("job.retried", **facts, reason=outcome.reason, delay_ms=outcome.delay_ms)
        case Postponed():
            log.info("job.delayed", **facts, delay_ms=outcome.delay_ms)
        case RateLimited():
            log.info("job.rate_limited", **facts, delay_ms=outcome.hold_ms)
        case HandedBack():
            log.info("job.handed_back", **facts)
        case AwaitsChildren():
            log.info("job.waiting_for_children", **facts)
