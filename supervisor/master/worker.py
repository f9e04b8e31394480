"""The master's share in one queue: puts the parts of one worker together and runs their loops.

Composes only; each decision is in the part that has its name. Longer than most modules because whatever is
asked of a worker, by stopping, the watchdog, the pool or a reload, is asked here.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import structs

from sandbox.wire import Kind
from supervisor.errors import RedisError
from supervisor.master.alerts import Alerts
from supervisor.master.alone import Alone
from supervisor.master.asks import Asks
from supervisor.master.attempt import Attempt
from supervisor.master.cancelling import Cancelling
from supervisor.master.dispatcher import Dispatcher
from supervisor.master.exchange import Exchanger
from supervisor.master.fetcher import Fetcher
from supervisor.master.health import Health
from supervisor.master.hooks import Hooks
from supervisor.master.latency import Latency
from supervisor.master.layers import unkept
from supervisor.master.lease import Leases
from supervisor.master.member import PooledWorker
from supervisor.master.messages import cancel_frame
from supervisor.master.needs import Needs
from supervisor.master.notify import Listener
from supervisor.master.nursery import Nursery
from supervisor.master.pool import Pool
from supervisor.master.relay import Relay
from supervisor.master.runners import Runners
from supervisor.master.scheduling import Scheduling
from supervisor.master.settings import NO_THRESHOLDS, QueueSettings
from supervisor.master.slots import Numbers, Slots
from supervisor.master.stalled import watch_stalled
from supervisor.master.watch import Watch
from supervisor.observe.log import get
from supervisor.protocol.commands.queue import WakeWorker
from supervisor.protocol.commands.work import FetchedJob, Outcome
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis
from supervisor.transport.marker import MarkerWaiter

log = get("worker")

HOPELESS_AFTER_S = 8.0  # a pause of the degraded queue: three jobs were tried alone by then
MOST_SLOTS = 1024
WAKE_WITHIN_S = 0.5  # at the end of a stop; a hint is not worth more


class Surroundings(msgspec.Struct, frozen=True):
    """What all workers of one master share.

    nursery_of   where the runners of a queue come from.
    numbers      of slots.
    pool         of slots, for the queues that have a share of it.
    """

    redis: Redis
    runners: Runners
    nursery_of: Callable[[str], Nursery]
    numbers: Numbers
    listener: Listener
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    rng: Callable[[], float]
    loop: asyncio.AbstractEventLoop
    hooks: Hooks | None = None
    watch: Watch | None = None
    alone: Alone | None = None
    pool: Pool | None = None
    on_written: Callable[[str, Attempt, Outcome], None] | None = None


class Worker:
    """One queue's worker."""

    def __init__(
        self, keys: QueueKeys, settings: QueueSettings, marker: MarkerWaiter, around: Surroundings
    ) -> None:
        self.keys = keys
        self.settings = settings
        self.hooks = around.hooks
        self.leaving = False  # nothing is fetched for it any more; what runs comes to its end
        self._configured = settings.concurrency  # `scale` may have made it more or less
        self._around = around
        self._marker = marker
        self._group: asyncio.TaskGroup | None = None
        self._timed: list[asyncio.Task[None]] = []
        self.member: PooledWorker | None = None  # of the pool, where its slots are shared
        loop = around.loop
        self.exchanger = Exchanger(
            around.redis,
            keys,
            slots=settings.concurrency,
            worker_id=str(uuid.uuid4()),
            worker_name=settings.worker_name,
            lock_ms=settings.lock_ms,
            limiter=settings.limiter,
            metrics=settings.metrics,
            clock=around.clock,
            wall_clock=around.wall_clock,
            loop=loop,
        )
        self.leases = Leases(
            around.redis,
            keys,
            duration_ms=settings.lock_ms,
            clock=around.clock,
            on_lost=lambda job_id, why: self.dispatcher.lock_lost(job_id, why),
        )
        self.health = Health(
            keys.name,
            loop=loop,
            wake=lambda: self.fetcher.wake(),
            stands=lambda: any(slot.stands(loop.time()) for slot in self.slots),
        )
        self.dispatcher = Dispatcher(
            settings,
            runners=around.runners,
            exchanger=self.exchanger,
            leases=self.leases,
            relay=Relay(
                around.redis,
                keys,
                asks=Asks(around.redis, keys, wall_clock=around.wall_clock),
                listener=around.listener,
                clock=around.clock,
                loop=loop,
            ),
            listener=around.listener,
            clock=around.clock,
            rng=around.rng,
            loop=loop,
            health=self.health,
            watch=around.watch,
            alone=around.alone,
        )
        self.cancelling = Cancelling(
            around.redis,
            keys,
            self.dispatcher,
            grace_ms=settings.cancel_grace_ms,
            wall_clock=around.wall_clock,
            loop=loop,
        )
        self.leases.on_renewed = self.cancelling.look
        self.needs = Needs()
        self.latency = Latency()
        self.dispatcher.on_written = self._written
        self.dispatcher.wall_clock = around.wall_clock
        self.fetcher = Fetcher(
            keys,
            marker,
            drain_delay_s=settings.drain_delay_ms / 1000,
            free=self.free,
            calls=self.exchanger,
            put_back_marker=lambda: self._put_back_marker(),
            wall_clock=around.wall_clock,
            loop=loop,
        )
        self.exchanger.fetcher = self.fetcher
        self.exchanger.dispatch = self.dispatcher
        self.scheduling = Scheduling(
            around.redis,
            keys,
            wall_clock=around.wall_clock,
            give_up=lambda: self.exchanger.give_up(),
            loop=loop,
        )
        self.exchanger.on_fetched = self._fetched
        self.places = Slots(
            self.dispatcher,
            settings,
            runners=around.runners,
            nursery_of=around.nursery_of,
            numbers=around.numbers,
            on_failed_birth=self.health.birth_failed,
        )
        self.slots = self.places.all
        self._share()

    def _share(self) -> None:
        """Join the pool, or leave it, as the settings say."""
        pool, share = self._around.pool, self.settings.share
        if pool is None or share is None:
            if self.member is not None:
                self.member.leave()
            self.member = self.dispatcher.most = None
        elif self.member is None:
            self.member = PooledWorker(self, pool, share)
            self.dispatcher.most = self.member.most
        else:
            self.member.adopt(share)
        self.fetcher.pooled = self.member is not None
        if pool is not None and self.member is not None:
            pool.adopt(self.settings.concurrency)

    # --- slots ------------------------------------------------------------------------------------------

    def scale(self, by: int) -> int:
        """So many slots more, or less when negative, but one at least; how many there are now."""
        wanted = min(max(self.settings.concurrency + by, 1), MOST_SLOTS)
        self.settings = structs.replace(self.settings, concurrency=wanted)
        self._adopt_for_calls()
        self.places.fit(self.settings)
        return wanted

    # --- other settings ---------------------------------------------------------------------------------

    def adopt(self, settings: QueueSettings) -> None:
        """Work by these from now on, with runners of the nursery that the queue has now.

        How many slots there are changes when the settings say another number than before: what `scale` has
        made of it stays otherwise.
        """
        before = self.settings
        as_before = (settings.share is None) is (before.share is None)
        if settings.concurrency == self._configured and as_before:
            settings = structs.replace(settings, concurrency=before.concurrency)
        else:
            self._configured = settings.concurrency
        self.settings = settings
        self.dispatcher.adopt(settings)
        self.fetcher.adopt(settings.drain_delay_ms / 1000)
        self.cancelling.adopt(settings.cancel_grace_ms)
        self._adopt_for_calls()
        self._adopt_lock(min(before.lock_ms, settings.lock_ms))
        if _times(settings) != _times(before):
            self._restart_timed()
        self._share()
        self.places.adopt(settings)

    def _adopt_for_calls(self) -> None:
        its = self.settings
        self.exchanger.adopt(
            slots=its.concurrency, lock_ms=its.lock_ms, limiter=its.limiter, metrics=its.metrics
        )

    def _adopt_lock(self, shorter_ms: int) -> None:
        """I3: a call on its way has set the lock for as long as it was told, so the shorter one counts."""
        self.leases.adopt(shorter_ms)
        left = self.exchanger.under_way()

        def answered(call: asyncio.Future[Any]) -> None:
            left.discard(call)
            if not left:
                self.leases.adopt(self.settings.lock_ms)

        for call in list(left):
            call.add_done_callback(answered)
        if not left:
            self.leases.adopt(self.settings.lock_ms)

    # --- the loops --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """The worker's loops; ends by cancellation, or with the error of the first that breaks."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self.fetcher.watch())
            self._restart_timed()

    def _restart_timed(self) -> None:
        """The loops that wait for times which are settings, by what those are now."""
        if self._group is None:
            return
        for task in self._timed:
            task.cancel()
        loops: list[Coroutine[Any, Any, None]] = [self.leases.keep()]
        if not self.settings.stalled_skip:
            loops.append(
                watch_stalled(
                    self._around.redis,
                    self.keys,
                    interval_ms=self.settings.stalled_interval_ms,
                    max_stalled=self.settings.max_stalled,
                    wall_clock=self._around.wall_clock,
                    recovered=self._recovered,
                )
            )
        if self.settings.thresholds != NO_THRESHOLDS:
            around = self._around
            alerts = Alerts(around.redis, self.keys, self.settings.thresholds, wall_clock=around.wall_clock)
            loops.append(alerts.watch(self.settings.look_interval_ms / 1000))
        self._timed = [self._group.create_task(each) for each in loops]

    def _fetched(self, job: FetchedJob) -> None:
        self.scheduling.fetched(job)
        self.cancelling.fetched(job.id)

    def _written(self, attempt: Attempt, outcome: Outcome) -> None:
        self.cancelling.written(attempt, outcome)
        self.needs.ended(attempt)
        self.latency.ended(attempt)
        if self.hooks is not None:
            self.hooks.written(self.keys.name, attempt, outcome)
        if self._around.on_written is not None:
            self._around.on_written(self.keys.name, attempt, outcome)

    def reconnected(self) -> None:
        """Redis is back. The pop whose reply was lost may have eaten the marker: ask once without waiting."""
        self.fetcher.wake()
        self.cancelling.look_at_all()

    def _recovered(self, job_ids: list[str]) -> None:
        if self.hooks is not None:
            self.hooks.stalled(self._around.redis, self.keys, job_ids)
        self.fetcher.wake()
        self.cancelling.look(job_ids)

    def _put_back_marker(self) -> None:
        sent = self._around.redis.submit(WakeWorker(self.keys))
        sent.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # a hint; losing it costs latency

    def forget(self) -> None:
        """It has ended before the master does."""
        if self._around.alone is not None:
            self._around.alone.leave(self.dispatcher)
        if self.member is not None:
            self.member.leave()

    async def close(self) -> None:
        await self.cancelling.close()
        await self._marker.close()
        if self.fetcher.cut_short and self._around.redis.connected:
            await self._wake_another()

    async def _wake_another(self) -> None:
        """The pop that the stop cut short may have eaten a marker; another would sleep through its job.

        Twice, because the server may read the first before it has noticed that our pop has hung up, and would
        give the marker to that. When it has answered the first, it has noticed.
        """
        with suppress(RedisError, TimeoutError):
            async with asyncio.timeout(WAKE_WITHIN_S):
                for _ in range(2):
                    await self._around.redis.execute(WakeWorker(self.keys))

    # --- stopping ---------------------------------------------------------------------------------------

    def quiet(self) -> None:
        self.health.close()
        self.fetcher.interrupt()
        self.dispatcher.quiet()

    def leave(self) -> None:
        """The queue is not served any more: what runs comes to its end, what waits here goes back."""
        self.leaving = True
        self.quiet()
        self.places.shut()
        for attempt in list(self.dispatcher.attempts.values()):
            if attempt.verdict is None and attempt.runner is None:
                self.dispatcher.cut_off(attempt)

    def room(self) -> int:
        """Jobs that may run at a time."""
        return sum(slot.room for slot in self.slots)

    def free(self) -> int:
        """Jobs that a runner waits for now, of those included that other queues have no use for."""
        idle = self.dispatcher.idle()
        if idle > 0 or self.member is None or not self.dispatcher.would_take():
            return idle
        return self.member.offers()

    def done(self) -> int:
        return self.dispatcher.done

    @property
    def lock_s(self) -> float:
        return self.settings.lock_ms / 1000

    def oldest_lock_s(self) -> float | None:
        """Since the oldest lock was set or renewed."""
        return self.leases.oldest_s()

    @property
    def unkept(self) -> list[str]:
        """Limits of its jobs that nobody keeps on this host."""
        return unkept(self.settings.limits.values(), self._around.runners.no_cpu)

    @property
    def held_back(self) -> str:
        """Why we fetch less than we could, by a decision of our own."""
        return self.health.why

    def running(self) -> int:
        return sum(attempt.verdict is None for attempt in self.dispatcher.attempts.values())

    def unfinished(self) -> int:
        """Jobs that run, or whose outcome is not written."""
        return len(self.dispatcher.attempts)

    @property
    def hopeless(self) -> str:
        """Why it makes no sense to wait for this queue; empty while it does."""
        return self.health.why if self.health.pause_s >= HOPELESS_AFTER_S else ""

    def settled(self) -> bool:
        """Nothing runs, and everything that was decided is written or given up."""
        return not (self.dispatcher.attempts or self.exchanger.busy or self.scheduling.busy)

    def cancel(self, reason: str) -> None:
        body = cancel_frame(reason)
        for attempt in self.dispatcher.attempts.values():
            if attempt.verdict is None and attempt.runner is not None:
                attempt.runner.pipe.send(Kind.CANCEL, body, attempt.number)

    def hand_back(self) -> int:
        """Cut off whatever still runs; returns how many."""
        running = [attempt for attempt in self.dispatcher.attempts.values() if attempt.verdict is None]
        for attempt in running:
            self.dispatcher.cut_off(attempt)
        return len(running)


def _times(settings: QueueSettings) -> tuple[object, ...]:
    """What the loops wait for, or look at when they do not wait."""
    return (
        settings.lock_ms,
        settings.stalled_skip,
        settings.stalled_interval_ms,
        settings.max_stalled,
        settings.thresholds,
        settings.look_interval_ms,
    )
