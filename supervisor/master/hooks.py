"""Hooks: the user's functions that are told what became of jobs, in a runner of their own.

Decides when a hook is called, and what is dropped: at most once, after Redis has answered for the outcome,
and never so that a job waits. The runner comes from a nursery of its own and lives as any other; a call is a
START frame to it, one at a time. Nothing is kept anywhere: what a master that dies had not yet told is lost.

Reads    outcomes that are written, jobs that the stalled check put back; frames of the runner (I7)
Writes   nothing in Redis
Rule     invariants I1, I5, I6, I8, which the hooks' runner has from `runners.py`
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from sandbox.policy import Policy
from sandbox.wire import Kind
from supervisor.config.model import HooksConfig
from supervisor.errors import InvalidOptions, RedisError
from supervisor.master.attempt import Attempt, new_number
from supervisor.master.messages import (
    BadMessage,
    HookFacts,
    HookMeta,
    Left,
    hook_frame,
    read_left,
    verdict_of_failure,
)
from supervisor.master.phases import Fact, Phase
from supervisor.master.plan import Target
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.runners import Runners
from supervisor.master.verdicts import Raised
from supervisor.observe.log import get
from supervisor.protocol.commands.read import GetJobs
from supervisor.protocol.commands.work import Completed, Failed, Outcome
from supervisor.protocol.fields import STALLED_TOO_OFTEN
from supervisor.protocol.job_options import decode_options
from supervisor.protocol.job_record import JobRecord
from supervisor.protocol.keys import QueueKeys

log = get("hooks")

MOST_CALLS: Final = 1_000  # that wait for the runner
MOST_BYTES: Final = 32 * 1024 * 1024  # of data and results in them
TELL_EVERY_S: Final = 10.0  # how many were dropped
READ_AT_ONCE: Final = 50  # of stalled jobs
SLOT_NUMBER: Final = 0  # the jobs' slots count from 1
POLL_S: Final = 0.01


class Redis(Protocol):
    async def execute(self, command: GetJobs) -> list[JobRecord | None]: ...


class Call(msgspec.Struct):
    """One call that is due, or under way. `ended_by` says why we killed the runner that was at it."""

    hook: str
    queue: str
    job_id: str
    body: bytes
    started_at: float = 0.0
    deadline: asyncio.TimerHandle | None = None
    ended_by: str | None = None
    number: int = msgspec.field(default_factory=new_number)


def hook_targets(config: HooksConfig) -> dict[str, Target]:
    """Kind of hook -> what it is; empty when none is asked for."""
    named = {"completed": config.completed, "failed": config.failed, "stalled": config.stalled}
    return {kind: Target(name=name, queue=kind) for kind, name in named.items() if name is not None}


class Hooks:
    """The inbox of hook calls and the slot that empties it. All methods belong to the event loop."""

    def __init__(
        self,
        runners: Runners,
        targets: dict[str, Target],
        policy: Policy,
        *,
        timeout_s: float,
        wall_clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._runners = runners
        self._kinds = frozenset(targets)
        self._timeout_s = timeout_s
        self._wall_clock = wall_clock
        self._loop = loop
        title = "oxherd: template of hooks " + " ".join(target.name for target in targets.values())
        self.nursery = runners.nursery(list(targets.values()), policy, title, hooks=True)
        self.slot = Slot(SLOT_NUMBER, self, nursery=self.nursery, title="oxherd: hooks")
        self._inbox: deque[Call] = deque()
        self._bytes = 0
        self._idle: Runner | None = None
        self._call: Call | None = None
        self._deaths = 0  # runners in a row that died at a call
        self._dropped = 0
        self._telling: asyncio.TimerHandle | None = None
        self._reading: set[asyncio.Task[None]] = set()  # what is told of jobs that have stalled
        self._behind: list[Call] = []  # what came meanwhile: a job has stalled before it has failed for it
        self._closed = False

    def open(self) -> None:
        self._runners.open(self.slot)

    # --- what happened ----------------------------------------------------------------------------------

    def written(self, queue: str, attempt: Attempt, outcome: Outcome) -> None:
        """Redis has answered that this outcome is written."""
        kind = {Completed: "completed", Failed: "failed"}.get(type(outcome))
        if kind is None or kind not in self._kinds:
            return
        job, data = attempt.job, attempt.job.data
        result = outcome.value if isinstance(outcome, Completed) else b""
        reason, stack = (outcome.reason, outcome.stack) if isinstance(outcome, Failed) else (None, None)
        if self._has_room(len(data) + len(result) + len(reason or "") + len(stack or "")):
            facts = HookFacts(queue, reason, stack, self._now_ms(), len(data))
            meta = HookMeta(job.id, job.name, kind, job.attempts_made + 1, attempt.options.attempts, facts)
            self._add(
                Call(kind, queue, job.id, hook_frame(meta, data, result)),
                self._behind if self._reading else self._inbox,
            )

    def stalled(self, redis: Redis, keys: QueueKeys, job_ids: Sequence[str]) -> None:
        """Our stalled check has put these back. The rest of what a hook is told is read first."""
        if "stalled" in self._kinds:
            task = self._loop.create_task(self._read_stalled(redis, keys, job_ids, self._now_ms()))
            self._reading.add(task)
            task.add_done_callback(self._have_read)

    def _have_read(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        if not self._reading:
            behind, self._behind = self._behind, []
            self._inbox.extend(behind)
            self._next()

    async def _read_stalled(self, redis: Redis, keys: QueueKeys, job_ids: Sequence[str], now_ms: int) -> None:
        for at in range(0, len(job_ids), READ_AT_ONCE):
            some = job_ids[at : at + READ_AT_ONCE]
            try:
                records = await redis.execute(GetJobs(keys, some))
            except RedisError:
                records = [None] * len(some)
            for job_id, found in zip(some, records, strict=True):
                self._add_stalled(keys.name, found or JobRecord(id=job_id), now_ms)

    def _add_stalled(self, queue: str, job: JobRecord, now_ms: int) -> None:
        if self._has_room(len(job.data)):
            # One that has stalled too often may have been fetched, and failed with the same words, before it
            # was read: by another master, or by the call that stood there for the next job.
            too_often = STALLED_TOO_OFTEN if job.failed_reason == STALLED_TOO_OFTEN else None
            facts = HookFacts(queue, job.deferred_failure or too_often, None, now_ms, len(job.data))
            attempt = job.attempts_made + 1
            meta = HookMeta(job.id, job.name, "stalled", attempt, attempts_of(job), facts)
            self._add(Call("stalled", queue, job.id, hook_frame(meta, job.data, b"")), self._inbox)

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)

    # --- the inbox --------------------------------------------------------------------------------------

    def _has_room(self, more_bytes: int) -> bool:
        waiting = len(self._inbox) + len(self._behind)
        if self._closed or waiting >= MOST_CALLS or self._bytes + more_bytes > MOST_BYTES:
            self._drop(1)
            return False
        return True

    def _add(self, call: Call, where: deque[Call] | list[Call]) -> None:
        where.append(call)
        self._bytes += len(call.body)
        self._next()

    def _drop(self, count: int) -> None:
        """Say it now, or with the others that are dropped within the next seconds."""
        self._dropped += count
        if self._telling is None:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        self._telling = None
        if self._dropped:
            why = "hooks are slower than what happens" if not self._closed else "the master stops"
            log.warning("hook.dropped", calls=self._dropped, why=why)
            self._dropped = 0
            if not self._closed:
                self._telling = self._loop.call_later(TELL_EVERY_S, self._tell_dropped)

    def _next(self) -> None:
        if self._closed or self._call is not None or self._idle is None or not self._inbox:
            return
        runner, call = self._idle, self._inbox.popleft()
        self._idle = None
        runner.advance(Fact.JOB_SENT)
        if not runner.pipe.send(Kind.START, call.body, call.number):
            self._inbox.appendleft(call)  # it died idle, unseen yet: the next one is called with it
            return
        self._bytes -= len(call.body)
        self._call = call
        call.body = b""
        call.started_at = self._loop.time()
        call.deadline = self._loop.call_later(self._timeout_s, self._too_long, runner, call)

    def _too_long(self, runner: Runner, call: Call) -> None:
        if self._call is call and call.ended_by is None:
            call.ended_by = f"time limit of {self._timeout_s:g} s exceeded: its processes were killed"
            self._runners.kill(runner)

    # --- the runner -------------------------------------------------------------------------------------

    def on_ready(self, runner: Runner) -> None:
        self._idle = runner
        self._next()

    def on_frame(self, runner: Runner, kind: Kind, body: bytes, number: int, note: int) -> None:
        call = self._call
        if call is None or call.ended_by is not None or number != call.number:
            return  # nothing is believed of a call but its own word
        try:
            if kind is Kind.USED:
                return  # nobody asks what a hook has used
            if kind is Kind.LEFT:
                self._left_behind(call, runner, read_left(body))
                return
            retire = self._heard(call, kind, body)
        except BadMessage as error:
            self._runners.bad_frame(runner, str(error))
            return
        runner.drain_output()
        self._over()
        self._deaths = 0
        runner.served += 1
        if runner.advance(Fact.OUTCOME) is not Phase.IDLE:
            return
        self._idle = runner
        if retire or runner.unclean:
            self._runners.kill(runner)
        else:
            self._next()

    def _heard(self, call: Call, kind: Kind, body: bytes) -> bool:
        """Judge the outcome of a call; True when its runner should not be given another."""
        if kind is Kind.COMPLETED:
            log.debug("hook.called", **self._facts(call))
            return False
        if kind is not Kind.FAILED:
            raise BadMessage(f"a {kind.name} from a hook")
        verdict, retire = verdict_of_failure(body)
        if isinstance(verdict, Raised):
            self._tell_failed(call, verdict.reason, verdict.stack)
        else:
            self._tell_failed(call, "it raised what only a processor may raise: the job is over")
        return retire

    def _left_behind(self, call: Call, runner: Runner, told: Left) -> None:
        runner.unclean = runner.unclean or told.retire
        facts = {"queue": call.queue, "job_id": call.job_id, "runner": runner.pid}
        log.warning("hook.left_behind", hook=call.hook, **facts, left=told.left, retired=told.retire)

    def _tell_failed(self, call: Call, reason: str, stack: str | None = None) -> None:
        log.error("hook.failed", **self._facts(call), reason=reason, stack=stack or "")

    def _facts(self, call: Call) -> dict[str, Any]:
        ran_ms = round((self._loop.time() - call.started_at) * 1000)
        return {"hook": call.hook, "queue": call.queue, "job_id": call.job_id, "ran_ms": ran_ms}

    def _over(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.deadline is not None:
            call.deadline.cancel()

    def on_bad_frame(self, runner: Runner, error: str) -> None:
        if self._call is not None and self._call.ended_by is None:
            self._call.ended_by = f"the runner sent a bad frame: {error}"

    def on_line(self, runner: Runner, stream: str, text: str) -> None:
        log.info("hook.output", stream=stream, line=text, runner=runner.pid)

    def on_leaving(self, runner: Runner) -> None:
        if self._idle is runner:
            self._idle = None

    def on_exit(self, runner: Runner, how: Exit) -> None:
        """At most once: what it was called with is not given to its successor."""
        call = self._call
        if call is None:
            return
        self._over()
        if not self._closed:
            why = call.ended_by or f"the runner ended with {how} before it was done"
            self._tell_failed(call, why)
            self._deaths += 1
            self.slot.failures = max(self.slot.failures, self._deaths)  # the next one is born with a pause

    # --- the end ----------------------------------------------------------------------------------------

    async def drain(self, patient: Callable[[], bool]) -> None:
        """Go on until every call is made, or patience has ended; then drop the others, and say how many."""
        while (self._reading or self._inbox or self._call is not None) and patient():
            await asyncio.sleep(POLL_S)
        for task in self._reading:
            task.cancel()
        self._closed = self.slot.closed = True
        if self._telling is not None:
            self._telling.cancel()
        self._dropped += len(self._inbox) + len(self._behind) + (self._call is not None)
        self._inbox.clear()
        self._behind.clear()
        self._tell_dropped()


def attempts_of(record: JobRecord) -> int:
    """How many attempts the options of a stored job allow; 1 when they cannot be read."""
    try:
        return decode_options(record.opts).attempts
    except InvalidOptions:
        return 1
