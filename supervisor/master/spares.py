"""Spares: runners that have imported before anybody needs them, where a birth has to wait for an import.

Decides how many there are, and when. Where a template has imported the user's module a runner is born in a
millisecond, and nobody is kept. Where it must not (nursery.py, I5) there is one for each such template and
kind of slot, from the moment that a runner there has shown that it can work, until no slot is left, or the
master is quiet, or stops. A slot whose runner has died, or is to be replaced, takes the spare at once; then
another is born. A fresh slot has its next runner under way already, and no claim to one.

Where a spare waits is a slot without jobs, so it is born, looked at, ended and buried as any other (I8). One
that nobody has needed and that dies all the same is born again a few times, later each time, and then not
before another runner of its template has shown that it can work.

Rule     invariants I5, I8, I10
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Final

from sandbox.wire import Kind
from supervisor.master.nursery import Nursery
from supervisor.master.phases import Phase
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.observe.log import get

log = get("runners")

SEAT_NUMBER: Final = 0  # the jobs' slots count from 1
MOST_DEATHS: Final = 5  # in a row, of spares that nobody has used
STEADY_AFTER_S: Final = 60.0  # who dies later than that begins another row
SEVERAL: Final = 2  # the room of a seat for runners of several jobs

Sort = tuple[Nursery, bool]  # whence, and has it several jobs at a time?


class Seat(Slot):
    """Where one spare waits."""

    deaths = 0  # in a row

    @property
    def takes_ahead(self) -> bool:
        return self.room == 1  # as the slots that it waits for


def sort_of(slot: Slot) -> Sort | None:
    """Which spares may sit there; None: none is kept for it."""
    if not slot.queue or slot.closed or slot.fresh or not slot.nursery.bare:
        return None
    return slot.nursery, slot.room > 1


class Spares:
    """Those of one master, and the owner of their seats. All methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        birth: Callable[[Slot], None],
        end: Callable[[Runner], None],
        bad_frame: Callable[[Runner, str], None],
    ) -> None:
        """`birth(seat)` has a runner born, `end(runner)` lets one go, `bad_frame` has one killed (I7)."""
        self._loop = loop
        self._birth = birth
        self._end = end
        self._bad_frame = bad_frame
        self._seats: dict[Sort, Seat] = {}
        self._proved: dict[Slot, Sort] = {}  # a runner there was ready
        self._resting = False

    def runners(self) -> list[Runner]:
        return [seat.runner for seat in self._seats.values() if seat.runner is not None]

    def proved(self, slot: Slot) -> None:
        """A runner of this slot has shown that it can work: from now on a spare is kept for it."""
        sort = sort_of(slot)
        if sort is not None:
            self._proved[slot] = sort
            self.look()

    def rest(self, resting: bool) -> None:
        """True: nobody is kept, as nothing is fetched."""
        self._resting = resting
        self.look()

    def look(self) -> None:
        """Slots have come, gone, or got another nursery: keep whom they want, and let the others go."""
        self._proved = {slot: sort for slot, sort in self._proved.items() if sort_of(slot) == sort}
        wanted = set() if self._resting else set(self._proved.values())
        for sort in self._seats.keys() - wanted:
            self._close(self._seats.pop(sort))
        for sort in wanted - self._seats.keys():
            self._seats[sort] = seat = self._new_seat(*sort)
            self._birth(seat)

    def _new_seat(self, nursery: Nursery, several: bool) -> Seat:
        title = f"oxherd: spare g{nursery.generation}"
        return Seat(SEAT_NUMBER, self, nursery=nursery, title=title, room=SEVERAL if several else 1)

    def _close(self, seat: Seat) -> None:
        """Who is not ready yet is let go when it is."""
        seat.closed = True
        if seat.runner is not None and seat.runner.phase is Phase.IDLE:
            self._end(seat.runner)

    def taken_for(self, slot: Slot) -> Runner | None:
        """A runner that is ready, for this slot; None when there is none, or a birth there has to wait."""
        sort = sort_of(slot)
        seat = self._seats.get(sort) if sort is not None else None
        if seat is None or slot.failures or seat.runner is None or seat.runner.phase is not Phase.IDLE:
            return None
        spare, seat.runner = seat.runner, None
        spare.slot, spare.room = slot, slot.room
        spare.pipe.send(Kind.SEAT, json.dumps({"title": slot.title}).encode())
        log.info("spare.taken", queue=slot.queue, slot=slot.number, runner=spare.pid)
        seat.deaths = 0
        seat.owes, slot.owes = seat.owes or slot.owes, False
        self._birth(seat)
        return spare

    # --- the owner of a slot ----------------------------------------------------------------------------

    def on_ready(self, runner: Runner) -> None: ...
    def on_leaving(self, runner: Runner) -> None: ...

    def on_line(self, runner: Runner, stream: str, text: str) -> None:
        log.info("spare.output", stream=stream, line=text, runner=runner.pid)

    def on_frame(self, runner: Runner, kind: Kind, body: bytes, attempt: int, note: int) -> None:
        self._bad_frame(runner, f"a {kind.name} frame without a job")

    def on_bad_frame(self, runner: Runner, error: str) -> None: ...

    def on_exit(self, runner: Runner, how: Exit) -> None:
        seat = runner.slot
        if runner.let_go or seat.closed or not isinstance(seat, Seat):
            return
        steady = runner.was_ready and self._loop.time() - runner.born_at >= STEADY_AFTER_S
        seat.deaths = 1 if steady else seat.deaths + 1
        seat.failures = max(seat.failures, seat.deaths - 1)
        if seat.deaths >= MOST_DEATHS:
            log.warning("spare.given_up", deaths=seat.deaths, why=f"the last one ended with {how}")
            self._seats = {sort: each for sort, each in self._seats.items() if each is not seat}
            seat.closed = True
