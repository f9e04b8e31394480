"""A hundred masters on one queue: what they ask of Redis together, idle and at work, beside one alone.

Simulated clients, all in one process: each is a master's own fetcher, exchanger, marker and stalled check
over connections of its own, with a dispatcher that has every job done at once. What Redis sees is what
masters send; how fast this one process is says nothing.

idle       commands a second by name, and Redis' CPU, nothing to do
trickle    one job at a time into the idle crowd: script calls and Redis' CPU by job, add to taken
flood      many jobs at once: the same by job, and how many masters had a part in it
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from ground import QUEUE, Failed, Ground

from supervisor.client import Queue
from supervisor.master.exchange import Exchanger
from supervisor.master.fetcher import Fetcher
from supervisor.master.stalled import watch_stalled
from supervisor.protocol.commands.queue import WakeWorker
from supervisor.protocol.commands.work import Completed, FetchedJob
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.aio import Redis
from supervisor.transport.marker import MarkerWaiter

CROWDS: Final = (1, 100)
SLOTS: Final = 8
LOCK_MS: Final = 30_000
STALLED_MS: Final = 5_000  # more often than the 30 s of masters, so that a short run sees some
DRAIN_S: Final = 5.0
MOST: Final = 20_000
A_TRIAL: Final = 5_000  # with fewer jobs nobody wants figures
PATIENCE_S: Final = 60.0
Say = Callable[[str], None]


@dataclass
class Tally:
    """What the whole crowd has seen. `taken_at` by job id."""

    taken_at: dict[str, float] = field(default_factory=dict)
    written: int = 0
    by_master: Counter[int] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)  # what the loop had to say

    async def until(self, fact: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not fact():
            if self.broken:
                raise Failed(f"a simulated master broke: {self.broken[0]}")
            if time.monotonic() > give_up_at:
                raise Failed(f"the simulated masters did not come to an end in {PATIENCE_S:.0f} s")
            await asyncio.sleep(0.0005)


class Master:
    """One of them. Its jobs end as soon as they are taken."""

    def __init__(
        self, number: int, keys: QueueKeys, redis: Redis, marker: MarkerWaiter, tally: Tally
    ) -> None:
        self._number = number
        self._keys = keys
        self._redis = redis
        self._tally = tally
        self._busy = 0
        loop = asyncio.get_running_loop()
        self._exchanger = Exchanger(
            redis,
            keys,
            slots=SLOTS,
            worker_id=f"master-{number}",
            worker_name="",
            lock_ms=LOCK_MS,
            limiter=None,
            metrics=0,
            clock=time.monotonic,
            wall_clock=time.time,
            loop=loop,
        )
        self._fetcher = Fetcher(
            keys,
            marker,
            drain_delay_s=DRAIN_S,
            free=self.free,
            calls=self._exchanger,
            put_back_marker=lambda: redis.submit(WakeWorker(keys)).cancel,
            wall_clock=time.time,
            loop=loop,
        )
        self._exchanger.fetcher = self._fetcher
        self._exchanger.dispatch = self

    async def run(self) -> None:
        self._fetcher.wake()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fetcher.watch())
            group.create_task(
                watch_stalled(
                    self._redis,
                    self._keys,
                    interval_ms=STALLED_MS,
                    max_stalled=1,
                    wall_clock=time.time,
                    recovered=lambda ids: self._fetcher.wake(),
                )
            )

    def leave(self) -> None:
        self._fetcher.interrupt()

    @property
    def busy(self) -> bool:
        return self._exchanger.busy

    # --- what the exchanger asks of a dispatcher ---------------------------------------------------------

    def idle(self) -> int:
        return SLOTS - self._busy

    free = idle

    def take(self, job: FetchedJob, fetched_at: float, sent_at: float) -> None:
        self._tally.taken_at[job.id] = time.monotonic()
        self._tally.by_master[self._number] += 1
        self._busy += 1
        self._exchanger.finish(job, Completed(job.id, job.token, b"null", KEEP_ALL))  # type: ignore[arg-type]

    def flush(self) -> None:
        pass  # nothing is kept back for a common write

    def written(self, attempt: Any, outcome: Any, result: Any) -> None:
        self._busy -= 1
        self._tally.written += result.code == 0
        self._fetcher.freed()

    def unknown(self, attempt: Any, why: str) -> None:
        raise Failed(f"an outcome of the simulated masters is not known: {why}")


def run(ground: Ground, jobs: int, say: Say) -> None:
    for size in CROWDS:
        say(f"{size} masters on one queue")
        asyncio.run(_crowd(ground, size, min(jobs, MOST)))


async def _crowd(ground: Ground, size: int, jobs: int) -> None:
    ground.empty()
    keys, tally, address = QueueKeys(QUEUE, "bull"), Tally(), Address.parse(ground.url)
    asyncio.get_running_loop().set_exception_handler(lambda loop, said: tally.broken.append(_told(said)))
    async with AsyncExitStack() as stack:
        members = []
        for number in range(size):
            redis = await stack.enter_async_context(await Redis.connect(address))
            marker = MarkerWaiter(address)
            stack.push_async_callback(marker.close)
            members.append(Master(number, keys, redis, marker, tally))
        queue = await stack.enter_async_context(Queue(QUEUE, url=ground.url, prefix="bull"))
        running = [asyncio.create_task(each.run()) for each in members]
        try:
            # Each has found the queue empty, and waits for the marker.
            await tally.until(lambda: ground.raw.info("clients")["blocked_clients"] == size)
            print(f"**{size} master{'s' if size > 1 else ''}, {SLOTS} slots each**\n")
            await _idle(ground, 10.0 if jobs >= A_TRIAL else 0.5)
            await _trickle(ground, queue, tally, 200 if jobs >= A_TRIAL else 10)
            await _flood(ground, queue, tally, jobs)
        finally:
            for each in members:
                each.leave()
            await tally.until(lambda: not any(each.busy for each in members))
            for each in running:
                each.cancel()
            ends = await asyncio.gather(*running, return_exceptions=True)
        for end in ends:
            if not isinstance(end, asyncio.CancelledError):
                raise end if isinstance(end, BaseException) else Failed("a master ended by itself")


def _told(said: dict[str, Any]) -> str:
    return f"{said.get('message', '')}: {said.get('exception')!r}"


async def _idle(ground: Ground, for_s: float) -> None:
    ground.raw.config_resetstat()
    before = ground.spent().cpu_s
    await asyncio.sleep(for_s)
    cpu = (ground.spent().cpu_s - before) / for_s
    stats: Any = ground.raw.info("commandstats")
    named = {name.removeprefix("cmdstat_"): each["calls"] / for_s for name, each in stats.items()}
    busiest = sorted(named.items(), key=lambda each: -each[1])[:6]
    said = ", ".join(f"{name} {calls:.1f}" for name, calls in busiest)
    print(f"- idle: Redis' CPU {100 * cpu:.2f} % of a core; commands a second: {said}")


async def _trickle(ground: Ground, queue: Queue, tally: Tally, jobs: int) -> None:
    before, taken_ms, written = ground.spent(), [], tally.written
    for number in range(jobs):
        added_at = time.monotonic()
        job = await queue.add("noop", {"i": number})
        await tally.until(lambda job=job: job.id in tally.taken_at)
        taken_ms.append(1000 * (tally.taken_at[job.id] - added_at))
        await asyncio.sleep(0.01)
    await tally.until(lambda: tally.written - written == jobs)
    print(f"- one at a time: {_by_job(ground, before, jobs)}; add to taken {_spread(taken_ms)} ms")


async def _flood(ground: Ground, queue: Queue, tally: Tally, jobs: int) -> None:
    written, bulk = tally.written, [("noop", {"i": number}) for number in range(jobs)]
    before = ground.spent()
    tally.by_master.clear()
    began_at = time.monotonic()
    await queue.add_bulk(bulk)
    await tally.until(lambda: tally.written - written == jobs)
    rate = jobs / (time.monotonic() - began_at)
    told = f"{_by_job(ground, before, jobs)} (adding included); {len(tally.by_master)} masters had a part"
    print(f"- {jobs:,} at once: {told}; {rate:,.0f} jobs/s through this one process\n")


def _by_job(ground: Ground, before: Any, jobs: int) -> str:
    spent = ground.spent()
    calls, cpu_us = (
        (spent.script_calls - before.script_calls) / jobs,
        (spent.cpu_s - before.cpu_s) / jobs * 1e6,
    )
    return f"{calls:.2f} script calls and {cpu_us:.0f} us of Redis' CPU a job"


def _spread(values_ms: Sequence[float]) -> str:
    ordered = sorted(values_ms)
    return f"p50 {statistics.median(ordered):.2f}, p99 {ordered[int(len(ordered) * 0.99)]:.2f}"
