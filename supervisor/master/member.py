"""One queue's worker as a member of the pool: what it has and wants, and how a slot is passed on.

Decides when two queues can use each other's runners: when they are of one template, and both want a runner
that is as fresh. Otherwise a slot is shut with its runner, and another opened. Who gets a slot is `pool.py`'s
decision.

Rule     I2: a slot is passed on with a runner that has no job, and none was asked for it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor.config.shapes import PoolShare
from supervisor.master.phases import Phase
from supervisor.master.pool import Member, Pool
from supervisor.master.runner import Slot
from supervisor.master.shares import Share

if TYPE_CHECKING:
    from supervisor.master.worker import Worker


class PooledWorker:
    """It has slots like any other, but the pool says how many."""

    def __init__(self, worker: Worker, pool: Pool, share: PoolShare) -> None:
        self._worker = worker
        self._pool = pool
        self._closing: set[Slot] = set()
        self.seat = pool.join(self, Share(weight=share.weight, minimum=share.minimum))
        worker.places.on_emptied = self._emptied

    def adopt(self, share: PoolShare) -> None:
        self.seat.share.weight, self.seat.share.minimum = share.weight, share.minimum

    def leave(self) -> None:
        """Its slots are its own from now on, or it has none."""
        self._worker.places.on_emptied = lambda slot: None
        self._pool.leave(self.seat)

    def _emptied(self, slot: Slot) -> None:
        self._closing.discard(slot)
        self._pool.kick()

    # --- what it may fetch ------------------------------------------------------------------------------

    def most(self) -> int | None:
        """So many jobs may be fetched for it, those asked for included, and none ahead of a slot. None: as if
        its slots were its own.
        """
        self._pool.look()
        if not self.seat.kept_back:
            return None
        share = self.seat.share
        return self._worker.exchanger.asked + max(0, share.entitled - share.used)

    def offers(self) -> int:
        """Slots of others that it would have, had it jobs."""
        return self._pool.offers(self.seat)

    # --- what the pool asks -----------------------------------------------------------------------------

    def held(self) -> int:
        return len(self._worker.slots) - len(self._closing)

    def closing(self) -> int:
        return len(self._closing)

    def spare(self) -> int:
        return self._worker.dispatcher.spare()

    def barren(self) -> int:
        return sum(1 for slot in self._worker.slots if _is_barren(slot))

    def coming(self) -> int:
        return sum(
            slot.runner is None or slot.runner.phase is Phase.STARTING
            for slot in self._worker.slots
            if not slot.closed
        )

    def unplaced(self) -> int:
        return self._worker.dispatcher.unplaced()

    def wants(self) -> bool:
        return self._worker.fetcher.hungry and self._worker.dispatcher.would_take()

    def keeps(self) -> bool:
        worker = self._worker
        return not (worker.leaving or worker.fetcher.quiet or worker.health.pause_s)

    def kind(self) -> object:
        return self._worker.places.nursery(), self._worker.settings.fresh

    def pass_on(self, to: Member) -> bool:
        assert isinstance(to, PooledWorker)
        runner = self._worker.dispatcher.part_with(to._worker.places.nursery())
        if runner is None:
            return False
        self._worker.places.all.remove(runner.slot)
        to._worker.places.take(runner.slot)
        to._worker.dispatcher.receive(runner)
        return True

    def open(self) -> None:
        self._worker.places.add()

    def shut(self) -> None:
        barren = [slot for slot in self._worker.slots if _is_barren(slot)]
        slot = barren[0] if barren else self._worker.dispatcher.longest_idle().slot
        self._closing.add(slot)
        self._worker.places.shut_one(slot)

    def kick(self) -> None:
        self._worker.exchanger.kick()


def _is_barren(slot: Slot) -> bool:
    return not slot.closed and slot.runner is None and slot.failures > 0
