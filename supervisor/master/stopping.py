"""Stopping (I9): quiet, grace, cancel, kill, under one deadline.

Decides how long each step lasts. A job that is cut off is handed back once its processes are dead: at the
front of its queue, its attempt not burnt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Final, Protocol

from supervisor.observe.log import get

log = get("stopping")

ANSWER_WITHIN_S: Final = 0.5
POLL_S = 0.01


class Step(IntEnum):
    """How far a stop has gone; it only ever goes on."""

    RUNNING = 0
    GRACE = 1  # fetch nothing, let running jobs end
    CANCEL = 2  # tell them
    KILL = 3  # hand them back


class Stoppable(Protocol):
    """What stopping needs of one worker."""

    def quiet(self) -> None: ...
    def running(self) -> int: ...
    def settled(self) -> bool: ...
    def unfinished(self) -> int: ...
    def cancel(self, reason: str) -> None: ...
    def hand_back(self) -> int: ...


class Stopping:
    """One stop of one master. `hurry()` skips what is left of the present step."""

    def __init__(
        self,
        workers: Iterable[Stoppable],
        *,
        cancel_after_s: float,
        kill_after_s: float,
        deadline_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._workers = list(workers)
        self._clock = clock
        self._cancel_after_s = cancel_after_s
        self._kill_after_s = kill_after_s
        self._deadline_s = deadline_s
        self._answered_by_s = max(deadline_s, ANSWER_WITHIN_S)
        self._asked = Step.RUNNING
        self._began_at = 0.0
        self._told = False  # what is left at the deadline
        self.step = Step.RUNNING

    def hurry(self, to: Step | None = None) -> None:
        """Go on to the next step, or to the step named."""
        # Counted from what was asked for, not from the step reached: two requests may come within one poll.
        so_far = max(self._asked, self.step)
        self._asked = max(so_far, to or Step(min(so_far + 1, Step.KILL)))
        log.info("stop.hurried", to=self._asked.name.lower())

    def over(self) -> bool:
        """The deadline has passed: what Redis has not answered by now is left to the stalled check. With a
        deadline of nothing it is given a moment, since an idle master's call may just have brought a job.

        Whoever asks first gives up what it waits for, so that is when all that is left is counted and told.
        """
        if self.step == Step.RUNNING or self._clock() <= self._began_at + self._answered_by_s:
            return False
        if not self._told and (left := sum(worker.unfinished() for worker in self._workers)):
            self._told = True
            log.error("stop.deadline_passed", left=left)
        return True

    def patient(self) -> bool:
        """May what comes after the jobs go on? Until nobody may be waited for, jobs included."""
        return self._asked < Step.CANCEL and self._clock() < self._began_at + self._kill_after_s

    async def run(self) -> None:
        self._began_at = self._clock()
        self.step = Step.GRACE
        for worker in self._workers:
            worker.quiet()
        log.info("stop.requested", running=self._running(), deadline_s=self._deadline_s)
        await self._until_idle(self._cancel_after_s, Step.CANCEL)
        if self._running():
            self.step = Step.CANCEL
            for worker in self._workers:
                worker.cancel("the master is stopping")
            await self._until_idle(self._kill_after_s, Step.KILL)
        if self._running():
            self.step = Step.KILL
            cut = sum(worker.hand_back() for worker in self._workers)
            log.warning("stop.handing_back", jobs=cut)
        while not all(worker.settled() for worker in self._workers):
            if self.over():
                return
            await asyncio.sleep(POLL_S)

    def _running(self) -> int:
        return sum(worker.running() for worker in self._workers)

    async def _until_idle(self, after_s: float, next_step: Step) -> None:
        while self._running() and self._asked < next_step and self._clock() < self._began_at + after_s:
            await asyncio.sleep(POLL_S)
