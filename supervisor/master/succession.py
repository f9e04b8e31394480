"""Who sits in a slot, and who comes after.

Decides when a successor is wanted, and when it takes over: a slot's runner is replaced when it has served
long enough (`recycling.py`) or, in a fresh slot, after each job, and never before its successor is ready. A
successor that is ready also takes over at once from a runner that dies. Who is born and buried is the
registry's (`runners.py`), which tells of it.

Rule     no slot has fewer ready runners for being recycled; a slot has one job at a time
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from supervisor.master.phases import Phase
from supervisor.master.recycling import Wear, span_of
from supervisor.master.runner import Runner, Slot
from supervisor.master.spares import Spares
from supervisor.observe.log import get

log = get("runners")

LOOK_EVERY_S: Final = 1.0  # at idle runners, while any may be too old
RELOADED: Final = "the code was loaded again"
REPLACED_AT_ONCE: Final = 4  # of the idle ones: hundreds that age together are not all forked again together


class Succession:
    """All slots of one master. Its methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        birth: Callable[[Slot], None],
        end: Callable[[Runner], None],
        everybody: Callable[[], Iterable[Runner]],
        rng: Callable[[], float],
        spares: Spares,
    ) -> None:
        """`birth(slot)` has a runner born, `end(runner)` lets one go that has no job."""
        self._loop = loop
        self._birth = birth
        self._end = end
        self._everybody = everybody
        self._rng = rng
        self._spares = spares
        self._timer: asyncio.TimerHandle | None = None

    def replace(self, slot: Slot, why: str) -> None:
        """Its runner is to be followed by another as soon as there is one, and it has no job."""
        old, successor = slot.runner, slot.successor
        self._spares.look()  # the slot may have another nursery
        if old is None:
            return  # whoever is being born for it is the other, or told so at its birth
        if not old.replace_why:
            old.replace_why = why
        if successor is not None and successor.nursery is not slot.nursery:
            slot.successor = None
            self._dismiss(successor)
        self._want(slot)

    def shut(self, slot: Slot) -> None:
        """No runner any more for this slot: the one that has a job finishes it."""
        slot.closed = True
        self._spares.look()
        successor, slot.successor = slot.successor, None
        if successor is not None:
            self._dismiss(successor)
        if slot.runner is None:
            slot.on_empty()
        elif slot.runner.phase is Phase.IDLE:
            self._end(slot.runner)
        else:
            slot.runner.draining = True
            slot.owner.on_leaving(slot.runner)

    def reopen(self, slot: Slot) -> None:
        """Its runner, which may have a job, is not the last after all. Only for slots of one job."""
        slot.closed = False
        if slot.runner is None:
            self._want(slot)
        else:
            slot.runner.draining = False
            if slot.runner.was_ready:
                self._spares.proved(slot)

    def _dismiss(self, runner: Runner) -> None:
        """It never got a job. One that is not ready yet is let go when it is."""
        if runner.phase is Phase.IDLE:
            self._end(runner)

    def born(self, runner: Runner) -> None:
        """It is registered: the slot's own, or the one that comes after."""
        slot = runner.slot
        if slot.runner is None:
            slot.runner = runner
            if runner.nursery is not slot.nursery:
                runner.replace_why = RELOADED  # it was under way when the slot got another nursery
        elif runner.nursery is slot.nursery:
            slot.successor = runner
        # Else it has no seat: it is let go when it is ready, and its end makes another wanted.
        self._wears(runner, slot)

    def _wears(self, runner: Runner, slot: Slot) -> None:
        span = span_of(slot.recycle, self._rng)
        if span is not None:
            runner.wear = Wear(span, runner.pid, self._loop.time())
            if self._timer is None and (span.age_s or span.idle_s):
                self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def ready(self, runner: Runner) -> None:
        """It has said READY, and is idle."""
        slot = runner.slot
        self._spares.proved(slot)
        if slot.closed or runner not in (slot.runner, slot.successor):
            self._end(runner)
        elif slot.runner is runner and runner.replace_why and _is_idle(slot.successor):
            self._take_over(slot, runner)
        elif slot.runner is runner:
            slot.owner.on_ready(runner)
            if runner.replace_why:
                self._want(slot)
        elif slot.runner is not None and slot.runner.phase is Phase.IDLE and slot.runner.replace_why:
            self._take_over(slot, slot.runner)

    def began(self, runner: Runner) -> None:
        """It was sent a job. In a fresh slot the next runner is started meanwhile."""
        if runner.slot.fresh:
            self._want(runner.slot)

    def finished(self, runner: Runner) -> bool:
        """It has said the outcome of a job, and has leave to serve on; False when it takes no other."""
        slot = runner.slot
        runner.served += 1
        if runner.phase is Phase.LEAVING:
            return False
        if slot.fresh and not slot.closed:
            self._take_over(slot, runner)
            return False
        if (
            runner.wear is not None
            and not (runner.replace_why or slot.closed)
            and (runner.room == 1 or not runner.attempts)
        ):
            self._replace(runner, runner.wear.after_job(self._loop.time()))
            if slot.runner is not runner:
                return False  # a spare has taken over
        return self.serves_on(runner)

    def serves_on(self, runner: Runner) -> bool:
        """It has no job, or one less; the same of one that has skipped what was taken back."""
        slot = runner.slot
        if slot.closed:
            if not runner.attempts:
                self._end(runner)
            return False
        if not runner.replace_why or not _is_idle(slot.successor):
            return True
        if runner.attempts:  # it takes no more of them; the last of those it has ends it
            runner.draining = True
        else:
            self._take_over(slot, runner)
        return False

    def gone(self, runner: Runner) -> None:
        """It is buried."""
        slot = runner.slot
        if slot.successor is runner:
            slot.successor = None
        if slot.runner is runner:
            slot.runner, slot.successor = slot.successor, None
            if slot.runner is not None and slot.runner.phase is Phase.IDLE:
                slot.owner.on_ready(slot.runner)
        if slot.closed:
            if slot.runner is None:
                slot.on_empty()
        elif slot.runner is None or slot.runner.replace_why:
            self._want(slot)

    def _want(self, slot: Slot) -> None:
        if slot.successor is not None or slot.filling:
            return
        spare = self._spares.taken_for(slot)
        if spare is None:
            self._birth(slot)
            return
        self._wears(spare, slot)
        if slot.runner is None:
            slot.runner = spare
        else:
            slot.successor = spare
        self.ready(spare)

    def _take_over(self, slot: Slot, old: Runner) -> None:
        """The successor sits in the slot from now on, ready or not yet born; the old one leaves."""
        if old.replace_why:
            log.info(
                "runner.recycled", queue=slot.queue, slot=slot.number, runner=old.pid, why=old.replace_why
            )
        slot.runner, slot.successor = slot.successor, None
        self._end(old)
        if slot.runner is None:
            self._want(slot)
        elif slot.runner.phase is Phase.IDLE:
            slot.owner.on_ready(slot.runner)

    def _replace(self, runner: Runner, why: str | None) -> None:
        if why is not None:
            runner.replace_why = why
            self._want(runner.slot)

    def _look(self) -> None:
        """Replace idle runners that are too old or idle for too long, a few at a time."""
        now = self._loop.time()
        self._timer = None
        due = [each for each in self._everybody() if each.wear is not None]
        under_way = sum(bool(each.replace_why) for each in due)
        for runner in due:
            if under_way >= REPLACED_AT_ONCE:
                break
            if runner.phase is not Phase.IDLE or runner.replace_why or runner.slot.runner is not runner:
                continue
            self._replace(runner, runner.wear.while_idle(now) if runner.wear is not None else None)
            under_way += bool(runner.replace_why)
        if due:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _is_idle(runner: Runner | None) -> bool:
    return runner is not None and runner.phase is Phase.IDLE
