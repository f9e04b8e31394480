"""What stands behind `run --inline`: a second thread that speaks to Redis while the processor has the first.

It decides nothing about jobs. What a job says beside its outcome goes through it: progress at most ten times
a second, the last value always.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from sandbox.errors import AskFailed
from sandbox.inline import Listening
from supervisor.cli.render import note
from supervisor.errors import OxherdError, RedisError
from supervisor.master.asks import Asks
from supervisor.master.messages import read_ask
from supervisor.master.scheduling import add_following
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.cancel import CancelRequest, GetCancelRequests
from supervisor.protocol.commands.job import AddLog, UpdateData, UpdateProgress
from supervisor.protocol.commands.work import Exchange, FetchedJob, FinishAndFetch
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

T = TypeVar("T")

PROGRESS_EVERY_S: Final = 0.1
LOOK_EVERY_S: Final = 0.25


class Behind:
    """A thread with an event loop. `call` waits for a coroutine there; `start` does not."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="oxherd-redis", daemon=True)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class Line(msgspec.Struct, frozen=True):
    """Redis, from the main thread."""

    behind: Behind
    redis: Redis

    def exchange(self, command: FinishAndFetch) -> Exchange:
        return self.behind.call(self.redis.execute_repeatable(command))

    def add_following(self, keys: QueueKeys, job: FetchedJob) -> None:
        """The run after this job's, if a scheduler made it."""
        if job.scheduler_id is not None:
            now_ms = time.time_ns() // 1_000_000
            self.behind.call(add_following(self.redis, keys, job, now_ms=now_ms))

    def tell(self, command: Command[Any]) -> None:
        """What a job says beside its outcome: dropped, with a line, when Redis does not take it."""
        try:
            self.behind.call(self.redis.execute(command))
        except RedisError as error:
            note(f"oxherd: {type(command).__name__} was dropped: {error}")


class Telling(msgspec.Struct):
    """What one job tells Redis while it runs; progress at most ten times a second, the last value always."""

    line: Line
    keys: QueueKeys
    job: FetchedJob
    keep_logs: int | None
    unsent: bytes | None = None
    sent_at: float = 0.0
    cancel: CancelRequest | None = None
    looked_at: float = 0.0

    def listening(self) -> Listening:
        return Listening(
            on_progress=self.progress,
            on_log=lambda row: self.line.tell(AddLog(self.keys, self.job.id, row, self.keep_logs)),
            on_data=lambda data: self.line.tell(UpdateData(self.keys, self.job.id, data)),
            on_ask=self.ask,
            why_cancelled=self.why_cancelled,
        )

    def progress(self, value: bytes) -> None:
        self.unsent = value
        if time.monotonic() - self.sent_at >= PROGRESS_EVERY_S:
            self.flush()

    def flush(self) -> None:
        value, self.unsent = self.unsent, None
        if value is not None:
            self.sent_at = time.monotonic()
            self.line.tell(UpdateProgress(self.keys, self.job.id, value))

    def why_cancelled(self) -> str | None:
        """Looked for while the job asks, and no more often than it matters; nobody interrupts it here."""
        if self.cancel is None and time.monotonic() - self.looked_at >= LOOK_EVERY_S:
            self.looked_at = time.monotonic()
            try:
                look = self.line.redis.execute(GetCancelRequests(self.keys, [self.job.id]))
                self.cancel = self.line.behind.call(look).get(self.job.id)
            except RedisError as error:
                note(f"oxherd: whether {self.job.id} is cancelled is not known: {error}")
        return None if self.cancel is None else self.cancel.sentence

    def ask(self, what: str, arguments: dict[str, Any]) -> Any:
        asks = Asks(self.line.redis, self.keys, wall_clock=time.time)
        question = read_ask(json.dumps({"seq": 0, "what": what, **arguments}).encode())
        try:
            return json.loads(self.line.behind.call(asks.answer(self.job, question)))
        except OxherdError as error:
            raise AskFailed(f"job.{what}: {error}") from None
