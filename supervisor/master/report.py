"""What USR1 asks for: one log line for each slot and job, and the stacks of those who work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.observe.log import get

if TYPE_CHECKING:
    from supervisor.master.worker import Worker

log = get("worker")


def report(worker: Worker, now: float) -> None:
    """One line for each job at work, and for each slot without one; and the stacks of who works.

    now   monotonic seconds.
    """
    for slot in worker.slots:
        runner = slot.runner
        here = {
            "queue": worker.keys.name,
            "slot": slot.number,
            "runner": runner.pid if runner is not None else None,
            "phase": runner.phase.value if runner is not None else "empty",
        }
        if worker.health.why:
            here["degraded"] = worker.health.why
        for attempt in (runner.attempts.values() if runner is not None else ()) or (None,):
            job_id = running_ms = None
            if attempt is not None:
                job_id = attempt.job.id
                running_ms = round((now - attempt.started_at) * 1000) if attempt.started_at else None
            log.info("slot.reported", **here, job_id=job_id, running_ms=running_ms)
        if runner is not None and runner.faults is not None and runner.attempts:
            runner.faults.dump(runner.pid, runner.pidfd)
