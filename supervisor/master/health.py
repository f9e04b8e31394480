"""Whether a queue's jobs can be run at all, and how fast runners may be born that come to nothing.

Decides when a queue is degraded: so many different jobs in a row have lost their runner soon after their
start, or so many births in a row have come to nothing. Fetching pauses then, longer each time, and after each
pause one job alone is tried until one is heard to its end: a bad release must not fail a queue's jobs at the
speed of its crashes. Other queues go on. What becomes of a single job is finish.py's decision.

Rule     I10: runners that cannot work take no job
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from supervisor.master.verdicts import (
    AskedForChildren,
    AskedForDelay,
    AskedForPause,
    Cause,
    Crashed,
    Raised,
    Returned,
    Verdict,
)
from supervisor.observe.log import get

log = get("health")

EARLY_S: Final = 10.0  # after its start; who dies later has done some work
CRASHES: Final = 5  # different jobs, with none between them that was heard to its end
FAILED_BIRTHS: Final = 5
PAUSE_FIRST_S, PAUSE_LAST_S = 1.0, 60.0

# What a release does to every job. Not among them: what depends on the one job, as its time limits.
_DEATHS: Final = frozenset(
    {Cause.SIGNAL, Cause.EXIT, Cause.BAD_FRAME, Cause.MEMORY_LIMIT, Cause.HOST_MEMORY, Cause.NO_RUNNER}
)
_WORDS: Final = (Returned, Raised, AskedForDelay, AskedForPause, AskedForChildren)


class Bucket:
    """Births that replace runners which came to nothing: so many at once, then so many a second."""

    def __init__(self, burst: int, per_s: float, clock: Callable[[], float]) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._tokens = float(burst)
        self._counted_at = clock()

    def take(self) -> float:
        """Seconds to wait before the birth. Who asks gets the next turn, in the order of asking."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._per_s)
        self._counted_at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._per_s)


class Health:
    """One queue's. All methods belong to the event loop.

    pause_s   how long the last pause was to be; 0 while all is well.
    why       the sentence about it.
    """

    def __init__(
        self,
        queue: str,
        *,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        stands: Callable[[], bool],
    ) -> None:
        """`wake()` has fetching looked at again; `stands()`: has any runner been ready for a while?"""
        self._queue = queue
        self._loop = loop
        self._wake = wake
        self._stands = stands
        self._row: set[str] = set()  # jobs that have crashed since one was heard to its end
        self._failed_births = 0
        self._paused = False
        self._tried = ""  # the job that is tried
        self._timer: asyncio.TimerHandle | None = None
        self.pause_s = 0.0
        self.why = ""

    def room(self, free: int) -> int:
        """How many jobs may be fetched, of `free` slots."""
        if not self.pause_s:
            return free
        return 0 if self._paused or self._tried else min(free, 1)

    # --- what happens -----------------------------------------------------------------------------------

    def took(self, job_id: str) -> None:
        """A job was fetched."""
        if self.pause_s and not self._paused:
            self._tried = job_id

    def ended(self, job_id: str, verdict: Verdict, started_at: float, ended_at: float) -> None:
        """An attempt is over; `started_at` is 0 when no runner has had it."""
        tried = job_id == self._tried
        if tried:
            self._tried = ""
        if started_at and isinstance(verdict, _WORDS):
            self._failed_births = 0
            if self._row:
                self._row.clear()
            if tried:
                self._recover()
        elif isinstance(verdict, Crashed) and verdict.cause in _DEATHS and ended_at - started_at < EARLY_S:
            self._crashed(job_id, verdict.reason, tried)

    def _crashed(self, job_id: str, reason: str, tried: bool) -> None:
        self._row.add(job_id)
        if tried:
            self._pause(f"the one job that was tried has lost its runner too: {reason}")
        elif len(self._row) >= CRASHES and not self.pause_s:
            self._pause(f"{len(self._row)} different jobs in a row have lost their runner: {reason}")

    def birth_failed(self, why: str) -> None:
        """A runner did not come up, or died before it had a job."""
        self._failed_births += 1
        if self._failed_births >= FAILED_BIRTHS and not self._paused and not self._stands():
            self._pause(f"{self._failed_births} runners in a row have come to nothing: {why}")

    # --- pauses -----------------------------------------------------------------------------------------

    def _pause(self, why: str) -> None:
        self.pause_s = min(self.pause_s * 2 or PAUSE_FIRST_S, PAUSE_LAST_S)
        self.why = why
        self._paused = True
        log.error("queue.degraded", queue=self._queue, why=why, pause_s=self.pause_s)
        self._timer = self._loop.call_later(self.pause_s, self._try)

    def _try(self) -> None:
        """The pause is over: one job may be tried."""
        self._paused = False
        self._timer = None
        if not self._row and self._stands():
            self._recover()  # there are runners again, and jobs were never the trouble
        self._wake()

    def _recover(self) -> None:
        log.info("queue.recovered", queue=self._queue)
        self.pause_s, self.why = 0.0, ""
        self._paused, self._tried = False, ""
        self._failed_births = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
