"""`oxherd run --inline`: jobs one at a time in this very process, the terminal attached, for `breakpoint()`.

The processor runs in the main thread, where a debugger wants it. Redis is spoken to by a second thread with
an event loop of its own, which goes on renewing the lock while somebody thinks in front of a prompt. What an
outcome means and how it is written is the master's, the same as with runners. Missing is all that runners
give: isolation, the hard time limit, more than one job at a time; and the stalled check.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec

from sandbox.errors import AskFailed, LoadError
from sandbox.inline import Inline, Listening
from sandbox.loader import ModuleBroken
from sandbox.policy import Policy
from sandbox.wire import START_META, Kind
from supervisor.cli.display import Tally
from supervisor.cli.render import clean, note, span
from supervisor.errors import InvalidOptions, OxherdError, RedisError, TemplateFailed
from supervisor.master import finish
from supervisor.master.asks import Asks
from supervisor.master.burst import until_nothing_left
from supervisor.master.dispatcher import STATES
from supervisor.master.messages import read_ask, start_frame, verdict_of_failure
from supervisor.master.plan import Plan
from supervisor.master.scheduling import add_following
from supervisor.master.settings import QueueSettings, settings_by_queue
from supervisor.master.template import ProcessorFacts
from supervisor.master.verdicts import CutOff, LockGone, Raised, Returned, Verdict
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.job import AddLog, UpdateData, UpdateProgress
from supervisor.protocol.commands.work import (
    Completed,
    Exchange,
    ExtendLocks,
    Failed,
    FetchedJob,
    FinishAndFetch,
    Lease,
    Outcome,
    Retried,
)
from supervisor.protocol.fields import STARTED_TOO_OFTEN
from supervisor.protocol.job_options import JobOptions, decode_options
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

T = TypeVar("T")

LOOK_EVERY_S: Final = 0.3
PROGRESS_EVERY_S: Final = 0.1
SAYS_SO: Final = (
    "oxherd: --inline: one job at a time in this process, on this terminal; "
    "no isolation, no hard time limit, no hooks"
)


def run_inline(plan: Plan, tally: Tally) -> int:
    """Work until Ctrl-C or TERM, with `plan.burst` until nothing is left; the exit status.

    Raises as `run_master` does; no job was taken then.
    """
    note(SAYS_SO)
    loaded = _load(plan)
    settings = settings_by_queue(plan, [_facts(each) for each in loaded.processors])
    with Behind() as behind:
        redis = behind.call(Redis.connect(plan.address))
        try:
            worker = InlineWorker(plan, settings, loaded, tally, Line(behind, redis))
            with worker.stopped_by_signals():
                worker.work()
        finally:
            loaded.close()
            behind.call(redis.close())
    return 1 if plan.burst and tally.failed else 0


def _load(plan: Plan) -> Inline:
    policy = Policy(profile="none", result_bytes=plan.config.policy.result_bytes)
    try:
        return Inline([(target.name, target.queue) for target in plan.targets], policy)
    except LoadError as error:
        said = error.traceback.rstrip() if isinstance(error, ModuleBroken) else ""
        shown = "".join(f"\n  | {line}" for line in said.splitlines())
        raise TemplateFailed(f"{error}\nNo job was taken from any queue.{shown}") from None


def _facts(processor: Any) -> ProcessorFacts:
    return msgspec.convert(processor.to_json(), ProcessorFacts)


# --- the thread behind ------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True)
class Line:
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


# --- the work ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Held:
    """The job whose lock is renewed from behind."""

    keys: QueueKeys
    job: FetchedJob
    lock_ms: int
    lost: bool = False


@dataclass(slots=True)
class Telling:
    """What one job tells Redis while it runs; progress at most ten times a second, the last value always."""

    line: Line
    keys: QueueKeys
    job: FetchedJob
    keep_logs: int | None
    unsent: bytes | None = None
    sent_at: float = field(default=0.0)

    def listening(self) -> Listening:
        return Listening(
            on_progress=self.progress,
            on_log=lambda row: self.line.tell(AddLog(self.keys, self.job.id, row, self.keep_logs)),
            on_data=lambda data: self.line.tell(UpdateData(self.keys, self.job.id, data)),
            on_ask=self.ask,
            is_cancelled=lambda: False,
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

    def ask(self, what: str, arguments: dict[str, Any]) -> Any:
        asks = Asks(self.line.redis, self.keys, wall_clock=time.time)
        question = read_ask(json.dumps({"seq": 0, "what": what, **arguments}).encode())
        try:
            return json.loads(self.line.behind.call(asks.answer(self.job, question)))
        except OxherdError as error:
            raise AskFailed(f"job.{what}: {error}") from None


class InlineWorker:
    """The queues of one plan, served from the main thread."""

    def __init__(
        self, plan: Plan, settings: list[QueueSettings], loaded: Inline, tally: Tally, line: Line
    ) -> None:
        self._plan = plan
        self._settings = settings
        self._loaded = loaded
        self._tally = tally
        self._line = line
        self._stop = threading.Event()
        self._held: Held | None = None
        self._busy = True
        self._in_processor = False
        self._calls = 0
        self._identity = f"inline-{random.getrandbits(64):x}"
        self._broken: BaseException | None = None

    @contextlib.contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """Ctrl-C and TERM end the job that runs, or else the waiting; never a call to Redis in the middle."""

        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()
            if self._in_processor:
                raise KeyboardInterrupt

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def work(self) -> None:
        self._line.behind.start(self._renew())
        if self._plan.burst:
            self._line.behind.start(self._watch_burst())
        while not self._stop.is_set():
            if not self._one_round():
                self._busy = False
                self._stop.wait(LOOK_EVERY_S)
                self._busy = True
        if self._broken is not None:
            raise self._broken

    def _one_round(self) -> bool:
        """One job of each queue that has one; False if none has."""
        worked = False
        for settings in self._settings:
            if self._stop.is_set():
                break
            keys = self._keys(settings)
            for job in self._line.exchange(self._command(settings, count=1)).jobs:
                worked = True
                self._line.add_following(keys, job)
                self._attempt(settings, keys, job)
        return worked

    def _keys(self, settings: QueueSettings) -> QueueKeys:
        return QueueKeys(settings.name, self._plan.config.redis.prefix)

    def _command(
        self, settings: QueueSettings, *, count: int = 0, outcome: Outcome | None = None
    ) -> FinishAndFetch:
        self._calls += 1
        return FinishAndFetch(
            queue=self._keys(settings),
            call_token=f"{self._identity}:{self._calls}",
            now_ms=time.time_ns() // 1_000_000,
            lock_ms=settings.lock_ms,
            count=count,
            outcomes=[] if outcome is None else [outcome],
            limiter=settings.limiter,
            worker_name=settings.worker_name,
            metrics=settings.metrics,
        )

    # one job

    def _attempt(self, settings: QueueSettings, keys: QueueKeys, job: FetchedJob) -> None:
        self._held = held = Held(keys, job, settings.lock_ms)
        self._tally.on_fetched(settings.name, job.id, job.name, 1)
        note(f"oxherd: {settings.name}/{clean(job.id)} {clean(job.name)}: attempt {job.attempts_made + 1}")
        started_at = time.monotonic()
        options, verdict = JobOptions(), finish.refuse_to_run(job, settings.finish_rules, STARTED_TOO_OFTEN)
        try:
            options = decode_options(job.opts)
        except InvalidOptions as error:
            verdict = Raised(str(error), final=True)
        if verdict is None and self._stop.is_set():
            result: Verdict = CutOff()
        else:
            result = verdict or self._run(settings, keys, job, options)
        self._held = None
        if held.lost:
            result = LockGone("the lock was lost while the job ran")
        outcome = finish.outcome_of(job, options, result, settings.finish_rules, random.random)
        if outcome is None:
            note(f"oxherd: {settings.name}/{clean(job.id)}: the lock was lost, so nothing is written")
            return
        said = self._written(settings, job, options, outcome)
        note(
            f"oxherd: {settings.name}/{clean(job.id)} {said}, {span((time.monotonic() - started_at) * 1000)}"
        )

    def _run(self, settings: QueueSettings, keys: QueueKeys, job: FetchedJob, options: JobOptions) -> Verdict:
        limits = settings.limits_of(job.name, options)
        body = start_frame(settings.name, job, options, limits)
        (size,) = START_META.unpack_from(body)
        meta = json.loads(body[START_META.size : START_META.size + size])
        telling = Telling(self._line, keys, job, options.keep_logs)
        try:
            self._in_processor = True
            kind, said = self._loaded.run(meta, job.data, telling.listening())
        except KeyboardInterrupt:
            self._stop.set()
            return CutOff()
        finally:
            self._in_processor = False
        telling.flush()
        return Returned(said) if kind is Kind.COMPLETED else verdict_of_failure(said)[0]

    def _written(
        self, settings: QueueSettings, job: FetchedJob, options: JobOptions, outcome: Outcome
    ) -> str:
        """Write the outcome; what became of it, in a few words."""
        (result,) = self._line.exchange(self._command(settings, outcome=outcome)).written
        if result.code == Code.GUILTY and not isinstance(outcome, Failed):
            reason = f"its outcome could not be written ({STATES[type(outcome)]}): {result.text}"
            keep = finish.keep_failed(options, settings.finish_rules)
            dead = settings.finish_rules.dead_letter
            failed = Failed(job.id, job.token, reason, None, keep, options.attempts, None, True, dead)
            return self._written(settings, job, options, failed)
        if result.code != Code.DONE:
            return f"has an outcome that was not written: {clean(result.text or Code(result.code).name)}"
        if result.text not in ("", "written"):
            note(f"oxherd: {settings.name}/{clean(job.id)} has no dead letter: {clean(result.text)}")
        reason_told = outcome.reason if isinstance(outcome, Failed | Retried) else None
        self._tally.on_finished(settings.name, job.id, STATES[type(outcome)], reason_told)
        if isinstance(outcome, Completed):
            return "completed"
        return STATES[type(outcome)] + (f": {clean(reason_told)}" if reason_told else "")

    # behind

    async def _renew(self) -> None:
        """Renew the lock of the job in hand at a third of its life, whatever the main thread does."""
        while True:
            held = self._held
            if held is None:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(held.lock_ms / 3000)
            if self._held is not held:
                continue
            lease = Lease(held.job.id, held.job.token)
            with contextlib.suppress(RedisError):  # tried again; if too late, the script refuses the outcome
                held.lost |= bool(
                    await self._line.redis.execute(ExtendLocks(held.keys, [lease], held.lock_ms))
                )

    async def _watch_burst(self) -> None:
        try:
            await until_nothing_left(
                self._line.redis, [_Settled(self, self._keys(each)) for each in self._settings]
            )
        except OxherdError as error:
            self._broken = error
        self._stop.set()

    def settled(self) -> bool:
        return not self._busy


@dataclass(slots=True)
class _Settled:
    """What the end of a burst asks of one queue's worker."""

    worker: InlineWorker
    keys: QueueKeys

    def settled(self) -> bool:
        return self.worker.settled()
