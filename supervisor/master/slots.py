"""The slots of one queue: how many there are, and which goes when there are to be fewer.

Decides who is taken away first: a slot without a job, and of those the last. Who sits in a slot is
`succession.py`'s, who is born `births.py`'s.

Rule     a slot that is taken away finishes its job; no more jobs run at once than there are slots
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush

from supervisor.master.nursery import Nursery
from supervisor.master.runner import Slot, SlotOwner
from supervisor.master.runners import Runners
from supervisor.master.settings import QueueSettings


class Numbers:
    """Of slots: each has one that no other has, and small ones are used again."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._last = 0

    def new(self) -> int:
        if self._free:
            return heappop(self._free)
        self._last += 1
        return self._last

    def give_back(self, number: int) -> None:
        heappush(self._free, number)


class Slots:
    """`all` are those that have a runner or want one, those that were shut and still have a job included."""

    def __init__(
        self,
        owner: SlotOwner,
        settings: QueueSettings,
        *,
        runners: Runners,
        nursery_of: Callable[[str], Nursery],
        numbers: Numbers,
        on_failed_birth: Callable[[str], None],
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._runners = runners
        self._nursery_of = nursery_of
        self._numbers = numbers
        self._on_failed_birth = on_failed_birth
        self.all: list[Slot] = []
        self.on_emptied: Callable[[Slot], None] = lambda slot: (
            None
        )  # it was shut, and its last runner is gone

    def fit(self, settings: QueueSettings) -> None:
        """As many as the settings say: new ones get a runner, those too many finish their job."""
        wanted = settings.rooms()
        for slot in [each for each in self.all if each.closed]:
            if len(self._open()) < len(wanted) and slot.room == 1 == wanted[-1]:
                self._runners.reopen(slot)
        surplus = max(0, len(self._open()) - len(wanted))
        for slot in sorted(self._open(), key=_worth_keeping)[:surplus]:
            self._runners.shut(slot)
        kept = self._open()
        for slot, room in zip(kept, wanted, strict=False):
            if slot.room != room:
                slot.room = room
                self._runners.replace(slot, "its slot has room for another number of jobs")
        for room in wanted[len(kept) :]:
            self._add(room, settings)

    def adopt(self, settings: QueueSettings) -> None:
        """Runners come from the nursery that the queue has now, and live by these settings."""
        nursery = self._nursery_of(settings.name)
        for slot in self.all:
            slot.nursery, slot.fresh, slot.recycle = nursery, settings.fresh, settings.recycle
        self._settings = settings
        if settings.share is None:
            self.fit(settings)

    def replace_runners(self, why: str) -> int:
        """Each is followed by another when it has no job and its successor is ready; returns how many."""
        for slot in self._open():
            self._runners.replace(slot, why)
        return len(self._open())

    def shut(self) -> None:
        for slot in self._open():
            self._runners.shut(slot)

    # --- slots of a pool --------------------------------------------------------------------------------

    def nursery(self) -> Nursery:
        return self._nursery_of(self._settings.name)

    def add(self) -> None:
        """One more."""
        self._add(1, self._settings)

    def shut_one(self, slot: Slot) -> None:
        self._runners.shut(slot)

    def take(self, slot: Slot) -> None:
        """One that was another queue's; its runner has no job."""
        slot.owner, slot.queue, slot.on_failed_birth = self._owner, self._settings.name, self._on_failed_birth
        slot.on_empty = partial(self._emptied, slot)
        self.all.append(slot)

    def _open(self) -> list[Slot]:
        return [each for each in self.all if not each.closed]

    def _add(self, room: int, settings: QueueSettings) -> None:
        slot = Slot(
            self._numbers.new(),
            self._owner,
            nursery=self._nursery_of(settings.name),
            queue=settings.name,
            fresh=settings.fresh,
            recycle=settings.recycle,
            on_failed_birth=self._on_failed_birth,
            room=room,
        )
        slot.on_empty = partial(self._emptied, slot)
        self.all.append(slot)
        self._runners.open(slot)

    def _emptied(self, slot: Slot) -> None:
        if slot in self.all:  # its last birth may have been under way when it was shut
            self.all.remove(slot)
            self._numbers.give_back(slot.number)
            self.on_emptied(slot)


def _worth_keeping(slot: Slot) -> tuple[bool, int]:
    """Who has a job is taken away last; of the others the last first."""
    return slot.runner is not None and bool(slot.runner.attempts), -slot.number
