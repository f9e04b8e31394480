"""Jobs sent ahead of a slot: how many, to which runner, and having them back (I2).

A runner of short jobs that waits for the master between two of them costs both a wake-up each. So while one
is at work the next ones are sent already, as many as are expected to be done within 5 ms: their number times
the p95 of what the queue's last jobs have taken. Where a job takes longer but all take about as long, one is
fetched behind it when it has been at work for so long that within 5 ms it should be done: by a call that is
made for another slot, or by one of its own when it may end any moment.

A job that was sent ahead is fetched, leased and counted as any other, and nobody but who has taken its permit
(sandbox/wire.py) has begun it: so when the one before turns out long, or its runner ends, or a stop comes, it
is taken back whatever the runner is doing, and goes to a slot that is free or back to the front of its queue.

It decides numbers and choices; the dispatcher sends, and takes back.
"""

from __future__ import annotations

import math
import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from supervisor.master.runner import Runner

AHEAD_US: Final = 5_000  # what is expected to be before a job that was sent ahead
MOST: Final = 16  # of one runner
LONG_S: Final = 0.01  # who is at work for so long is not short: what is behind it is taken back
LOOK_EVERY_S: Final = 0.01
SAMPLES: Final = 64
JUDGED_EVERY: Final = 16  # of them; before there are so many nothing is expected
LEAD_US: Final = 3_000  # a call and its answer, and the job on its way to its runner
SURE: Final = 0.75  # of the jobs that have taken so long, this share must have ended within 5 ms more
LONGEST_US: Final = 200_000  # what the time between two jobs is to longer ones is not worth a call to Redis
NONE_FOR: Final = (
    256  # jobs after one that printed: what waits to be read keeps those behind it from beginning
)


class Permits:
    """Of one runner. One for each job sent ahead; who takes it begins the job, or has it back."""

    def __init__(self, put_in: int, taken: int) -> None:
        self._put_in = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, put_in)
        self._taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, taken)
        self._left = 0  # when it was closed

    # I7: the runner has this end too, and may have told the kernel that whoever reads there is to wait.

    def grant(self, count: int) -> None:
        """Raises OSError when the runner has shut the socket down."""
        self._put_in.send(bytes(count), socket.MSG_DONTWAIT)

    def take_back(self) -> int:
        """Take all that are left: so many jobs, counted from the last one, never will be begun."""
        if self._left:
            left, self._left = self._left, 0
            return left
        try:
            return len(self._taken.recv(2 * MOST, socket.MSG_DONTWAIT))
        except OSError:
            return 0

    def close(self) -> None:
        left = self.take_back()
        self._put_in.close()
        self._taken.close()
        self._left = left


class Ahead:
    """The busy runners of one queue, and how many jobs each may have besides the one at work."""

    def __init__(self) -> None:
        self._never = False
        self._busy: OrderedDict[Runner, None] = OrderedDict()
        self._aside: set[Runner] = set()
        self._since: OrderedDict[Runner, float] = OrderedDict()  # when its job began; oldest first
        self._soon: dict[Runner, float] = {}  # who should be free within 5 ms: till when that holds
        self._took_us = [0] * SAMPLES
        self._count = 0
        self._none_before = 0
        self.depth = 0  # jobs behind the one at work
        self.soon_s = 0.0  # once it is at work for so long it should be done within 5 ms; 0 for not known
        self.late_s = 0.0  # and then it may end before a job is fetched

    def adopt(self, *, never: bool) -> None:
        """From now on; `never`: nothing is sent ahead."""
        self._never = never
        if never:
            self._nothing()

    def _nothing(self) -> None:
        self.depth, self.soon_s, self.late_s = 0, 0.0, 0.0

    # --- what is expected -----------------------------------------------------------------------------

    def took(self, took_us: int) -> None:
        """A job has ended; so long it was at work, as its runner says."""
        count = self._count
        self._took_us[count % SAMPLES] = took_us
        self._count = count = count + 1
        if not count % JUDGED_EVERY:
            self._judge()

    def _judge(self) -> None:
        if self._never or self._count < self._none_before:
            self._nothing()
            return
        last = sorted(self._took_us[: self._count])
        p95 = last[len(last) * 95 // 100]
        self.depth = min(MOST, AHEAD_US // max(1, p95))
        self.soon_s = _soon_s(last, p95)
        self.late_s = max(self.soon_s, (last[len(last) // 20] - LEAD_US) / 1e6) if self.soon_s else 0.0

    def halted(self) -> None:
        """A job has printed: what was behind it did not begin."""
        self._none_before = self._count + NONE_FOR
        self._nothing()

    # --- who ------------------------------------------------------------------------------------------

    def add(self, runner: Runner) -> None:
        """It was given a job while it had none."""
        if runner.pipe.permits is not None and runner.room == 1:
            self._busy[runner] = None
            self._aside.discard(runner)

    def began(self, runner: Runner, now: float) -> None:
        """It begins a job: it is not soon free any more."""
        self._soon.pop(runner, None)
        if runner in self._busy:
            self._since[runner] = now
            self._since.move_to_end(runner)

    def _see_who_is_soon_free(self, now: float) -> None:
        """What was at work for `soon_s` by now. The others have begun later."""
        while self.soon_s and self._since:
            runner, since = next(iter(self._since.items()))
            if now - since < self.soon_s:
                break
            del self._since[runner]
            self._soon[runner] = since + self.soon_s + 2 * AHEAD_US / 1e6

    def remove(self, runner: Runner) -> None:
        """It has nothing to do, or does not serve on."""
        self._busy.pop(runner, None)
        self._since.pop(runner, None)
        self._soon.pop(runner, None)
        self._aside.discard(runner)

    def set_aside(self, runner: Runner) -> None:
        """It is at something long, or has to skip what was taken back: until it is given a job while it has
        none, nothing is sent ahead to it.
        """
        self._busy.pop(runner, None)
        self._since.pop(runner, None)
        self._soon.pop(runner, None)
        self._aside.add(runner)

    @property
    def anybody(self) -> bool:
        """May a job have been fetched for one of them?"""
        return bool(self._busy or self._aside)

    def room(self, now: float) -> int:
        """How many more could be sent."""
        if self.depth:
            most = self.depth + 1
            return sum(
                most - len(runner.attempts)
                for runner in self._busy
                if len(runner.attempts) < most and not runner.pipe.full
            )
        self._see_who_is_soon_free(now)
        return sum(self._has_room(runner, till, now) for runner, till in self._soon.items())

    @staticmethod
    def _has_room(runner: Runner, till: float, now: float) -> bool:
        return len(runner.attempts) == 1 and now < till and not runner.pipe.full

    def choose(self, now: float) -> Runner | None:
        """Who takes the next one: each in its turn."""
        if not self.depth:
            soon = self._soon.items()
            return next((runner for runner, till in soon if self._has_room(runner, till, now)), None)
        most = self.depth
        for _ in range(len(self._busy)):
            runner = next(iter(self._busy))
            self._busy.move_to_end(runner)
            if len(runner.attempts) <= most and not runner.pipe.full:
                return runner
        return None

    def overdue(self, now: float) -> list[Runner]:
        """Those whose job takes longer than was expected of it."""
        return [runner for runner in self._busy if runner.attempts and self._long_from(runner) < now]

    def _long_from(self, runner: Runner) -> float:
        if runner in self._soon:
            return self._soon[runner]
        if self.depth or len(runner.attempts) > 1:
            return runner.at_work()[0].started_at + LONG_S
        return math.inf  # nobody expected it to be short

    def waiting(self) -> list[Runner]:
        """Those behind whose job others wait."""
        return [runner for runner in self._busy if len(runner.attempts) > 1]


def _soon_s(took_us: Sequence[int], p95: int) -> float:
    """From when on a job that is at work ends within 5 ms, by what the last ones have taken; 0 for never."""
    if not AHEAD_US < p95 <= LONGEST_US:
        return 0.0
    so_long = [each for each in took_us if each > p95 - AHEAD_US]
    in_time = sum(each <= p95 for each in so_long)
    return (p95 - AHEAD_US) / 1e6 if in_time >= SURE * len(so_long) else 0.0
