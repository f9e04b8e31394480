"""One queue, our client before it and our commands as its worker, on a clock that the test turns.

The worker here is no process: it makes the calls a worker makes, one at a time, in the order the recorded
worker made them, so that every step of a trace can be compared while a job "runs".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import comparing
import redis

from supervisor.blocking import Queue
from supervisor.protocol import job_options
from supervisor.protocol.commands.work import (
    Completed,
    Exchange,
    Failed,
    FetchedJob,
    FinishAndFetch,
    HandedBack,
    Limiter,
    Outcome,
    Postponed,
    RateLimited,
    RecoverStalled,
    Retried,
)
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.blocking import Redis

LOCK_MS = 30_000
STALLED_INTERVAL_MS = 30_000


@dataclass
class Clock:
    """Epoch milliseconds that never stand still, so that no two finishes share a score."""

    now: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def __call__(self) -> int:
        self.now += 1
        return self.now

    def pass_ms(self, ms: int) -> None:
        self.now += ms


class Scene:
    """A queue of a recorded trace. `worker` options as the recorded worker had them."""

    def __init__(self, url: str, raw: redis.Redis, name: str) -> None:
        self.raw = raw
        self.clock = Clock()
        self.keys = QueueKeys(name)
        self.queue = Queue(name, url=url, clock=self.clock)
        self.redis = Redis(Address.parse(url))
        self.limiter: Limiter | None = None
        self.metrics = 0
        self.worker_name = ""
        self._calls = 0
        self._told = 0

    @contextlib.contextmanager
    def opened(self) -> Iterator[Scene]:
        try:
            with self.queue:
                yield self
        finally:
            self.redis.close()

    def matches(self, step: dict[str, Any]) -> None:
        """Fail with one line for each difference between Redis and the recorded step."""
        state, events = comparing.dump(self.raw, self.keys.base)
        found = list(comparing.differences(step, state, events, self._told))
        self._told = sum(map(len, events.values()))
        assert not found, "\n".join(found)

    def skip_events(self) -> None:
        """What was told since the last step is not in the record."""
        self._told = self.raw.xlen(self.keys.events)

    # --- the worker ------------------------------------------------------------------------------

    def attach(self) -> list[str]:
        """A worker starts with a stalled check."""
        return self.check_stalled()

    def check_stalled(self, max_stalled: int = 1) -> list[str]:
        return self.redis.execute(RecoverStalled(self.keys, self.clock(), STALLED_INTERVAL_MS, max_stalled))

    def exchange(self, *outcomes: Outcome, fetch: int = 1, token: str = "") -> Exchange:
        token = token or f"w:{self._calls}"
        self._calls += 1
        done: Exchange = self.redis.execute(
            FinishAndFetch(
                self.keys,
                token,
                self.clock(),
                LOCK_MS,
                fetch,
                outcomes=outcomes,
                limiter=self.limiter,
                worker_name=self.worker_name,
                metrics=self.metrics,
            )
        )
        assert [written.code for written in done.written] == [0] * len(outcomes), done.written
        assert done.fetch_error is None
        return done

    def fetch(self, *, token: str = "") -> FetchedJob:
        (job,) = self.exchange(token=token).jobs
        return job

    def idle(self) -> None:
        """An idle worker waits on the marker, which eats it."""
        self.raw.delete(self.keys.marker)

    def run(self, process: Callable[[FetchedJob], Outcome], first: FetchedJob | None = None) -> list[str]:
        """Take and end jobs until there is none, then be idle; the names in the order they ran."""
        ran: list[str] = []
        jobs = [first] if first is not None else list(self.exchange().jobs)
        while jobs:
            ran.append(jobs[0].name)
            jobs = list(self.exchange(process(jobs[0])).jobs)
        self.idle()
        return ran


def completed(job: FetchedJob, value: bytes = b"null") -> Completed:
    options = job_options.decode_options(job.opts)
    return Completed(job.id, job.token, value, job_options.resolve_keep(options.remove_on_complete, None))


def failed(job: FetchedJob, reason: str, kind: str = "Error") -> Failed:
    options = job_options.decode_options(job.opts)
    keep = job_options.resolve_keep(options.remove_on_fail, None)
    return Failed(job.id, job.token, reason, f"{kind}: {reason}\n    at here", keep, options.attempts)


def retried(job: FetchedJob, reason: str, *, delay_ms: int = 0) -> Retried:
    options = job_options.decode_options(job.opts)
    return Retried(job.id, job.token, reason, f"Error: {reason}\n    at here", delay_ms, options.lifo)


__all__ = [
    "Clock",
    "HandedBack",
    "Postponed",
    "RateLimited",
    "Scene",
    "completed",
    "failed",
    "retried",
]
