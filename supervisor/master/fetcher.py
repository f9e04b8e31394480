"""When to ask Redis for jobs of one queue, and how long to wait when there are none.

Decides only that. The call itself is made together with the outcomes (exchange.py), who runs what is the
dispatcher's. A job is fetched only for a slot that is free (I2), so this module is asked with their number.

Reads    replies to `FinishAndFetch`; the marker, on a connection of its own
Writes   the base marker, when it popped one it had no use for
Tells    `kick()`, when it is worth asking again
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from supervisor.errors import RedisError
from supervisor.observe.log import get
from supervisor.protocol.commands.work import Exchange
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.marker import Behind

log = get("fetcher")

LONGEST_HOLD_S = 30.0  # of the limiter: delayed jobs are promoted by fetches, so one is made now and then
LONGEST_BLOCK_S = 5.0  # when a delayed job's time is known
ERROR_PAUSE_S = 1.0
HELD = "paused, or at its global concurrency"


class Marker(Protocol):
    """What of transport.marker.MarkerWaiter is needed here."""

    async def wait(
        self, key: str, timeout_s: float, behind: Behind[Exchange] | None = None
    ) -> float | None: ...
    def interrupt(self) -> None: ...


class Calls(Protocol):
    """Who makes them: what of `Exchanger` is needed here."""

    def kick(self) -> None: ...
    def look(self) -> None: ...
    def unasked(self) -> int: ...
    def stand(self, block_s: float) -> Behind[Exchange] | None: ...
    def stood(self, behind: Behind[Exchange]) -> bool: ...


class Fetcher:
    """The appetite of one worker."""

    def __init__(
        self,
        keys: QueueKeys,
        marker: Marker,
        *,
        drain_delay_s: float,
        free: Callable[[], int],
        calls: Calls,
        put_back_marker: Callable[[], None],
        wall_clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._keys = keys
        self._marker = marker
        self._drain_delay_s = drain_delay_s
        self._free = free
        self._calls = calls
        self._put_back_marker = put_back_marker
        self._wall_clock = wall_clock
        self._loop = loop
        self._hungry = True  # there may be something to fetch
        self._woken = False  # since the last call took our appetite along
        self._due_on = 0.0  # epoch ms of the next delayed job, 0 for none known
        self._held_until = 0.0  # by the limiter or after an error, loop time
        self._waiter_wanted = asyncio.Event()
        self._release: asyncio.TimerHandle | None = None
        self.quiet = False  # fetch nothing more (stop, TSTP)
        self.pooled = False  # a slot may come from other queues though none is free: the marker is watched
        self._waiting = False
        self.cut_short = False  # a wait was interrupted: the marker it was about to pop may be lost
        self.refusal = ""  # why Redis gave no jobs when we last asked
        self._held = False  # paused, or at its global concurrency, when we last looked
        self.fetched_at = 0.0  # loop time of the last answer to a call that asked for jobs; 0 for none yet
        self.fetched = 0  # ids that were taken off a list

    def adopt(self, drain_delay_s: float) -> None:
        """Block so long from the next time on."""
        self._drain_delay_s = drain_delay_s

    def appetite(self, free: int, *, finishing: bool) -> int:
        """How many jobs the next call may take. A call that finishes jobs asks along, as BullMQ's does."""
        if self.quiet or free <= 0 or self._loop.time() < self._held_until:
            return 0
        if not (self._hungry or finishing):
            return 0
        self._woken = False
        return free

    def learned(self, asked: int, exchange: Exchange, *, waited: bool = False) -> None:
        """Draw the conclusions of a reply to a call that asked for `asked` > 0 jobs.

        waited   it stood behind a pop, and so will the next: if it has left jobs, it has left a marker.
        """
        self.fetched_at = self._loop.time()
        self.fetched += len(exchange.jobs) + len(exchange.dropped)
        if exchange.held and not self._held:
            log.info("queue.held", queue=self._keys.name, why=HELD)
        self._held = exchange.held
        if exchange.fetch_error is not None:
            self._refused(exchange.fetch_error)
            self.hold(ERROR_PAUSE_S)
            return
        self.refusal = ""
        if exchange.limited_ms > 0:
            self.hold(exchange.limited_ms / 1000)
        elif len(exchange.jobs) + len(exchange.dropped) >= asked and not waited:
            self._hungry = True  # as many as asked for: there may be more
        else:
            # A marker that was popped after this call had run speaks of a job that it cannot have seen.
            self._hungry = self._woken
            self._due_on = float(exchange.next_due_ms)
            self._waiter_wanted.set()

    def _refused(self, why: str) -> None:
        """Say it once: asked again every second, a broken queue would fill the log with one sentence."""
        if why != self.refusal:
            self.refusal = why
            log.error("queue.fetch_failed", queue=self._keys.name, error=why)

    def hold(self, for_s: float) -> None:
        """Fetch nothing for a while: the limiter, a `RateLimited`, an error."""
        self._held_until = max(self._held_until, self._loop.time() + min(for_s, LONGEST_HOLD_S))
        if self._release is not None:
            self._release.cancel()
        self._release = self._loop.call_at(self._held_until, self.wake)
        self._calls.kick()  # nor may a call stand

    @property
    def hungry(self) -> bool:
        """There may be something to fetch, and it is the time to ask."""
        return self._hungry and not self.quiet and not self.holds

    @property
    def holds(self) -> bool:
        """Is it not the time to ask: the limiter, a `RateLimited`, an error?"""
        return self._loop.time() < self._held_until

    @property
    def why_held(self) -> str:
        """Why Redis gives no jobs, by its last answer; empty while it does."""
        if self.refusal:
            return f"Redis gives no jobs: {self.refusal}"
        if self._held:
            return HELD
        left_s = self._held_until - self._loop.time()
        return f"rate limited for {left_s:.1f} s more" if left_s > 0 else ""

    def wake(self) -> None:
        """There may be something: ask once without waiting (new marker, reconnect, limiter over)."""
        self._hungry = self._woken = True
        self._calls.kick()

    def freed(self) -> None:
        """A slot came free while nothing was to be had: somebody must watch the marker."""
        if not self._hungry:
            self._waiter_wanted.set()

    async def watch(self) -> None:
        """Wait on the marker whenever slots are free and nothing is known to wait; ends by cancellation."""
        while True:
            await self._waiter_wanted.wait()
            self._waiter_wanted.clear()
            # A slot that a call on its way was asked to fill needs no watch: its answer is looked at.
            while not self._hungry and not self.quiet and (self.pooled or self._calls.unasked() > 0):
                await self._watch_once()

    async def _watch_once(self) -> None:
        timeout_s = self._block_s()
        if timeout_s <= 0:
            self._due_on = 0.0
            self.wake()
            return
        behind = None if self.pooled or self.holds else self._calls.stand(timeout_s)
        if behind is not None:
            self._woken = False
        score, refusal, ran = None, "", False
        self._waiting = True
        try:
            score = await self._marker.wait(self._keys.marker, timeout_s, behind)
        except RedisError as error:
            refusal = str(error)
        finally:
            self._waiting = False
            if behind is not None:
                ran = self._calls.stood(behind)
        if refusal:  # a corrupt marker key, say: look now and then instead
            self._refused(refusal)
            await asyncio.sleep(ERROR_PAUSE_S)
        if ran:
            return
        if score and score > self._wall_clock() * 1000:
            # The delay marker: the time of the earliest delayed job. Remember the earlier of two.
            self._due_on = min(self._due_on, score) if self._due_on else score
            return
        if (score is not None or self.pooled) and (self._free() <= 0 or self.quiet):
            if score is not None:
                # Our slots were filled meanwhile: the marker belongs to another worker's idle slot.
                self._put_back_marker()
            if score is None or self.quiet or not self.pooled:
                return
            # There are jobs: the next slot of the pool that this queue may have is for them.
        self._hungry = self._woken = True
        self._calls.look()

    def _block_s(self) -> float:
        if not self._due_on:
            return self._drain_delay_s
        return min(self._due_on / 1000 - self._wall_clock(), LONGEST_BLOCK_S)

    def interrupt(self) -> None:
        """Stopping: do not wait for the block to end."""
        self.quiet = True
        self.cut_short = self.cut_short or self._waiting
        self._marker.interrupt()
        if self._release is not None:
            self._release.cancel()

    def recall(self) -> None:
        """Have back the call that stands at the server."""
        self._marker.interrupt()

    def ask_anew(self) -> None:
        """Whatever we wait for: forget it, and ask on a new connection."""
        self._marker.interrupt()
        self.wake()

    def pause(self) -> None:
        """Fetch nothing until `resume`; a marker that is popped meanwhile is put back."""
        self.quiet = True
        self._calls.kick()  # who shares its slots may have them

    def resume(self) -> None:
        self.quiet = False
        self.wake()
