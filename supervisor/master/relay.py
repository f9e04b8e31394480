"""What a running job says besides its outcome: progress, log rows, new data, questions.

Decides how much of it reaches Redis: progress at most ten times a second for a job, the newest value wins and
the last is sent before the outcome; a runner whose words Redis does not take in time is no longer read.
Values are bytes from a stranger and pass through unread (I7); they belong to the job whose link they came by.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from sandbox.wire import Kind
from supervisor.errors import OxherdError
from supervisor.master.asks import Asks
from supervisor.master.attempt import Attempt
from supervisor.master.messages import Ask, BadMessage, answer, read_ask
from supervisor.master.notify import Listener
from supervisor.observe.log import get
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.job import AddLog, UpdateData, UpdateProgress
from supervisor.protocol.keys import QueueKeys

log = get("relay")

PROGRESS_EVERY_S = 0.1
AHEAD_BYTES = 1024 * 1024  # of one job on their way to Redis before its runner is made to wait
CALL_BYTES = 1024  # what a call weighs in our memory beside what it carries
ASKS_AT_ONCE = 16  # a runner of ours asks one at a time; one may be left over by a time limit


class Redis(Protocol):
    """What of transport.aio.Redis is needed here. `submit` keeps the order of submission."""

    def submit(self, command: Command[Any]) -> asyncio.Future[Any]: ...


class Relay:
    """From runners to Redis, for one queue."""

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        *,
        asks: Asks,
        listener: Listener,
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._asks = asks
        self._listener = listener
        self._clock = clock
        self._loop = loop

    def progress(self, attempt: Attempt, value: bytes) -> None:
        attempt.progress = attempt.last_progress = value
        wait_s = attempt.progress_at + PROGRESS_EVERY_S - self._clock()
        if wait_s <= 0:
            self._send_progress(attempt)
        elif attempt.progress_timer is None:
            attempt.progress_timer = self._loop.call_later(wait_s, self._send_progress, attempt)

    def _send_progress(self, attempt: Attempt) -> None:
        if attempt.progress_timer is not None:
            attempt.progress_timer.cancel()
            attempt.progress_timer = None
        value, attempt.progress = attempt.progress, None
        if value is None:
            return
        attempt.progress_at = self._clock()
        self._submit(attempt, UpdateProgress(self._keys, attempt.job.id, value), len(value))
        self._listener.on_progress(self._keys.name, attempt.job.id, value)

    def log(self, attempt: Attempt, row: str) -> None:
        self._submit(attempt, AddLog(self._keys, attempt.job.id, row, attempt.options.keep_logs), len(row))

    def data(self, attempt: Attempt, value: bytes) -> None:
        self._submit(attempt, UpdateData(self._keys, attempt.job.id, value), len(value))

    def _submit(self, attempt: Attempt, command: Command[Any], size: int) -> None:
        self._ahead(attempt, CALL_BYTES + size)
        sent = self._redis.submit(command)
        sent.add_done_callback(lambda done: self._sent(attempt, command, size, done))

    def _ahead(self, attempt: Attempt, weight: int) -> None:
        """More, or less, of the job is on its way to Redis; beyond the limit its runner waits."""
        attempt.ahead_bytes += weight
        runner = attempt.runner
        if runner is None:
            return
        if not attempt.paused and attempt.ahead_bytes >= AHEAD_BYTES:
            attempt.paused = True
            runner.pause()
        elif attempt.paused and attempt.ahead_bytes <= AHEAD_BYTES // 2:
            attempt.paused = False
            runner.resume()

    def _sent(self, attempt: Attempt, command: Command[Any], size: int, done: asyncio.Future[Any]) -> None:
        self._ahead(attempt, -CALL_BYTES - size)
        # A row or a value that Redis did not take is dropped rather than sent twice; the job goes on.
        if not done.cancelled() and (error := done.exception()) is not None:
            log.warning(
                "relay.dropped",
                queue=self._keys.name,
                job_id=attempt.job.id,
                what=type(command).__name__,
                error=str(error),
            )

    def ask(self, attempt: Attempt, body: bytes) -> None:
        """Answer a question of the processor; it blocks until then. Raises `BadMessage`."""
        if len(attempt.asks) >= ASKS_AT_ONCE:
            raise BadMessage(f"more than {ASKS_AT_ONCE} questions at once")
        task = self._loop.create_task(self._answer(attempt, read_ask(body)))
        attempt.asks.add(task)
        task.add_done_callback(lambda done: self._answered(attempt, done))

    def _answered(self, attempt: Attempt, task: asyncio.Task[None]) -> None:
        attempt.asks.discard(task)
        if not task.cancelled():
            task.result()  # a bug of ours goes to the loop's handler, loudly

    async def _answer(self, attempt: Attempt, ask: Ask) -> None:
        try:
            reply = answer(ask.seq, value=await self._asks.answer(attempt.job, ask))
        except OxherdError as error:
            reply = answer(ask.seq, error=str(error))
        if attempt.runner is not None and attempt.verdict is None:
            attempt.runner.pipe.send(Kind.ANSWER, reply, attempt.number)

    def finish(self, attempt: Attempt) -> None:
        """The attempt is over: its last progress goes before its outcome."""
        self._send_progress(attempt)
        for task in attempt.asks:
            task.cancel()
        if attempt.runner is not None and attempt.paused:
            attempt.runner.resume()
