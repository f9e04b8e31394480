"""What programs outside see of a master: pages over HTTP, a heartbeat in Redis, spans.

Composes, and turns the snapshot and the attempts that have ended into numbers. All of it but the heartbeat is
off by default, and what is off is not imported and costs an attempt nothing; with pages an attempt costs
about a microsecond here, with spans about another, and the rest of the work is done between two turns of the
loop.

Reads    the snapshot, when a page or a beat is due; attempts whose outcome is written
Tells    Prometheus, Redis, a collector; never anybody inside
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from supervisor.config.model import Config
from supervisor.master.attempt import Attempt
from supervisor.master.dispatcher import STATES
from supervisor.master.heartbeat import Heartbeat
from supervisor.master.verdicts import cause_of
from supervisor.observe.log import get, hooked
from supervisor.protocol.commands.work import Failed, Outcome, Retried
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.trace_context import carrier_of
from supervisor.transport.aio import Redis

if TYPE_CHECKING:
    from supervisor.master.depths import Depth, Depths
    from supervisor.master.figures import Figures
    from supervisor.master.worker import Worker
    from supervisor.observe.http import Answer, HttpServer, Page
    from supervisor.observe.tracing import Tracing

log = get("reporting")

Spawn = Callable[[Coroutine[Any, Any, None]], object]
Snapshot = Callable[[], Mapping[str, Any]]
Look = Callable[[], Awaitable[Mapping[str, Any]]]

TOLD_AGAIN_AFTER_S: Final = 60.0


class Reporting:
    """Made first, `open`ed before anything is started, `start`ed once there is Redis, `close`d last.

    pages      what is answered beside /metrics, by path; more may be added until `open`.
    snapshot   what is known, for beats.
    look       the same with the process trees, for /metrics.
    """

    def __init__(
        self,
        config: Config,
        snapshot: Snapshot,
        look: Look,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self.pages: dict[str, Page] = {}
        self._config = config
        self._snapshot = snapshot
        self._look = look
        self._clock = clock
        self._wall_clock = wall_clock
        self._server: HttpServer | None = None
        self._figures: Figures | None = None
        self._tracing: Tracing | None = None
        self._heartbeat: Heartbeat | None = None
        self._depths: Depths | None = None  # None until there is Redis, or without pages
        self._hooks = ExitStack()
        self._told_at: float | None = None

    async def open(self) -> None:
        """Listen, and be ready to trace. Raises `ConfigError` with a sentence when either cannot be."""
        if self._config.tracing.endpoint is not None:
            self._tracing = self._make_tracing(self._config.tracing.endpoint)
        if self._config.http.listen is not None:
            # At the top they would cost every master that has no pages.
            from supervisor.master.figures import Figures
            from supervisor.observe.http import HttpServer

            self._figures = figures = Figures(self._wall_clock() - self._clock())
            self._hooks.enter_context(hooked(figures.events))
            self._server = HttpServer(
                self._config.http.listen,
                {**self.pages, "/metrics": self._metrics},
                on_request=figures.asked,
            )
            await self._server.open()
            pages = sorted(self._server.pages)
            log.info("http.listening", address=str(self._server.place), pages=pages)

    def _make_tracing(self, endpoint: str) -> Tracing:
        # At the top it would be loaded by every master that makes no spans.
        from supervisor.observe.tracing import tracing_to

        loop = asyncio.get_running_loop()
        made = tracing_to(endpoint, tell=partial(_tell_loop, loop, self._tracing_failed))
        log.info("tracing.started", endpoint=endpoint)
        return made

    def _tracing_failed(self, error: str) -> None:
        """Called in the loop for each line of the SDK's: many, while a collector is away."""
        now = self._clock()
        if self._told_at is None or now - self._told_at >= TOLD_AGAIN_AFTER_S:
            self._told_at = now
            log.warning("tracing.failed", error=error)

    def start(self, redis: Redis, spawn: Spawn, workers: Sequence[Worker]) -> None:
        """Beat, and make spans.

        spawn     runs a loop for as long as the master works.
        workers   those that there are at any time.
        """
        interval_ms = self._config.heartbeat.interval_ms
        if interval_ms:
            self._heartbeat = Heartbeat(
                redis,
                self._config.redis.prefix,
                snapshot=self._snapshot,
                latencies=lambda: {worker.keys.name: worker.latency for worker in workers},
                interval_ms=interval_ms,
                clock=self._clock,
                wall_clock=self._wall_clock,
            )
            spawn(self._heartbeat.keep())
        if self._figures is not None:
            # As above.
            from supervisor.master.depths import Depths

            self._depths = Depths(redis, clock=self._clock, wall_clock=self._wall_clock)
        if self._tracing is not None:
            spawn(self._tracing.keep())

    @property
    def on_written(self) -> Callable[[str, Attempt, Outcome], None] | None:
        """Who wants to hear of each attempt whose outcome is written; None: nobody."""
        if self._tracing is None:
            return self._figures.written if self._figures is not None else None
        return self._written

    def _written(self, queue: str, attempt: Attempt, outcome: Outcome) -> None:
        if self._figures is not None:
            self._figures.written(queue, attempt, outcome)
        if self._tracing is not None and attempt.started_at:
            self._trace(self._tracing, queue, attempt, outcome)

    def _trace(self, tracing: Tracing, queue: str, attempt: Attempt, outcome: Outcome) -> None:
        from supervisor.observe.tracing import Ended  # as above

        job = attempt.job
        offset_s = self._wall_clock() - self._clock()
        cause = cause_of(attempt.verdict) if attempt.verdict is not None else None
        tracing.ended(
            Ended(
                queue,
                job.id,
                job.name,
                job.attempts_made + 1,
                STATES[type(outcome)],
                int((attempt.started_at + offset_s) * 1e9),
                int((attempt.ended_at + offset_s) * 1e9),
                partial(carrier_of, job.opts),
                outcome.reason if isinstance(outcome, Failed | Retried) else None,
                None if cause is None else str(cause),
            )
        )

    async def _metrics(self) -> Answer:
        # As above; the page is there only when these are.
        from supervisor.observe.exposition import CONTENT_TYPE
        from supervisor.observe.http import Answer

        assert self._figures is not None
        self._figures.wall_offset_s = self._wall_clock() - self._clock()
        dropped = self._tracing.dropped if self._tracing is not None else None
        known = await self._look()
        depths: Mapping[str, Depth] = {}
        if self._depths is not None:
            prefix = self._config.redis.prefix
            depths = await self._depths.look([QueueKeys(each["name"], prefix) for each in known["queues"]])
        text = self._figures.text(known, dropped, cpu_s=time.process_time(), depths=depths)
        return Answer(text, content_type=CONTENT_TYPE)

    async def leave(self) -> None:
        """Nothing is fetched any more and nothing runs: say so while there is Redis."""
        if self._heartbeat is not None:
            await self._heartbeat.leave()

    async def close(self) -> None:
        if self._tracing is not None:
            await self._tracing.close()
        if self._server is not None:
            await self._server.close()
        self._hooks.close()


def _tell_loop(loop: asyncio.AbstractEventLoop, tell: Callable[[str], None], error: str) -> None:
    """From a thread of the SDK's, which may outlive the loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(tell, error)
