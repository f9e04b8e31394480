"""The watchdog: looks whether the master works, feeds systemd's with that, and ends a master that is stuck.

Decides when to look and what to do about a judgement (status.py): nothing while it is good, or while nothing
of ours is wrong; else first ask anew on new connections, and when that does not help either, ask for a stop
after which the service manager starts another. A loop that is stuck altogether feeds nobody, and systemd ends
it.

Reads    the workers; of Redis one small pipeline a queue at each look
Writes   to the service manager; the log
Tells    `give_up(why)`, once
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from supervisor.errors import RedisError, RedisRefused
from supervisor.master.sd_notify import Manager
from supervisor.master.status import Facts, Phase, Proof, QueueFacts, line, proof
from supervisor.observe.log import get
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.look import LookForWork, QueueLook
from supervisor.protocol.keys import QueueKeys

log = get("watchdog")

USUAL_S: Final = 30.0  # the watchdog's time where no manager names one
LOOKS: Final = 6  # in that time
LONGEST_PAUSE_S, SHORTEST_PAUSE_S = 5.0, 0.2
PATIENCE: Final = 1 / 3  # of that time: so long jobs may be owed
MORE_TIME_S: Final = 30.0  # asked for while a stop goes on, again and again


class Redis(Protocol):
    @property
    def connected(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    def connect_again(self, why: str) -> None: ...
    async def execute(self, command: Command[Any], *, patience_s: float | None = None) -> Any: ...


class Fetching(Protocol):
    """What of a `Fetcher` is read here, and asked of it."""

    quiet: bool
    fetched: int
    fetched_at: float
    refusal: str

    @property
    def holds(self) -> bool: ...
    def ask_anew(self) -> None: ...
    def wake(self) -> None: ...


class Working(Protocol):
    """What of a `Worker` is read here."""

    keys: QueueKeys

    @property
    def fetcher(self) -> Fetching: ...
    @property
    def lock_s(self) -> float: ...
    @property
    def held_back(self) -> str: ...
    def room(self) -> int: ...
    def free(self) -> int: ...
    def running(self) -> int: ...
    def done(self) -> int: ...
    def oldest_lock_s(self) -> float | None: ...


def _has_asked(worker: Working) -> bool:
    """Or it may not, or cannot yet: the slots that it shares may all have jobs of other queues."""
    return bool(worker.fetcher.fetched_at) or worker.fetcher.quiet or worker.room() == 0


class Owed:
    """Since when one queue has been owed a fetch. `seen` is what Redis said of it last; None: nothing."""

    def __init__(self) -> None:
        self.seen: QueueLook | None = None
        self._for_s = 0.0
        self._since = 0.0
        self._fetched = -1

    def look(self, worker: Working, seen: QueueLook | None, now: float) -> None:
        self.seen = seen
        self._for_s = self._look(worker, seen, now)

    def now_s(self, worker: Working) -> float:
        """For how long it was owed at the last look; 0.0 when it was not, or is no more."""
        fetcher = worker.fetcher
        return 0.0 if fetcher.quiet or fetcher.fetched != self._fetched else self._for_s

    def _look(self, worker: Working, seen: QueueLook | None, now: float) -> float:
        """What is not known changes nothing."""
        fetcher = worker.fetcher
        if fetcher.fetched != self._fetched or fetcher.quiet or fetcher.holds or worker.free() <= 0:
            self._fetched = fetcher.fetched
            self._since = 0.0
        if seen is None:
            return 0.0
        if not seen.waiting or seen.closed or worker.held_back or fetcher.refusal:
            self._since = 0.0
        elif worker.free() > 0 and not fetcher.quiet and not fetcher.holds:
            self._since = self._since or now
            return now - self._since
        return 0.0


class Watchdog:
    """One master's.

    phase     what the master is at, as far as it is known here.
    refused   why the last reload was refused, for the line; empty when it was not.
    """

    def __init__(
        self,
        redis: Redis,
        workers: Sequence[Working],
        manager: Manager,
        *,
        clock: Callable[[], float],
        give_up: Callable[[str], None],
    ) -> None:
        self._redis = redis
        self._workers = workers
        self._manager = manager
        self._clock = clock
        self._give_up = give_up
        whole_s = manager.watchdog_s or USUAL_S
        self.pause_s = min(LONGEST_PAUSE_S, max(SHORTEST_PAUSE_S, whole_s / LOOKS))
        self._patience_s = whole_s * PATIENCE
        self._owed: dict[str, Owed] = {}
        self._silent_since = 0.0
        self._failing = False
        self._given_up = False
        self.phase: Phase = "starting"
        self.refused = ""
        self._asked_anew_at = 0.0

    async def keep(self) -> None:
        """Look for ever; ends by cancellation."""
        while True:
            if self.phase == "stopping":
                self._tell_of_stop()
                await asyncio.sleep(min(self.pause_s, 1.0))
                continue
            await self.look()
            await asyncio.sleep(SHORTEST_PAUSE_S if self.phase == "starting" else self.pause_s)

    async def look(self) -> None:
        """Look once, judge, and act."""
        workers = list(self._workers)  # a reload may change them meanwhile
        seen = await asyncio.gather(*(self._seen(worker) for worker in workers))
        if self.phase == "stopping":
            return  # it has begun meanwhile
        now = self._clock()
        for worker, look in zip(workers, seen, strict=True):
            self._owed_to(worker).look(worker, look, now)
            if look is not None and look.waiting and not look.closed and worker.room() == 0:
                worker.fetcher.wake()  # its marker was lost, maybe: it is to claim a slot of the pool
        if all(look is None for look in seen):
            self._silent_since = self._silent_since or now
        else:
            self._silent_since = 0.0
        if self.phase == "starting" and all(_has_asked(worker) for worker in self._workers):
            self.phase = "working"
            self._manager.ready()
        self.say()
        self._act(self.judged, now)

    def say(self) -> None:
        """The line, to the service manager. For whoever has changed what it tells."""
        self._manager.status(line(self.facts))

    @property
    def judged(self) -> Proof:
        return proof(self.facts)

    @property
    def facts(self) -> Facts:
        """What Redis said at the last look, and all else as it is at this moment. Nothing is waited for."""
        if self.phase == "stopping":
            busy = [QueueFacts(name=worker.keys.name, busy=worker.running()) for worker in self._workers]
            return Facts(phase="stopping", queues=busy)
        return Facts(
            phase=self.phase,
            patience_s=self._patience_s,
            away="" if self._redis.connected else self._redis.trouble or "there is no connection",
            silent_s=self._clock() - self._silent_since if self._silent_since else 0.0,
            refused=self.refused,
            queues=[self._queue(worker) for worker in self._workers],
        )

    def _owed_to(self, worker: Working) -> Owed:
        return self._owed.setdefault(worker.keys.name, Owed())

    async def _seen(self, worker: Working) -> QueueLook | None:
        try:
            async with asyncio.timeout(self.pause_s):
                look: QueueLook = await self._redis.execute(LookForWork(worker.keys), patience_s=0.0)
                return look
        except RedisRefused as error:
            return QueueLook(0, f"it cannot be looked at: {error}")
        except (RedisError, TimeoutError):
            return None

    def _queue(self, worker: Working) -> QueueFacts:
        owed = self._owed_to(worker)
        seen = owed.seen
        return QueueFacts(
            name=worker.keys.name,
            slots=worker.room(),
            busy=worker.running(),
            waiting=None if seen is None else seen.waiting,
            done=worker.done(),
            owed_s=owed.now_s(worker),
            renewed_s=worker.oldest_lock_s(),
            lock_s=worker.lock_s,
            quiet=worker.fetcher.quiet,
            closed="" if seen is None else seen.closed,
            refused=worker.fetcher.refusal,
            degraded=worker.held_back,
        )

    def _act(self, judged: Proof, now: float) -> None:
        if judged.alive or self._given_up:
            # A master that has given up is ending itself; that this comes to its end is bounded elsewhere.
            self._manager.alive()
            if self._failing and judged.ok:
                log.info("proof.restored")
                self._failing = False
            self._asked_anew_at = now  # while Redis is away, say, the time does not count
            return
        if not self._failing:
            self._failing = True
            self._asked_anew_at = now
            log.error("proof.failed", why=judged.why, next="asking anew, on new connections")
            self._redis.connect_again("the master does no work; asking anew")
            for worker in self._workers:
                worker.fetcher.ask_anew()
        elif now >= self._asked_anew_at + self._patience_s:
            self._given_up = True
            log.error("master.stuck", why=judged.why)
            self._give_up(judged.why)

    # --- a stop ---------------------------------------------------------------------------------------------

    def stopping(self) -> None:
        """A stop has begun. Its deadline is its own: the manager is asked for time as long as it goes on."""
        self.phase = "stopping"
        self._manager.stopping()
        self._tell_of_stop()

    def _tell_of_stop(self) -> None:
        self.say()
        self._manager.more_time(MORE_TIME_S)
        self._manager.alive()
