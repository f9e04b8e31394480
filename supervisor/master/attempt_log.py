"""The canonical log line: one for each attempt, when its outcome is written."""

from __future__ import annotations

from typing import Any

from supervisor.master.attempt import Attempt
from supervisor.master.verdicts import cause_of
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


def log_outcome(queue: str, attempt: Attempt, outcome: Outcome) -> None:
    facts = facts_of(queue, attempt)
    if attempt.started_at:
        facts["ran_ms"] = round((attempt.ended_at - attempt.started_at) * 1000)
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
