"""`oxherd run --inline`: jobs one at a time in this very process, the terminal attached, for `breakpoint()`.

The processor runs in the main thread, where a debugger wants it. Redis is spoken to by a second thread with
an event loop of its own, which goes on renewing the lock while somebody thinks in front of a prompt. What an
outcome means and how it is written is the master's, the same as with runners. Missing is all that runners
give: isolation, every limit but the soft one, more than one job at a time; and the stalled check.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

import msgspec

from sandbox.errors import LoadError
from sandbox.inline import Inline
from sandbox.loader import ModuleBroken
from sandbox.policy import Policy
from sandbox.wire import START_META, Kind
from supervisor.cli.behind import Behind, Line, Telling
from supervisor.cli.display import Tally
from supervisor.cli.render import clean, note, span
from supervisor.errors import InvalidOptions, OxherdError, RedisError, TemplateFailed
from supervisor.master import finish
from supervisor.master.burst import until_nothing_left
from supervisor.master.cancelling import verdict_of
from supervisor.master.dispatcher import STATES
from supervisor.master.messages import start_frame, verdict_of_failure
from supervisor.master.plan import Plan
from supervisor.master.settings import QueueSettings, settings_by_queue
from supervisor.master.template import ProcessorFacts
from supervisor.master.verdicts import CutOff, LockGone, Raised, Returned, Verdict
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import (
    Completed,
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

LOOK_EVERY_S: Final = 0.3
SAYS_SO: Final = (
    "oxherd: --inline: one job at a time in this process, on this terminal; "
    "no isolation, no limits but soft_timeout, no hooks"
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


class Held(msgspec.Struct):
    """The job whose lock is renewed from behind."""

    keys: QueueKeys
    job: FetchedJob
    lock_ms: int
    lost: bool = False


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
            kind, said, _ = self._loaded.run(meta, job.data, telling.listening())
        except KeyboardInterrupt:
            self._stop.set()
            return CutOff()
        finally:
            self._in_processor = False
        telling.flush()
        verdict = Returned(said) if kind is Kind.COMPLETED else verdict_of_failure(said)[0]
        return verdict_of(verdict, telling.cancel, stopping=self._stop.is_set())

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


class _Settled(msgspec.Struct):
    """What the end of a burst asks of one queue's worker."""

    worker: InlineWorker
    keys: QueueKeys
    hopeless: str = ""  # there is no runner that a job could lose

    def settled(self) -> bool:
        return self.worker.settled()
