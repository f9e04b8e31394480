"""The heartbeat: one key in Redis that lives while this master does.

Decides when, and how much of the snapshot is told: what a person needs who looks at all hosts, no job and no
runner. How it is stored so that a vanished host is known is protocol/commands/hosts.py's.

Reads    the snapshot, how long jobs waited and ran of late, the wall clock
Writes   two keys, a call each `interval`
Rule     a beat that fails harms nothing: it is told once, and the next one is due as usual
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from supervisor.errors import RedisError
from supervisor.master.latency import Latency, Recent, together
from supervisor.observe.log import get
from supervisor.protocol.commands.hosts import Beat, HostId, HostKeys, Leave, ReadHosts, SeenHosts
from supervisor.protocol.jsontext import encode
from supervisor.transport.aio import Redis

log = get("heartbeat")

MISSED: Final = 3  # so many beats, and a host has vanished
LEAVE_WITHIN_S: Final = 0.5  # at the end of a stop
NOTHING: Final = Recent([], [])
_TOLD_OF_A_QUEUE: Final = ("name", "slots", "busy", "quiet", "degraded", "done", "failed", "limits_by")

Snapshot = Callable[[], Mapping[str, Any]]


class Heartbeat:
    """The beats of one master."""

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        *,
        snapshot: Snapshot,
        latencies: Callable[[], Mapping[str, Latency]],
        interval_ms: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._keys = HostKeys(prefix)
        self._snapshot = snapshot
        self._latencies = latencies
        self._interval_ms = interval_ms
        self._clock = clock
        self._wall_clock = wall_clock
        self._id: HostId | None = None
        self._ended: dict[str, int] = {}  # jobs of each queue, at the last beat
        self._beat_at = 0.0
        self._failing = False

    async def keep(self) -> None:
        """Beat for ever; ends by being cancelled."""
        while True:
            await self.beat()
            await asyncio.sleep(self._interval_ms / 1000)

    async def beat(self) -> None:
        first = self._id is None
        record = self._record()
        now_ms = round(self._wall_clock() * 1000)
        ttl_ms = MISSED * self._interval_ms
        try:
            await self._redis.execute(Beat(self._keys, str(self._id), encode(record), now_ms, ttl_ms))
            if first:
                await self._stand_in()
        except RedisError as error:
            if not self._failing:
                log.warning("heartbeat.failed", error=str(error))
            self._failing = True
        else:
            self._failing = False

    async def leave(self) -> None:
        """We go as we should: nobody has vanished."""
        if self._id is not None and self._redis.connected:
            with suppress(RedisError, TimeoutError):
                async with asyncio.timeout(LEAVE_WITHIN_S):
                    await self._redis.execute(Leave(self._keys, [str(self._id)]))

    async def _stand_in(self) -> None:
        """Those that did our work on this host before, and have vanished, need no telling of any more."""
        assert self._id is not None
        seen = [each for each in await self._redis.execute(SeenHosts(self._keys)) if self._replaces(each)]
        if not seen:
            return
        found = await self._redis.execute(ReadHosts(self._keys, seen))
        gone = [each for each, record in zip(seen, found, strict=True) if record is None]
        if gone:
            await self._redis.execute(Leave(self._keys, gone))

    def _replaces(self, other: str) -> bool:
        known = HostId.parse(other)
        return known is not None and self._id is not None and self._id.replaces(known)

    def _record(self) -> dict[str, Any]:
        known = self._snapshot()
        now, offset_s = self._clock(), self._wall_clock() - self._clock()
        recent = {name: each.recent(now, offset_s) for name, each in self._latencies().items()}
        queues = [self._queue(each, recent.get(each["name"], NOTHING)) for each in known["queues"]]
        self._beat_at = now
        if self._id is None:
            work = "\0".join([self._prefix, *sorted(each["name"] for each in queues)])
            digest = hashlib.sha256(work.encode()).hexdigest()[:8]
            self._id = HostId(known["host"], known["pid"], digest, os.urandom(3).hex())
        rates = [each["ended_per_s"] for each in queues if each["ended_per_s"] is not None]
        return {
            **{name: known[name] for name in ("host", "pid", "version", "generation", "started_on")},
            "prefix": self._prefix,
            "interval_ms": self._interval_ms,
            "slots": sum(each["slots"] for each in queues),
            "busy": sum(each["busy"] for each in queues),
            "ended_per_s": round(sum(rates), 2) if rates else None,
            **together(recent.values()).plain(),
            "limits_by": queues[0]["limits_by"] if queues else None,
            "degraded": [each["name"] for each in queues if each["degraded"]],
            "queues": queues,
        }

    def _queue(self, known: Mapping[str, Any], recent: Recent) -> dict[str, Any]:
        """And how many jobs have ended in a second since the last beat; None at the first."""
        name, ended = known["name"], known["done"] + known["failed"]
        passed_s = self._clock() - self._beat_at
        rate = None
        if name in self._ended and passed_s > 0:
            rate = round((ended - self._ended[name]) / passed_s, 2)
        self._ended[name] = ended
        told = {each: known[each] for each in _TOLD_OF_A_QUEUE}
        return {**told, "ended_per_s": rate, **recent.plain()}
