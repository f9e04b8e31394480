"""Cancelling jobs of one queue: finding the requests, and ending those that run step by step.

Decides when which step is taken, and what becomes of a job that was cancelled. A request is aimed at a job:
what is found is looked for among the attempts at work, and each step asks first whether that very attempt is
still undecided and in its runner. A runner has no next job before its outcome was heard here, so nothing that
is sent by then can reach another; the frame carries the attempt's number besides (sandbox/alarm.py).

Reads    messages on the queue's channel; its hash `ox:cancel` at each of them, at each renewal of locks, and
         whenever a connection is opened again, so that a message which is lost costs half a lock's duration
Writes   frames and signals to runners; requests for jobs that do not run here are enforced by a script
Rule     I4: it is one fact among others; whatever was first decides
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from sandbox.wire import CANCEL_SIGNAL, Kind
from supervisor.errors import RedisError, RedisRefused
from supervisor.master.attempt import Attempt
from supervisor.master.killing import signal_below
from supervisor.master.messages import cancel_frame
from supervisor.master.verdicts import Cause, Crashed, CutOff, GaveUp, LockGone, Raised, Returned, Verdict
from supervisor.observe.log import get
from supervisor.protocol.commands.cancel import (
    ASKED,
    FAILED_BY_IT,
    CancelRequest,
    EnforceCancel,
    GetCancelRequests,
)
from supervisor.protocol.commands.work import Completed, Failed, Outcome
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

log = get("cancelling")

KNOCK_EVERY_S: Final = 0.25  # a signal may come while the link cannot be read
TERM_AFTER_S: Final = 1.5  # after the first knock
KILL_AFTER_S: Final = 1.0  # after that
LOOK_AT_ONCE: Final = 1_000  # ids in one request
ID_BYTES: Final = 1_024  # of a message: longer is no id of a job
ELSEWHERE: Final = 10_000  # requests remembered for jobs that others run


def verdict_of(verdict: Verdict, request: CancelRequest | None, *, stopping: bool) -> Verdict:
    """What becomes of an attempt that may have been cancelled.

    Whatever it came to after somebody had asked for its end, it has failed for good; but for its having
    returned: then it was too late, or it had done enough.
    """
    if request is not None and not isinstance(verdict, Returned | LockGone):
        stack = verdict.stack if isinstance(verdict, Raised | Crashed | GaveUp) else None
        return Crashed(Cause.CANCELLED, request.sentence, stack, final=True)
    if isinstance(verdict, GaveUp):
        if stopping:
            return CutOff()  # it was told to end because its master does: no harm to the job
        return Crashed(Cause.CANCELLED, verdict.reason, verdict.stack, final=True)
    return verdict


class Work(Protocol):
    """What of the dispatcher is needed here."""

    attempts: dict[str, Attempt]

    def end(self, attempt: Attempt, verdict: Verdict) -> None: ...
    def pull(self, attempt: Attempt) -> None: ...  # out of its runner, where it has not begun


class Cancelling:
    """The requests to cancel jobs of one queue. All methods belong to the event loop."""

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        work: Work,
        *,
        grace_ms: int,
        wall_clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._work = work
        self._grace_s = grace_ms / 1000
        self._wall_clock = wall_clock
        self._loop = loop
        self._wanted: dict[str, None] = {}  # ids to look at, in the order in which they were heard of
        self._elsewhere: dict[str, None] = {}  # ids of cancelled jobs that others run: they may come to us
        self._tasks: set[asyncio.Task[None]] = set()

    def adopt(self, grace_ms: int) -> None:
        """What the next job that is cancelled has before it is interrupted."""
        self._grace_s = grace_ms / 1000

    # --- hearing of requests ----------------------------------------------------------------------------

    def heard(self, payload: bytes) -> None:
        """A message: the id of a job."""
        if 0 < len(payload) <= ID_BYTES:
            self.look([payload.decode("utf-8", "replace")])

    def look(self, job_ids: Iterable[str]) -> None:
        """See whether these are cancelled. What is asked for in one turn of the loop is one request."""
        if not self._wanted:
            self._loop.call_soon(self._look_now)
        self._wanted.update(dict.fromkeys(job_ids))

    def look_at_all(self) -> None:
        """See what was asked while nobody listened."""
        self._spawn(self._find(()))

    def fetched(self, job_id: str) -> None:
        """A job has come to us; it may have been cancelled where it was before."""
        if self._elsewhere and job_id in self._elsewhere:
            del self._elsewhere[job_id]
            self.look([job_id])

    def written(self, attempt: Attempt, outcome: Outcome) -> None:
        """An outcome is written. A job that goes on, and was cancelled meanwhile, is stopped here."""
        if attempt.cancel is not None and not isinstance(outcome, Completed | Failed):
            self.look([attempt.job.id])

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()  # a bug of ours goes to the loop's handler, loudly

    def _look_now(self) -> None:
        wanted, self._wanted = list(self._wanted), {}
        for first in range(0, len(wanted), LOOK_AT_ONCE):
            self._spawn(self._find(wanted[first : first + LOOK_AT_ONCE]))

    async def _find(self, job_ids: tuple[()] | list[str]) -> None:
        try:
            found = await self._redis.execute(GetCancelRequests(self._keys, job_ids))
            await self._act_on(found)
        except RedisError as error:
            log.warning("cancel.check_failed", queue=self._keys.name, error=str(error))

    async def _act_on(self, found: Mapping[str, CancelRequest]) -> None:
        for job_id, request in found.items():
            attempt = self._work.attempts.get(job_id)
            if attempt is None:
                try:
                    await self._enforce(job_id, request)
                except RedisRefused as error:  # a key of this one job is corrupt: no matter of the others'
                    log.warning("cancel.check_failed", queue=self._keys.name, error=str(error))
            elif attempt.cancel is None:
                self._begin(attempt, request)

    async def _enforce(self, job_id: str, request: CancelRequest) -> None:
        """It does not run here: if it runs nowhere it never will."""
        now_ms = int(self._wall_clock() * 1000)
        code = await self._redis.execute(EnforceCancel(self._keys, job_id, request, now_ms))
        if code == FAILED_BY_IT:
            log.info("cancel.enforced", queue=self._keys.name, job_id=job_id, by=request.by)
        elif code == ASKED:
            attempt = self._work.attempts.get(job_id)
            if attempt is not None and attempt.cancel is None:
                self._begin(attempt, request)  # fetched meanwhile
            elif len(self._elsewhere) < ELSEWHERE:
                self._elsewhere[job_id] = None

    # --- ending what runs -------------------------------------------------------------------------------

    def _begin(self, attempt: Attempt, request: CancelRequest) -> None:
        attempt.cancel = request
        if attempt.verdict is not None:
            return  # it has ended otherwise; `written` sees whether it goes on
        self._work.pull(attempt)
        if attempt.verdict is not None:
            return
        runner = attempt.runner
        log.info(
            "cancel.asked",
            queue=self._keys.name,
            job_id=attempt.job.id,
            runner=runner.pid if runner is not None else None,
            by=request.by,
        )
        if runner is None:
            self._kill(attempt)  # there is nothing to be killed yet
            return
        self._tell(attempt)
        began_at = self._loop.time()
        knock_at = began_at + self._grace_s
        for at, step in (
            (knock_at, self._knock),
            (knock_at + TERM_AFTER_S, self._terminate),
            (knock_at + TERM_AFTER_S + KILL_AFTER_S, self._kill),
        ):
            self._loop.call_at(at, self._press, attempt, step)

    def _press(self, attempt: Attempt, step: Callable[[Attempt], None]) -> None:
        """Take a step, if that very attempt is still at work."""
        if attempt.verdict is None:
            name = step.__name__.removeprefix("_")
            pid = attempt.runner.pid if attempt.runner is not None else None
            log.debug("cancel.pressed", queue=self._keys.name, job_id=attempt.job.id, runner=pid, step=name)
            step(attempt)

    def _tell(self, attempt: Attempt) -> None:
        if attempt.runner is not None and attempt.cancel is not None:
            attempt.runner.pipe.send(Kind.CANCEL, cancel_frame(attempt.cancel.sentence), attempt.number)

    def _knock(self, attempt: Attempt) -> None:
        """Have the exception raised; again and again, because one signal may come at a bad moment."""
        if attempt.verdict is not None:
            return
        if attempt.runner is not None:
            self._tell(attempt)  # its runner may be another than before
            with suppress(OSError):
                signal.pidfd_send_signal(attempt.runner.pidfd, CANCEL_SIGNAL)
        self._loop.call_later(KNOCK_EVERY_S, self._knock, attempt)

    def _terminate(self, attempt: Attempt) -> None:
        """What it has started may end by itself. Not where others' processes could be among them."""
        runner = attempt.runner
        if runner is not None and len(runner.at_work()) == 1:
            signal_below(runner.pid, signal.SIGTERM)

    def _kill(self, attempt: Attempt) -> None:
        if attempt.cancel is not None:
            verdict = Crashed(Cause.CANCELLED, attempt.cancel.sentence, final=True)
            self._work.end(attempt, verdict)
