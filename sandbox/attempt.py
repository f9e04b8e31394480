"""One attempt: decode the data, call the processor, judge what came of it.

The border of the processor call: whatever the user's code does by returning or raising ends here as one
outcome, COMPLETED with the result or FAILED with a failure (I10). Used by the runner and by `--inline`.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sandbox import codec
from sandbox.alarm import SoftLimit
from sandbox.failures import Failure, judge, message_of, of_a_limit
from sandbox.job import Channel, Job
from sandbox.policy import Policy
from sandbox.processors import Processor
from sandbox.typed import WrongData
from sandbox.typed import name_of as typed_name
from sandbox.wire import FailureKind, Kind

if TYPE_CHECKING:
    import asyncio

EXIT_INTERNAL = 70  # our own failure, not the user's


class Outcome(NamedTuple):
    """A frame's kind and body; `retire`: this process should not be given another job."""

    kind: Kind
    body: bytes
    retire: bool = False


@dataclass(slots=True)  # not frozen: one is made for each job
class Prepared:
    """A processor and the job that it is to be called with."""

    processor: Processor
    job: Job[Any]
    meta: dict[str, Any]

    @property
    def soft_timeout_ms(self) -> int:
        return self.meta.get("soft_timeout_ms") or 0


class Attempts:
    """Runs attempts one after the other, in this process.

    let_through   what is not the job's failure when it leaves the processor, but the caller's to handle.
    """

    def __init__(
        self,
        processors: Sequence[Processor],
        policy: Policy,
        limit: SoftLimit,
        *,
        let_through: tuple[type[BaseException], ...] = (),
    ) -> None:
        self._processors = {(each.queue, each.name): each for each in processors}
        self._policy = policy
        self._limit = limit
        self._let_through = let_through
        self._event_loop = EventLoop(limit)
        self._pid = os.getpid()

    def run(self, meta: dict[str, Any], raw: bytes, channel: Channel) -> Outcome:
        """One attempt at the job that `meta` describes, with its data still as it came."""
        made = self.prepare(meta, raw, channel)
        return self._call(made) if isinstance(made, Prepared) else made

    def prepare(self, meta: dict[str, Any], raw: bytes, channel: Channel) -> Prepared | Outcome:
        """What is to be called with which job; or the failure of a job that nobody can be called with."""
        queue, name = meta["queue"], meta["name"]
        processor = self._processors.get((queue, name)) or self._processors.get((queue, None))
        if processor is None:
            return _failed(Failure(FailureKind.RAISED, self._nobody_for(queue, name)))
        try:
            data = codec.decode(raw) if processor.decode is None else processor.decode(meta, raw)
        except (ValueError, RecursionError) as error:
            return _failed(
                Failure(FailureKind.BAD_DATA, f"the data of the job is not JSON: {_in_short(error)}")
            )
        if processor.read_data is not None:
            try:
                data = processor.read_data(data)
            except WrongData as error:
                wanted = typed_name(processor.data_type)
                return _failed(
                    Failure(FailureKind.BAD_DATA, f"the data of the job are no {wanted}: {message_of(error)}")
                )
            except Exception as error:  # the border: a validator of the user's own
                return _failed(judge(error))
        job: Job[Any] = Job(meta, data, channel, max_bytes=self._policy.result_bytes)
        return Prepared(processor, job, meta)

    def close(self) -> None:
        self._event_loop.close()

    def _call(self, made: Prepared) -> Outcome:
        limit, job = self._limit, made.job
        try:
            # The order of these lines is explained in alarm.py.
            try:
                limit.arm(made.soft_timeout_ms)
                result = made.processor.function(job)
                if type(result) is types.CoroutineType:
                    result = self._event_loop.run(result)
            finally:
                limit.disarm()
        except BaseException as error:  # the border: SystemExit and the like are the job's failure too
            if isinstance(error, self._let_through):
                raise
            if os.getpid() != self._pid:
                _end_of_a_fork(error)
            job.end()
            return self.failed(made, error)
        if os.getpid() != self._pid:
            _end_of_a_fork(None)
        job.end()
        return self.completed(result)

    def let_threads_go(self) -> None:
        """End the threads that `asyncio.to_thread` and its like have started for a job that is over."""
        self._event_loop.let_threads_go()

    def completed(self, result: Any) -> Outcome:
        """The outcome of a processor that returned."""
        try:
            encoded = codec.encode(result)
        except codec.NotJson as error:
            return _failed(Failure(FailureKind.BAD_RESULT, f"the result cannot be said in JSON: {error}"))
        except (Exception, MemoryError) as error:  # a mapping of the user's own that raises when it is read
            return _failed(judge(error))
        if len(encoded) > self._policy.result_bytes:
            return _failed(
                Failure(
                    FailureKind.BAD_RESULT,
                    f"the result has {len(encoded)} bytes of JSON, more than the {self._policy.result_bytes} "
                    f"allowed; store it elsewhere and return where it is",
                )
            )
        return Outcome(Kind.COMPLETED, encoded)

    def failed(self, made: Prepared, error: BaseException, *, clean: bool = False) -> Outcome:
        """The outcome of a processor that raised.

        clean   it was cut off at an `await`: the process is whole, whatever the error.
        """
        processor, job = made.processor, made.job
        failure = judge(error, made.soft_timeout_ms)
        of_a_limit(failure, error, made.meta.get("limits") or {})
        ordinary = failure.kind in (FailureKind.RAISED, FailureKind.TIME_LIMIT)
        if self._event_loop.broken:
            failure.retire = True
        if ordinary and processor.backoff is not None and made.meta.get("backoff", True):
            try:
                failure.backoff_ms = _checked_backoff(processor.backoff(job.attempt, error, job))
            except Exception as broken:  # the border again: the backoff function is the user's code
                failure.kind = FailureKind.RAISED
                failure.reason += (
                    f" (and the backoff function of {processor.target} raised "
                    f"{type(broken).__name__}: {message_of(broken)})"
                )
        if clean:
            failure.retire = False
        return _failed(failure)

    def _nobody_for(self, queue: str, name: str) -> str:
        known = sorted(each for of, each in self._processors if of == queue and each is not None)
        if known:
            return (
                f"no processor takes jobs named {name!r} of queue {queue!r}; known names: {', '.join(known)}"
            )
        queues = sorted({of for of, _ in self._processors})
        return f"no processor takes jobs of queue {queue!r}; known queues: {', '.join(queues)}"


def _checked_backoff(delay_ms: object) -> int:
    if isinstance(delay_ms, bool) or not isinstance(delay_ms, int) or delay_ms < -1:
        raise ValueError(
            f"it returned {delay_ms!r}; whole milliseconds are expected, or -1 to give the job up"
        )
    return delay_ms


def _failed(failure: Failure) -> Outcome:
    return Outcome(Kind.FAILED, failure.to_bytes(), failure.retire)


def _in_short(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8"
    return message_of(error)


def _end_of_a_fork(error: BaseException | None) -> NoReturn:
    """A process that the processor forked has come back into our code: it ends here and answers nothing.

    `sys.exit(n)` in such a process means what it says; anything else is a mistake.
    """
    flush_output()
    if isinstance(error, SystemExit):
        code = error.code
        os._exit(code & 0xFF if isinstance(code, int) else 0 if code is None else 1)
    os._exit(EXIT_INTERNAL)


def flush_output() -> None:
    """Hand to the pipes what Python still holds, whatever the processor has put in the streams' place."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # closed, replaced by a thing without flush, or None: nothing of it can be saved
            continue


class EventLoop:
    """The asyncio loop of this process, made when the first coroutine comes and kept for the next.

    A loop on which something was left behind (tasks, or a time limit that cut through its inside) is closed,
    which cancels what is left, and the next job gets a new one.
    """

    def __init__(self, limit: SoftLimit) -> None:
        self.broken = False
        self._limit = limit
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        # At the top it would cost every runner of plain functions 60 ms; the template imports it before the
        # fork when there is an `async def` processor.
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            result = self._runner.run(self._cancellable(coroutine))
        except BaseException as error:
            if not isinstance(error, Exception):
                self.close()
            raise
        finally:
            if self._runner is not None and asyncio.all_tasks(self._runner.get_loop()):
                self.close()
        return result

    async def _cancellable(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """A cancel in the middle of the loop's inside would break it: the task is cancelled instead."""
        import asyncio  # as above

        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        if task is not None:
            self._limit.cancel_task = partial(loop.call_soon_threadsafe, task.cancel)
        try:
            return await coroutine
        finally:
            self._limit.cancel_task = None

    def let_threads_go(self) -> None:
        if self._runner is not None:
            let_threads_go(self._runner.get_loop())

    def close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                runner.close()
            except Exception:  # tasks of the user's that fail when cancelled
                self.broken = True


def let_threads_go(loop: asyncio.AbstractEventLoop) -> None:
    """End the threads of the loop's own pool; those that have nothing to do are gone at once."""
    # At the top it would cost every template some ms; whoever has such threads has it imported already.
    from concurrent.futures import ThreadPoolExecutor

    executor = getattr(loop, "_default_executor", None)
    if executor is not None:
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
        executor.shutdown(wait=False, cancel_futures=True)
