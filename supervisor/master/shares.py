"""How many slots of a pool each queue is entitled to now: by weight, with a minimum kept for it.

Decides numbers only. Which slot goes where, and when, is `pool.py`'s.

A fair part is a fraction of slots: one slot and two queues of weight 3 and 1 make 0.75 and 0.25. Slots are
whole, so the fractions are handed round in turns of `TURN_S`, by who has had less than its part lately. What
counts is the time for which slots were held, not the number of jobs: long jobs pay for what they take.

Pure: facts and seconds in, numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

TURN_S: Final = 0.25  # slot-seconds: who has a slot by rounding keeps it for about so long
FORGOTTEN_BY_HALF_S: Final = 30.0  # what somebody had more or less than its part
_NOTHING: Final = 1e-9


class Share(msgspec.Struct, kw_only=True, eq=False):
    """One queue's.

    weight, minimum   as it is configured.
    used              slots that are at work for it, or may be in a moment: jobs were asked for.
    wants             there may be jobs for which it would use more.
    keeps             its minimum is kept for it, even while it has nothing to do.
    needs             so many it must have: jobs of it hold a lock, and have no runner.

    entitled          so many slots it may hold while others want some.
    """

    weight: int = 1
    minimum: int = 0
    used: int = 0
    wants: bool = False
    keeps: bool = True
    needs: int = 0
    entitled: int = 0
    part: float = 0.0
    lag_s: float = 0.0  # slot-seconds it had less than its part
    rate: float = 0.0  # by so much a second that grows
    by_rounding: bool = False

    @property
    def floor(self) -> int:
        """So many slots nobody else gets."""
        return max(self.minimum if self.keeps else 0, self.needs)


def settle(slots: int, shares: Sequence[Share], passed_s: float) -> None:
    """Find what each is `entitled` to of `slots`. `passed_s`: since it was done last."""
    kept = 0.5 ** (passed_s / FORGOTTEN_BY_HALF_S)
    for each in shares:
        each.lag_s = each.lag_s * kept + each.rate * passed_s
    wanting = [each for each in shares if each.wants]
    others = [each for each in shares if not each.wants]
    capacity = max(0, slots - sum(max(each.used, each.floor) for each in others))
    _part(capacity, wanting)
    _round(capacity, wanting)
    for each in others:
        each.entitled, each.by_rounding = each.floor, False
    _rates(slots, shares, wanting)


def _part(capacity: float, shares: Iterable[Share]) -> None:
    """Each its part by weight, and its minimum at least: what that takes the others share out anew."""
    rest, left = list(shares), capacity
    while rest:
        weights = sum(each.weight for each in rest)
        poor = [each for each in rest if left * each.weight < each.floor * weights]
        if not poor:
            break
        for each in poor:
            each.part = float(each.floor)
            left = max(0.0, left - each.part)
        rest = [each for each in rest if each not in poor]
    for each in rest:
        each.part = left * each.weight / weights


def _round(capacity: int, wanting: Sequence[Share]) -> None:
    over = []
    for each in wanting:
        each.entitled = int(each.part + _NOTHING)
        if each.part - each.entitled > _NOTHING:
            over.append(each)
        else:
            each.by_rounding = False
    left = capacity - sum(each.entitled for each in wanting)
    # Whoever has it keeps it for a turn: else two queues of short jobs would snatch it from each other.
    over.sort(key=lambda each: each.lag_s + each.by_rounding * TURN_S, reverse=True)
    for place, each in enumerate(over):
        each.by_rounding = place < left
        each.entitled += each.by_rounding


def _rates(slots: int, shares: Sequence[Share], wanting: Sequence[Share]) -> None:
    """Who is owed more and more. Nobody is, without somebody who goes short of it."""
    active = [each for each in shares if each.wants or each.used]
    if not wanting or len(active) < 2:
        for each in shares:
            each.rate = 0.0
        return
    parts = {id(each): each.part for each in wanting}
    if len(active) > len(wanting):  # some use slots and want no more: that counts too
        _part(slots - sum(each.floor for each in shares if not (each.wants or each.used)), active)
    for each in shares:
        if each.wants:
            each.part = max(each.part, parts[id(each)])
            each.rate = each.part - each.used
        else:
            each.rate = min(0.0, each.part - each.used) if each.used else 0.0
            each.lag_s = min(0.0, each.lag_s)
