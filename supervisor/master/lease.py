"""Leases: the master's own view of the locks it holds in one queue.

Redis decides who owns a job. This module decides only how long we go on believing that it is us.

Reads    the monotonic clock; the replies to `ExtendLocks`
Writes   nothing but renewals
Tells    `on_lost(job_id, why)`, once per lease, from the event loop
Rule     invariant I3; the server's half is lua/extendLocks.lua, and lua/extendLock.lua while a cluster moves
         our slot
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import msgspec

from supervisor.errors import RedisError, RedisUnavailable
from supervisor.observe.log import get
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.work import ExtendLock, ExtendLocks, Lease
from supervisor.protocol.keys import QueueKeys

log = get("lease")

MARGIN = 0.1  # of the duration: how much earlier than Redis we stop believing
RETRY_S = 0.1
PATIENCE: Final = 0.125  # of the duration: so long the call for all may be refused, then each goes by itself
SHORTEST_PATIENCE_S: Final = 0.5


class Extender(Protocol):
    """What of a Redis connection is needed here."""

    async def execute(self, command: Command[Any], *, patience_s: float | None = None) -> Any: ...


class Held(msgspec.Struct):
    token: str
    sent_at: float
    trusted_until: float


class Leases:
    """The leases of one queue, renewed together at half their duration."""

    def __init__(
        self,
        redis: Extender,
        keys: QueueKeys,
        *,
        duration_ms: int,
        clock: Callable[[], float],
        on_lost: Callable[[str, str], None],
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._duration_ms = duration_ms
        self._duration_s = duration_ms / 1000
        self._clock = clock
        self._on_lost = on_lost
        self._held: dict[str, Held] = {}
        self._some = asyncio.Event()
        self.on_renewed: Callable[[list[str]], None] = lambda job_ids: None  # by one call, answered

    def hold(self, job_id: str, token: str, sent_at: float) -> None:
        """Believe in the lock that a call sent at `sent_at` (monotonic seconds) has set."""
        # I3. Trust is counted from the moment we *asked*, not from the moment we were answered: Redis started
        # its clock somewhere between the two. If the reply is slow we stop too early, which wastes work;
        # counting from the reply we could stop too late, and two workers would run one job.
        self._held[job_id] = Held(token, sent_at, sent_at + self._duration_s * (1 - MARGIN))
        self._some.set()

    def adopt(self, duration_ms: int) -> None:
        """Locks live this long from now on. I3: never longer than a call that is still on its way has asked
        for, so a longer duration is adopted when those before it are answered.
        """
        self._duration_ms = duration_ms
        self._duration_s = duration_ms / 1000

    def release(self, job_id: str, token: str) -> None:
        """The outcome is written, or nobody cares for this lock any more."""
        held = self._held.get(job_id)
        if held is not None and held.token == token:
            del self._held[job_id]

    def trusted(self, job_id: str, token: str) -> bool:
        held = self._held.get(job_id)
        return held is not None and held.token == token and self._clock() < held.trusted_until

    def margin_s(self, job_id: str) -> float | None:
        """Seconds until trust in this lease ends; None when there is none."""
        held = self._held.get(job_id)
        return None if held is None else held.trusted_until - self._clock()

    def oldest_s(self) -> float | None:
        """Seconds since the lease that is oldest was set or renewed; None when there is none."""
        first = min((held.sent_at for held in self._held.values()), default=None)
        return None if first is None else self._clock() - first

    def __len__(self) -> int:
        return len(self._held)

    async def keep(self) -> None:
        """Renew for ever; ends by being cancelled."""
        while True:
            if not self._held:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(min(self._until(self._duration_s / 2), self._until_distrust()))
            self._give_up_distrusted()
            # Those of a quarter's age come along, so that all of them are renewed in one call at half the
            # duration at the latest.
            if self._held and self._until(self._duration_s / 4) == 0:
                await self._renew()

    def _until(self, age_s: float) -> float:
        """Seconds until the oldest lease has this age; 0 when it has."""
        oldest = min((held.sent_at for held in self._held.values()), default=self._clock())
        return max(0.0, oldest + age_s - self._clock())

    def _until_distrust(self) -> float:
        first = min(
            (held.trusted_until for held in self._held.values()), default=self._clock() + self._duration_s
        )
        return max(0.001, first - self._clock())

    def _give_up_distrusted(self) -> None:
        now = self._clock()
        for job_id, held in list(self._held.items()):
            if held.trusted_until <= now:
                del self._held[job_id]
                log.error("lock.lost", queue=self._keys.name, job_id=job_id, why="not renewed in time")
                self._on_lost(job_id, "it could not be renewed in time")

    async def _extend(self, leases: list[Lease]) -> frozenset[str]:
        """Ask for renewal; the ids of those that are lost."""
        keys, duration_ms = self._keys, self._duration_ms
        patience_s = max(SHORTEST_PATIENCE_S, PATIENCE * self._duration_s)
        try:
            lost: frozenset[str] = await self._redis.execute(
                ExtendLocks(keys, leases, duration_ms), patience_s=patience_s
            )
        except RedisUnavailable as error:
            if error.sent:
                raise
        else:
            return lost
        # It did not run. A cluster that moves our slot refuses it until that is over, and may take minutes.
        renewed = await asyncio.gather(
            *(self._redis.execute(ExtendLock(keys, each, duration_ms), patience_s=0.0) for each in leases)
        )
        return frozenset(each.job_id for each, held in zip(leases, renewed, strict=True) if not held)

    async def _renew(self) -> None:
        """One call for all. A renewal that gets no answer is tried again until trust ends."""
        leases = [Lease(job_id, held.token) for job_id, held in self._held.items()]
        sent_at, duration_s = self._clock(), self._duration_s
        try:
            lost = await asyncio.wait_for(self._extend(leases), self._until_distrust())
        except (RedisError, TimeoutError) as error:
            log.warning("lock.renewal_failed", queue=self._keys.name, error=str(error) or "no answer")
            await asyncio.sleep(min(RETRY_S, self._until_distrust()))
            return
        self.on_renewed([lease.job_id for lease in leases if lease.job_id not in lost])
        for lease in leases:
            held = self._held.get(lease.job_id)
            if held is None or held.token != lease.token:
                continue  # finished while the renewal was on its way
            if lease.job_id in lost:
                del self._held[lease.job_id]
                log.error("lock.lost", queue=self._keys.name, job_id=lease.job_id, why="gone or taken")
                self._on_lost(lease.job_id, "it is gone or held by another worker")
            elif sent_at > held.sent_at:
                held.sent_at = sent_at
                held.trusted_until = sent_at + duration_s * (1 - MARGIN)
