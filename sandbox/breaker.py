"""A circuit breaker around what jobs depend on: when it is down they wait, and no attempt is burnt.

Decides what counts as a failure of the dependency. The state is kept in Redis, shared by all queues, and
changed by the master's scripts on the master's clock; here it is asked and told.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import Any

from sandbox.errors import (
    AskFailed,
    BreakerOpen,
    Delayed,
    LoadError,
    RateLimited,
    TimeLimit,
    Unrecoverable,
    WaitingChildren,
)
from sandbox.failures import message_of
from sandbox.job import Job
from sandbox.processors import duration_ms

Exceptions = tuple[type[BaseException], ...]

MOST_FAILURES = 1_000
MOST_TRIALS = 100
LONGEST_MS = 30 * 24 * 3_600_000
SHORTEST_MS = 100

_NAME = re.compile(r"[\w.@/-]{1,100}")
# How a processor asks to be run later, or says that the job itself is at fault: no word on the dependency.
_TELLS_NOTHING = (Delayed, RateLimited, WaitingChildren, Unrecoverable)


class Breaker:
    """A circuit breaker around a dependency, shared by all jobs that name it, in all queues of one prefix.

        payments = Breaker("payments-api", failures=5, within="60s", open_for="30s")

        @processor("orders")
        def charge(job: Job):
            with payments(job):
                return call_the_api(job.data)

    name       of the dependency: letters, digits and . _ - / @
    failures   so many within ...
    within     ... this time open it: "60s", "500ms", "10m", "1h"
    open_for   then jobs that want in are delayed, no attempt counted, until this time is over
    trials     so many jobs may then try at once; one that succeeds closes it, one that fails opens it again
    longest    it is open twice as long each time a trial fails, up to this; ten times `open_for` if not said
    ignore     exceptions that are no failure of the dependency
    only       the only exceptions that are; all others are none

    A failure is an exception that leaves the block. While the breaker is closed it is raised on, and the
    attempt has failed as any other; the job of a trial that fails is delayed, no attempt counted.
    `Unrecoverable`, `Delayed`, `RateLimited` and `WaitingChildren` tell nothing of the dependency. Make a
    breaker at the top of a module: what is wrong with it is then said at the start.
    """

    __slots__ = ("_ignore", "_only", "_rule", "name")

    def __init__(
        self,
        name: str,
        *,
        failures: int = 5,
        within: str = "60s",
        open_for: str = "30s",
        longest: str | None = None,
        trials: int = 1,
        ignore: Exceptions = (),
        only: Exceptions = (),
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise LoadError(f"Breaker({name!r}): a name has 1 to 100 letters, digits and . _ - / @")
        where = f"Breaker({name!r})"
        self.name = name
        open_ms = _checked_ms(where, "open_for", open_for)
        longest_ms = (
            min(10 * open_ms, LONGEST_MS) if longest is None else _checked_ms(where, "longest", longest)
        )
        if longest_ms < open_ms:
            raise LoadError(f"{where}: longest={longest!r} is shorter than open_for={open_for!r}")
        self._rule = {
            "failures": _checked_count(where, "failures", failures, MOST_FAILURES),
            "within_ms": _checked_ms(where, "within", within),
            "open_ms": open_ms,
            "longest_ms": longest_ms,
            "trials": _checked_count(where, "trials", trials, MOST_TRIALS),
        }
        self._ignore = _checked_exceptions(where, "ignore", ignore)
        self._only = _checked_exceptions(where, "only", only)

    def __repr__(self) -> str:
        return f"Breaker({self.name!r})"

    def __call__(self, job: Job[Any]) -> Guard:
        """For `with` and `async with`. Entering raises `BreakerOpen`, which delays the job; let it pass."""
        return Guard(self, job)

    def _judge(self, error: BaseException | None) -> str:
        """What leaving the block says of the dependency: `worked`, `failed` or `nothing`."""
        if error is None:
            return "worked"
        if isinstance(error, _TELLS_NOTHING) or not isinstance(error, (Exception, TimeLimit)):
            return "nothing"
        if isinstance(error, self._ignore) or (self._only and not isinstance(error, self._only)):
            return "worked"
        return "failed"


class Guard:
    """One use of a dependency by one job."""

    __slots__ = ("_breaker", "_entry", "_job")

    def __init__(self, breaker: Breaker, job: Job[Any]) -> None:
        self._breaker = breaker
        self._job = job
        self._entry: dict[str, Any] = {}

    def __enter__(self) -> None:
        name, job = self._breaker.name, self._job
        self._entry = job._ask("breaker_enter", {"name": name, "options": self._breaker._rule})
        wait_ms = self._entry["wait_ms"]
        if wait_ms is not None:
            if not job._came_back:  # one row a job: it may come back a thousand times
                job.log(f"breaker {name} is open: put back for {wait_ms / 1000:.1f} s, no attempt counted")
            raise BreakerOpen(wait_ms, name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        said = self._breaker._judge(error)
        if said != "failed" and not self._entry["trial"]:
            return  # nobody waits for this word
        name = self._breaker.name
        options = {**self._breaker._rule, "token": self._entry["token"], "said": said}
        try:
            told = self._job._ask("breaker_leave", {"name": name, "options": options})
        except AskFailed as failed:  # must not hide what left the block
            self._job.log(f"breaker {name}: the end of its use could not be told: {failed}")
            return
        open_ms = told["open_ms"]
        if told["change"] == "opened" and error is not None and self._entry["trial"]:
            why = f"{type(error).__name__}: {message_of(error)}"
            self._job.log(f"breaker {name} opened again for {open_ms / 1000:g} s, no attempt counted: {why}")
            # After those who have not tried yet: one job that can only fail must not keep it open for all.
            raise BreakerOpen(open_ms + open_ms // 2, name) from error
        if told["change"] == "opened":
            self._job.log(f"breaker {name} opened for {open_ms / 1000:g} s")
        elif told["change"] == "closed":
            self._job.log(f"breaker {name} closed")

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def _checked_ms(where: str, option: str, text: str) -> int:
    value = duration_ms(where, option, text)
    if value is None or not SHORTEST_MS <= value <= LONGEST_MS:
        raise LoadError(f"{where}: {option}={text!r} is not between 100ms and 30d")
    return value


def _checked_count(where: str, option: str, value: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise LoadError(f"{where}: {option} must be a whole number from 1 to {most}, not {value!r}")
    return value


def _checked_exceptions(where: str, option: str, value: Any) -> Exceptions:
    several = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in several):
        raise LoadError(f"{where}: {option} must be exception classes in a tuple, not {value!r}")
    return several
