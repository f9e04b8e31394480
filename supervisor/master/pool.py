"""The pool: slots that several queues share, and which of them has which.

Decides when a slot goes from one queue to another. It belongs to one at a time, as if there were no pool, and
changes hands only while its runner has nothing to do and no job was asked for it; so a queue fetches for the
slots that it has, and no more jobs are fetched than there are slots (I2). Who is entitled to how many is
`shares.py`'s decision, how a slot is passed on `member.py`'s.

A minimum is kept: so many slots are the queue's own, with a runner that is ready, also while it has no job. A
job is never interrupted for another, so a slot that was lent would come back when its job ends, in an hour
maybe. A queue that is quiet, or cannot run its jobs, has its minimum back when it can again.

When it looks: whenever a member asks what it may fetch, which it does after each fact that could change the
answer: a job has ended, a call has brought less than was asked for, a marker was there, a pause is over. What
comes to nobody's ears that way is told by `kick()`: a slot has gone for good, the settings are others.

No wake-up is lost:
    jobs come for a queue without a slot   its marker is watched all the same; it is hungry from then on, and
                                           the next slot it is entitled to comes to it, whoever looks
    a slot comes free, nobody is hungry    it stays where it is, and every member's marker is watched
    a slot comes free, then jobs come      the marker makes a look, which finds the slot
    jobs come, then a slot comes free      the job's end makes a look, which finds the queue hungry
    asked for, and nothing was there       the answer makes a look: the slot is spare again
    kept from asking for others' sake      the look that ends the reason for it kicks whoever was kept
    a runner has job after job, as they    who has more than its part sends none ahead while another goes
    are sent ahead to it                   short: within 5 ms the runner is idle, or its job is long

Pure: no IO, no processes; the clock is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from supervisor.master.shares import Share, settle

MOST_SLOTS = 1024


class Member(Protocol):
    """What is needed of one queue's worker."""

    def held(self) -> int: ...  # slots it has; without those that it was told to shut
    def closing(self) -> int: ...  # the latter, until their runner has gone
    def spare(self) -> int: ...  # runners with nothing to do, and no job asked for
    def barren(self) -> int: ...  # slots whose births have come to nothing lately
    def coming(self) -> int: ...  # slots without a runner that is ready
    def unplaced(self) -> int: ...  # jobs that wait for a runner
    def wants(self) -> bool: ...  # there may be jobs, and it could run them
    def keeps(self) -> bool: ...  # it needs its minimum
    def kind(self) -> object: ...  # runners of one kind can serve each other's queues
    def pass_on(self, to: Member) -> bool: ...  # a spare runner with its slot; False: none that fits
    def open(self) -> None: ...  # one slot more
    def shut(self) -> None: ...  # one less: a barren one, else a spare one
    def kick(self) -> None: ...  # it may ask for more than when it asked last


class Seat(msgspec.Struct, eq=False):
    """What is known of a member. `kept_back`: while others go short it fetches for `entitled` slots only."""

    member: Member
    share: Share
    held: int = 0
    spare: int = 0
    kept_back: bool = False

    @property
    def movable(self) -> int:
        """Spare slots that are another's for the asking."""
        return min(self.spare, self.held - max(self.share.entitled, self.share.floor))


class Pool:
    """One of a master. All methods belong to the event loop."""

    def __init__(self, clock: Callable[[], float], call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._clock = clock
        self._call_soon = call_soon
        self.slots = 0
        self._configured = 0  # `scale` may have made it more or less
        self.seats: list[Seat] = []
        self._settled_at = clock()
        self._looking = self._kicked = False

    # --- who and how many -------------------------------------------------------------------------------

    def join(self, member: Member, share: Share) -> Seat:
        seat = Seat(member, share)
        self.seats.append(seat)
        self.kick()
        return seat

    def leave(self, seat: Seat) -> None:
        """It has no slot any more, or those that it has are its own."""
        self.seats.remove(seat)
        self.kick()

    def adopt(self, slots: int) -> None:
        """As configured. When that is what it was before, what `scale` has made of it stays."""
        if slots != self._configured:
            self._configured = self.slots = slots
        self.slots = max(self.slots, self.bounds()[0])
        self.kick()

    def bounds(self) -> tuple[int, int]:
        """How few and how many slots it may have."""
        return max(1, sum(seat.share.minimum for seat in self.seats)), MOST_SLOTS

    def scale(self, by: int) -> int:
        """So many slots more, or less when negative; how many there are now."""
        least, most = self.bounds()
        self.slots = min(max(self.slots + by, least), most)
        self.kick()
        return self.slots

    # --- looking ----------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Look, once the facts of this turn of the loop are all in."""
        if not self._kicked:
            self._kicked = True
            self._call_soon(self._kicked_look)

    def _kicked_look(self) -> None:
        self._kicked = False
        self.look()

    def look(self) -> None:
        """Give every slot to whom it belongs, as far as that can be done now."""
        if self._looking or not self.seats:
            return  # what happens while slots change hands is seen by the look that changes them
        self._looking = True
        try:
            now = self._clock()
            held = sum(self._see(seat) for seat in self.seats)
            settle(self.slots, [seat.share for seat in self.seats], now - self._settled_at)
            self._settled_at = now
            short = [(seat, missing) for seat in self.seats if (missing := self._missing(seat))]
            surplus = 0
            if held != self.slots or (short and any(self._may_shut(seat) for seat in self.seats)):
                surplus, short = self._deal(short)
            self._keep_back(surplus > 0, bool(short))
        finally:
            self._looking = False

    def _see(self, seat: Seat) -> int:
        member, share = seat.member, seat.share
        self._count(seat)
        share.wants, share.keeps = member.wants(), member.keeps()
        share.used = seat.held - seat.spare - (0 if share.keeps else member.barren())
        stranded = member.unplaced()
        more = max(0, stranded - member.coming()) if stranded else 0
        share.needs = seat.held + more if more else 0
        return seat.held

    def _deal(self, claims: list[tuple[Seat, int]]) -> tuple[int, list[tuple[Seat, int]]]:
        """By how many there are too many still; and who goes short, and could do with how many."""
        surplus = self._take_away()
        short = self._serve(claims)
        self._open_the_rest()
        self._make_room(short)
        return surplus, short

    @staticmethod
    def _count(seat: Seat) -> None:
        seat.held, seat.spare = seat.member.held(), max(0, seat.member.spare())

    def offers(self, seat: Seat) -> int:
        """Slots that would be its own, did it want them."""
        return self._room() + sum(max(0, each.movable) for each in self.seats if each is not seat)

    def _room(self) -> int:
        """Slots that nobody has."""
        return max(0, self.slots - sum(each.held + each.member.closing() for each in self.seats))

    # --- changing hands ---------------------------------------------------------------------------------

    def _take_away(self) -> int:
        """There are to be fewer: those that can go do. How many are to follow, when they have no job."""
        surplus = sum(each.held for each in self.seats) - self.slots
        while surplus > 0:
            able = [each for each in self.seats if each.spare > 0 or each.member.barren()]
            if not able:
                break
            self._shut(max(able, key=lambda each: each.held - each.share.entitled))
            surplus -= 1
        return surplus

    def _serve(self, claims: list[tuple[Seat, int]]) -> list[tuple[Seat, int]]:
        """Who goes short gets what there is; who still does, and how many it could do with."""
        short = []
        for seat, missing in sorted(claims, key=lambda claim: self._rank(claim[0])):
            while missing > 0 and self._give(seat):
                missing -= 1
            if missing:
                short.append((seat, missing))
        return short

    @staticmethod
    def _rank(seat: Seat) -> tuple[bool, bool, float]:
        """Jobs that hold a lock first, then minimums, then who has the least of what it is entitled to."""
        share = seat.share
        return not share.needs, seat.held >= share.floor, (seat.held - share.entitled) / share.weight

    @staticmethod
    def _missing(seat: Seat) -> int:
        """How many slots more it could do with at once. One at first, then twice as many each time: there may
        be a single job. -1: it goes short, but those that it was given last are not ready yet.
        """
        member, share = seat.member, seat.share
        if seat.held < share.floor:
            return share.floor - seat.held
        if not share.wants or seat.spare or seat.held >= share.entitled:
            return 0
        return -1 if member.coming() else min(share.entitled - seat.held, max(1, share.used))

    def _give(self, seat: Seat) -> bool:
        kind = seat.member.kind()
        donors = [each for each in self.seats if each is not seat and each.movable > 0]
        for donor in sorted(donors, key=lambda each: -each.movable):
            if donor.member.kind() == kind and donor.member.pass_on(seat.member):
                self._count(donor)
                self._count(seat)
                return True
        if self._room():
            self._open(seat)
            return True
        return False

    def _open(self, seat: Seat) -> None:
        seat.member.open()
        self._count(seat)

    def _shut(self, seat: Seat) -> None:
        seat.member.shut()
        self._count(seat)

    def _open_the_rest(self) -> None:
        """Every slot has a runner that is ready, whoever will need it."""
        for _ in range(self._room()):
            able = [each for each in self.seats if each.share.keeps]
            if not able:
                return

            def due(each: Seat) -> tuple[int, float]:
                return each.share.entitled - each.held, -(each.held + 1) / each.share.weight

            self._open(max(able, key=due))

    def _make_room(self, short: list[tuple[Seat, int]]) -> None:
        """A slot whose runner is of another kind is shut; when that has gone, another is opened."""
        coming = self.slots - sum(each.held for each in self.seats)
        for seat, missing in short:
            for _ in range(missing):
                if coming > 0:  # one that was shut before
                    coming -= 1
                    continue
                able = [each for each in self.seats if each is not seat and self._may_shut(each)]
                if not able:
                    return
                self._shut(max(able, key=lambda each: each.held - each.share.entitled))

    @staticmethod
    def _may_shut(seat: Seat) -> bool:
        if seat.movable > 0:
            return True
        return seat.held > max(seat.share.entitled, seat.share.floor) and bool(seat.member.barren())

    def _keep_back(self, surplus: bool, short: bool) -> None:
        """Who has more than its part fetches no more than that while another goes short."""
        for seat in self.seats:
            before = seat.kept_back
            over = seat.held > max(seat.share.entitled, seat.share.floor)
            seat.kept_back = surplus or (over and short)  # who goes short does not have too many
            if before and not seat.kept_back and seat.share.wants and seat.spare:
                seat.member.kick()
