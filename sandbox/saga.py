"""A saga: steps that are undone in reverse when a later one fails.

Decides when what is undone, and keeps a record of the steps done with the job (a field of its hash, written
by the master and confirmed), so that the job's next run goes on instead of repeating. What is done twice when
a runner dies between a step and its record is told in the docstring: steps must bear it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

from sandbox import codec
from sandbox.errors import Delayed, RateLimited, SagaFailed, SagaFailedForGood, Unrecoverable, WaitingChildren
from sandbox.failures import message_of
from sandbox.job import Job
from sandbox.wire import MAX_SMALL

T = TypeVar("T")

RECORD_BYTES = MAX_SMALL
# The job is to be run again, by its own wish or that of the person at the terminal: what is done stays done.
_COMES_BACK = (Delayed, RateLimited, WaitingChildren, KeyboardInterrupt)


class Saga:
    """Steps with compensations.

        with Saga(job) as saga:
            seat = saga.step("book a seat", lambda: book(job.data), undo=cancel)
            saga.step("take the money", lambda: charge(job.data, seat), undo=pay_back)

        async with Saga(job) as saga:
            seat = await saga.step("book a seat", lambda: book(job.data), undo=cancel)

    When an exception leaves the block, each step done is undone, the last one first, by calling its `undo`
    with what the step had returned. The exception is then raised on; `SagaFailed` in its place if something
    could not be undone. Every step and every compensation is a row in the job's log.

    resume   True: an attempt that fails and has another to come undoes nothing, and the next attempt goes on
             after the steps that are done. The last attempt undoes, and so does `Unrecoverable`.

    A step done is recorded with the job before the next one begins. When the job is run again and nothing
    was undone (its runner or its master died, it asked for `Delayed`, a breaker was open), recorded steps
    are not done again: `step` returns what they returned. If a runner dies after a step and before its
    record, or after a compensation and before its record, that one is done again: make both safe to repeat,
    for example with the job's id as the other side's idempotency key. A job whose last attempt dies with
    its runner undoes nothing.
    """

    def __init__(self, job: Job[Any], *, resume: bool = False) -> None:
        self._job = job
        self._resume = resume
        self._record: list[list[Any]] = []
        self._seen: list[tuple[str, Any, Callable[[Any], Any] | None]] = []

    def __enter__(self) -> Saga:
        self._record = self._job._ask("saga_record", {})
        return self

    def step(self, name: str, do: Callable[[], T], *, undo: Callable[[T], Any] | None = None) -> T:
        """Do one step, unless it is done; what it returned.

        name   of the step, unique within the job
        do     a function without parameters; what it returns must be JSON, because it is recorded
        undo   takes what `do` returned; without it there is nothing to undo
        """
        self._check(name)
        done = self._done(name)
        if done is None:
            try:
                result = do()
            except BaseException as error:
                self._say(f"{name}: failed: {message_of(error)}")
                raise
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError(
                    f"saga: {name} is async: write `async with Saga(job)` and `await saga.step(...)`"
                )
            done = self._keep(name, result, undo)
        self._seen.append((name, done[1], undo))
        return done[1]  # type: ignore[no-any-return]  # as JSON gave it back

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._must_undo(error):
            return
        broken = []
        for name, result, undo in reversed(self._seen):
            try:
                if undo is not None:
                    _refuse_coroutine(name, undo(result))
                self._undone(name, undo)
            except Exception as wrong:  # the border: the user's compensation; the others must have their turn
                broken.append(self._not_undone(name, wrong))
        self._end(error, broken)

    async def __aenter__(self) -> AsyncSaga:
        self.__enter__()
        return AsyncSaga(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._must_undo(error):
            return
        broken = []
        for name, result, undo in reversed(self._seen):
            try:
                if undo is not None:
                    await _awaited(undo(result))
                self._undone(name, undo)
            except Exception as wrong:  # the border: the user's compensation; the others must have their turn
                broken.append(self._not_undone(name, wrong))
        self._end(error, broken)

    # --- what both ways share ---

    def _check(self, name: str) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"saga: a step's name is a text, not {name!r}")
        if any(name == seen for seen, _, _ in self._seen):
            raise ValueError(f"saga: two steps are named {name!r}; the record could not tell them apart")

    def _done(self, name: str) -> list[Any] | None:
        for entry in self._record:
            if entry[0] == name:
                self._say(f"{name}: was done before")
                return entry
        return None

    def _keep(self, name: str, result: Any, undo: Callable[[Any], Any] | None) -> list[Any]:
        """Record a step. One that cannot be recorded is undone with the others, so it counts as seen."""
        entry = [name, result]
        try:
            encoded = codec.encode([*self._record, entry])
            if len(encoded) > RECORD_BYTES:
                raise ValueError(f"saga: the record has {len(encoded)} bytes, more than {RECORD_BYTES}")
            kept = codec.decode(encoded)
            self._job._ask("saga_keep", {"data": kept})
        except BaseException as error:
            self._seen.append((name, result, undo))
            if isinstance(error, codec.NotJson):
                raise TypeError(f"saga: what {name!r} returned cannot be said in JSON: {error}") from None
            raise
        self._record = kept
        self._say(f"{name}: done")
        last: list[Any] = kept[-1]
        return last

    def _must_undo(self, error: BaseException) -> bool:
        if isinstance(error, _COMES_BACK):
            return False
        again = self._job.attempt < self._job.attempts and not isinstance(error, Unrecoverable)
        if self._resume and again:
            self._say(f"nothing undone: attempt {self._job.attempt + 1} goes on from here")
            return False
        return True

    def _undone(self, name: str, undo: Callable[[Any], Any] | None) -> None:
        """Take it from the record, so that another run does it anew."""
        self._record = [entry for entry in self._record if entry[0] != name]
        self._job._ask("saga_keep", {"data": self._record})
        if undo is not None:
            self._say(f"{name}: undone")

    def _not_undone(self, name: str, wrong: Exception) -> str:
        self._say(f"{name}: could not be undone: {message_of(wrong)}")
        return f"{name} ({type(wrong).__name__}: {message_of(wrong)})"

    def _end(self, error: BaseException, broken: list[str]) -> None:
        for name in [entry[0] for entry in self._record]:
            if not any(name == seen for seen, _, _ in self._seen):
                self._say(f"{name}: done by an earlier run, and not undone: this run did not come to it")
        if broken:
            kind = SagaFailedForGood if isinstance(error, Unrecoverable) else SagaFailed
            raise kind(message_of(error), broken) from error

    def _say(self, text: str) -> None:
        self._job.log(f"saga: {text}")


class AsyncSaga:
    """What `async with Saga(job)` gives: the same `step`, awaited. `do` and `undo` may be async or not."""

    def __init__(self, saga: Saga) -> None:
        self._saga = saga

    async def step(
        self, name: str, do: Callable[[], Awaitable[T] | T], *, undo: Callable[[T], Any] | None = None
    ) -> T:
        """As `Saga.step`."""
        saga = self._saga
        saga._check(name)
        done = saga._done(name)
        if done is None:
            try:
                result = await _awaited(do())
            except BaseException as error:
                saga._say(f"{name}: failed: {message_of(error)}")
                raise
            done = saga._keep(name, result, undo)
        saga._seen.append((name, done[1], undo))
        return done[1]  # type: ignore[no-any-return]  # as JSON gave it back


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _refuse_coroutine(name: str, value: Any) -> None:
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(f"the compensation of {name!r} is async: write `async with Saga(job)`")
