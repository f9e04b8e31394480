"""How long jobs wait and run, of late: a few numbers a queue, for the heartbeat.

Decides which attempts are looked at and for how long they count: all of the last five minutes while they are
few; of many every second, every fourth and so on, each counting for those that were passed over. So it is
bounded, whatever the rate, and an attempt costs a fraction of a microsecond. Histograms of all attempts since
the start are on /metrics (figures.py), where somebody has asked for them.

Reads    attempts whose outcome is written
Tells    percentiles, when asked
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, Final, NamedTuple

from supervisor.master.attempt import Attempt
from supervisor.protocol.commands.work import FetchedJob

RECENT_S: Final = 300.0
MOST: Final = 512  # that are kept of one queue
DELAY: Final = b'"delay"'
_SHARES: Final = {"p50": 0.5, "p95": 0.95}

Values = list[tuple[float, int]]  # milliseconds, and for how many attempts it counts


class Recent(NamedTuple):
    """What was kept of one queue, or of several."""

    waited: Values
    ran: Values

    def plain(self) -> dict[str, Any]:
        """As JSON values; None where there is nothing to tell."""
        return {"waited_ms": _summary(self.waited), "ran_ms": _summary(self.ran)}


class Latency:
    """One a queue."""

    def __init__(self) -> None:
        self._seen = 0
        self._stride = 1
        self._kept: list[tuple[float, float, int, int]] = []  # ended, started, added epoch ms or 0, weight

    def ended(self, attempt: Attempt) -> None:
        """An attempt's outcome is written."""
        self._seen += 1
        if self._seen % self._stride or not attempt.started_at:
            return
        added = attempt.job.timestamp if waits_for_us(attempt.job) else 0
        self._kept.append((attempt.ended_at, attempt.started_at, added, self._stride))
        if len(self._kept) > MOST:
            self._forget(attempt.ended_at)
            if len(self._kept) > MOST // 2:
                self._kept = [(*each[:3], 2 * each[3]) for each in self._kept[::2]]
                self._stride *= 2

    def recent(self, now: float, wall_offset_s: float) -> Recent:
        """`now` on the clock of the attempts, `wall_offset_s` from it to epoch seconds."""
        self._forget(now)
        if len(self._kept) < MOST // 4 and self._stride > 1:
            self._stride //= 2
        waited: Values = []
        ran: Values = []
        for ended, started, added, weight in self._kept:
            ran.append(((ended - started) * 1000, weight))
            if added:
                waited.append((max(0.0, (started + wall_offset_s) * 1000 - added), weight))
        return Recent(waited, ran)

    def _forget(self, now: float) -> None:
        if self._kept and self._kept[0][0] < now - RECENT_S:
            self._kept = [each for each in self._kept if each[0] >= now - RECENT_S]


def waits_for_us(job: FetchedJob) -> bool:
    """Was it to be run as soon as it was added? Of a later attempt, and of a job with a delay, the wait was
    somebody's wish."""
    return job.attempts_started == 1 and DELAY not in job.opts


def together(queues: Iterable[Recent]) -> Recent:
    """All queues of a master as one; of many queues not every attempt."""
    many = list(queues)
    return Recent(_few([each.waited for each in many]), _few([each.ran for each in many]))


def _few(lists: Sequence[Values]) -> Values:
    every = 1 + sum(map(len, lists)) // (4 * MOST)
    return [(value, weight * every) for values in lists for value, weight in values[::every]]


def _summary(values: Values) -> dict[str, Any] | None:
    if not values:
        return None
    values = sorted(values)
    count = sum(weight for _, weight in values)
    found: dict[str, Any] = {"count": count}
    for name, share in _SHARES.items():
        wanted = ceil(share * count)
        for value, weight in values:
            wanted -= weight
            if wanted <= 0:
                found[name] = round(value, 1)
                break
    return found
