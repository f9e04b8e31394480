"""The workers of one master: one a queue, and queues come and go while it runs.

Decides what becomes of a worker when the queues that are wanted change: a new one begins, one that is wanted
no more takes no job and ends with its last. What a worker does is its own.

Rule     no request to cancel is missed when the queues change: what was asked meanwhile is looked for
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from supervisor.master.births import SPAWN_BURST, SPAWNS_PER_S
from supervisor.master.health import Bucket
from supervisor.master.hooks import Hooks
from supervisor.master.report import report
from supervisor.master.runners import Runners
from supervisor.master.settings import QueueSettings
from supervisor.master.signals import Request
from supervisor.master.worker import Surroundings, Worker
from supervisor.observe.log import get
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.marker import MarkerWaiter
from supervisor.transport.subscription import Subscription

log = get("crew")

POLL_S: Final = 0.02

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Crew:
    """`workers` are all that fetch or still have a job."""

    def __init__(
        self,
        workers: list[Worker],
        around: Surroundings,
        spawn: Spawn,
        *,
        address: Address,
        prefix: str,
        connect_timeout_s: float,
    ) -> None:
        """`spawn` has a coroutine run for as long as the master does; when it fails, the master does."""
        self.workers = workers
        self._around = around
        self._spawn = spawn
        self._address = address
        self._prefix = prefix
        self._connect_timeout_s = connect_timeout_s
        self._loops: dict[Worker, asyncio.Task[None]] = {}
        self._listening: asyncio.Task[None] | None = None
        self.quiet = False  # a new one is to be as quiet as the others

    def begin(self, settings: Sequence[QueueSettings]) -> None:
        for each in settings:
            self._add(each)
        if self._around.pool is not None:
            self._around.pool.look()
        self._tell_unkept()
        slots = sum(len(worker.slots) for worker in self.workers)
        runners: Runners = self._around.runners
        runners.births.bucket = Bucket(2 * slots + SPAWN_BURST, SPAWNS_PER_S, self._around.loop.time)
        self._listen()

    def adopt(self, settings: Sequence[QueueSettings], hooks: Hooks | None) -> tuple[list[str], list[str]]:
        """Serve these queues in this way from now on: the names of the queues that came, and that went."""
        there = {worker.keys.name: worker for worker in self.workers if not worker.leaving}
        wanted = {each.name for each in settings}
        came = []
        for each in settings:
            if (worker := there.get(each.name)) is not None:
                worker.adopt(each)
            else:
                self._add(each)
                came.append(each.name)
        for worker in self.workers:
            worker.hooks = hooks
        gone = [worker for name, worker in there.items() if name not in wanted]
        for worker in gone:
            worker.leave()
            log.info("queue.leaving", queue=worker.keys.name, running=worker.running())
            self._spawn(self._see_off(worker))
        if came:
            self._listen()
        self._rest_if_quiet()
        self._tell_unkept()
        return came, [worker.keys.name for worker in gone]

    def _add(self, settings: QueueSettings) -> None:
        keys = QueueKeys(settings.name, self._prefix)
        suffix = f":w:{settings.worker_name}" if settings.worker_name else ""
        marker = MarkerWaiter(self._address, client_name=keys.client_name(suffix))
        worker = Worker(keys, settings, marker, self._around)
        self.workers.append(worker)
        if self.quiet:
            worker.fetcher.pause()
        if settings.share is None:
            worker.places.fit(settings)
        self._loops[worker] = self._spawn(worker.run())

    def _tell_unkept(self) -> None:
        why = self._around.runners.no_cpu
        for worker in self.workers:
            if not worker.leaving and (names := worker.unkept):
                log.warning("limits.unkept", queue=worker.keys.name, limits=names, why=why)

    async def _see_off(self, worker: Worker) -> None:
        """Its locks are renewed until its last job is written; however long that takes."""
        while worker.slots or not worker.settled():
            await asyncio.sleep(POLL_S)
        loops = self._loops.pop(worker)
        loops.cancel()
        with suppress(asyncio.CancelledError):
            await loops
        await worker.close()
        worker.forget()
        self.workers.remove(worker)
        log.info("queue.left", queue=worker.keys.name, done=worker.dispatcher.done)
        self._listen()

    # --- requests ------------------------------------------------------------------------------------

    def tell(self, request: Request, workers: Sequence[Worker]) -> None:
        """Be quiet, fetch again, or report."""
        for worker in workers:
            match request:
                case Request.QUIET:
                    worker.fetcher.pause()
                case Request.RESUME:
                    worker.fetcher.resume()
                case Request.REPORT:
                    report(worker, time.monotonic())
        if request is Request.REPORT:
            return
        if len(workers) == len(self.workers):
            self.quiet = request is Request.QUIET
        self._rest_if_quiet()
        log.info(
            "master.quieted" if request is Request.QUIET else "master.resumed",
            queues=[each.keys.name for each in workers],
        )

    def _rest_if_quiet(self) -> None:
        """Nobody is kept ready for queues that fetch nothing."""
        self._around.runners.spares.rest(all(each.fetcher.quiet for each in self.workers))

    def scale(self, by: int, workers: Sequence[Worker]) -> None:
        """So many slots more for each, and for the pool if it is one of its queues, or less; one at least."""
        serving = [worker for worker in workers if not worker.leaving]
        for worker in serving:
            if worker.member is None:
                log.info("slots.changed", queue=worker.keys.name, slots=worker.scale(by))
        pool = self._around.pool
        if pool is not None and any(worker.member is not None for worker in serving):
            log.info("pool.changed", slots=pool.scale(by))

    # --- requests to cancel -----------------------------------------------------------------------------

    def _listen(self) -> None:
        """Hear of requests to cancel for all queues, on one connection."""
        if self._listening is not None:
            self._listening.cancel()
        self._listening = self._spawn(self._subscription().keep())

    def _subscription(self) -> Subscription:
        channels = list(dict.fromkeys(worker.keys.cancel for worker in self.workers))

        def heard(channel: str, payload: bytes) -> None:
            for worker in self.workers:  # two of one queue: it was taken away, and came back
                if worker.keys.cancel == channel:
                    worker.cancelling.heard(payload)

        return Subscription(
            self._address,
            channels,
            on_message=heard,
            on_heard=self._hears,
            connect_timeout_s=self._connect_timeout_s,
        )

    def _hears(self, hears: bool, why: str) -> None:
        if not hears:
            log.warning("cancel.unheard", why=why)
            return
        for worker in self.workers:
            worker.cancelling.look_at_all()  # what was asked while nobody listened
