"""A snapshot: what one master knows of itself at this moment, as plain JSON values.

For the control socket, the metrics, the heartbeat and the judgement of whether it works at all; they agree
because they all read this. Decides nothing, waits for nothing, asks neither Redis nor the kernel: it may be
taken at any time and costs some microseconds a slot. What is not known is None, never 0.

Every `..._ago_ms` and `..._ms` is counted to the moment of the snapshot.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import structs

from supervisor import __version__
from supervisor.master.attempt import Attempt
from supervisor.master.phases import Phase
from supervisor.master.probes import STARTING
from supervisor.master.runner import Runner, Slot
from supervisor.master.status import line
from supervisor.master.worker import Worker
from supervisor.protocol.jsontext import decode

if TYPE_CHECKING:
    from supervisor.master.main import Master

LONGEST_PROGRESS = 1_024  # bytes; what is longer is no number and no short word, and left out

Trees = Mapping[int, Any]  # what is known of a runner's process tree, by its pid


def snapshot(master: Master, trees: Trees | None = None) -> dict[str, Any]:
    """What `master` knows now. `trees`: figures of its runners' process trees, where they are sampled."""
    now = master.loop.time()
    runners = master.runners
    limits_by = "sampling" if runners.groups is None else "cgroup"
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "version": __version__,
        "generation": master.generation,
        "started_on": master.started_on,
        "pool": _pool(master),
        "queues": [_queue(worker, limits_by, now) for worker in master.workers],
        "slots": [
            _slot(worker, slot, now, trees or {}) for worker in master.workers for slot in worker.slots
        ],
        "redis": _redis(master, now),
        "proof": _proof(master),
        "runners": {
            "templates": [each.pid for each in runners.nurseries if each.pid],
            "strays": runners.strays,
            "spares": [_spare(each, now, trees or {}) for each in runners.spares.runners()],
        },
    }


def _proof(master: Master) -> dict[str, Any]:
    """The last judgement of the watchdog, and the line it told the service manager."""
    dog = master.watchdog
    if dog is None:
        return {**structs.asdict(STARTING), "line": STARTING.why}
    return {**structs.asdict(dog.judged), "line": line(dog.facts)}


def _pool(master: Master) -> dict[str, Any] | None:
    """`slots` are those that its queues share; None where there is none."""
    pool = master.pool
    if not pool.seats:
        return None
    return {
        "slots": pool.slots,
        "busy": sum(each.dispatcher.busy() for each in master.workers if each.member),
    }


def _redis(master: Master, now: float) -> dict[str, Any]:
    redis = master.redis
    return {
        "address": str(master.address),
        "connected": redis is not None and redis.connected,
        "answered_ago_ms": _ago_ms(redis.answered_at, now) if redis is not None else None,
    }


def _queue(worker: Worker, limits_by: str, now: float) -> dict[str, Any]:
    """`slots` counts jobs that may run at a time, `busy` those that do; of a pool those that it has now."""
    dispatcher, fetcher = worker.dispatcher, worker.fetcher
    renewed_s = worker.leases.oldest_s()
    return {
        "name": worker.keys.name,
        "slots": sum(slot.room for slot in worker.slots),
        "pool": structs.asdict(worker.settings.share) if worker.settings.share is not None else None,
        "busy": dispatcher.busy(),
        "quiet": fetcher.quiet,
        "held": fetcher.why_held,
        "degraded": worker.health.why,
        "done": dispatcher.done,
        "failed": dispatcher.failed_for_good,
        "fetched_ago_ms": _ago_ms(fetcher.fetched_at, now),
        "renewed_ago_ms": None if renewed_s is None else round(renewed_s * 1000),
        "limits_by": limits_by,
        "unkept": worker.unkept,
    }


def _slot(worker: Worker, slot: Slot, now: float, trees: Trees) -> dict[str, Any]:
    runner = slot.runner
    known: dict[str, Any] = {
        "number": slot.number,
        "queue": worker.keys.name,
        "runner": None,
        "phase": "empty",
        "generation": slot.nursery.generation,
        "served": None,
        "age_ms": None,
        "jobs": [],
        "tree": None,
    }
    if runner is not None:
        known |= {
            "runner": runner.pid,
            "phase": runner.phase.value,
            "generation": runner.nursery.generation,
            "served": runner.served,
            "age_ms": _ago_ms(runner.born_at, now),
            "jobs": [_job(worker, attempt, now) for attempt in runner.attempts.values()],
            "tree": trees.get(runner.pid),
        }
    return known


def _spare(runner: Runner, now: float, trees: Trees) -> dict[str, Any]:
    """A runner that is kept ready for the slots, where one has to import before it is."""
    return {
        "runner": runner.pid,
        "phase": "spare" if runner.phase is Phase.IDLE else runner.phase.value,
        "generation": runner.nursery.generation,
        "age_ms": _ago_ms(runner.born_at, now),
        "tree": trees.get(runner.pid),
    }


def _job(worker: Worker, attempt: Attempt, now: float) -> dict[str, Any]:
    job = attempt.job
    margin_s = worker.leases.margin_s(job.id)
    return {
        "id": job.id,
        "name": job.name,
        "attempt": job.attempts_made + 1,
        # Sent ahead of the one at work, it has not begun.
        "running_ms": _ago_ms(attempt.started_at, now) if attempt.started_at else None,
        "progress": _progress(attempt.last_progress),
        "lock_margin_ms": None if margin_s is None else round(margin_s * 1000),
    }


def _progress(value: bytes | None) -> Any:
    """What the job has said last, if it is short. I7: a stranger's bytes, so what is no JSON is left out."""
    if value is None or len(value) > LONGEST_PROGRESS:
        return None
    try:
        return decode(value)
    except (ValueError, RecursionError):
        return None


def _ago_ms(at: float, now: float) -> int | None:
    return round((now - at) * 1000) if at else None
