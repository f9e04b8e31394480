"""Hygiene: what a job left behind in its runner, and whether the next job may still be given to it.

After every job a few cheap questions are asked of the kernel (about 5 us); every `FULL_EVERY_JOBS` jobs or
`FULL_EVERY_S` seconds, and whenever one of them is answered unexpectedly, everything is compared with what it
was before the first job. What can be put back is put back. What cannot makes the runner one to be retired: a
living process, a thread of Python, too many descriptors, a hard limit lowered. Everything found is told.

No finding: a process that has ended and was not waited for (it is reaped); the helpers of multiprocessing and
joblib that serve their process as long as it lives; kernel threads that no Python code runs in, which
numeric libraries start once and keep; a few descriptors more, which is a connection kept for the next job.

It does not decide what happens to the runner: the runner tells the master with LEFT, and the master retires
it and ends what it left.

Rule     ECHILD from waitid proves that nothing descends from us, because a runner is a sub-reaper: whatever a
         job has daemonised is our child by now.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from sandbox import census
from sandbox.failures import shorten
from sandbox.rare import Rare

FULL_EVERY_JOBS: Final = 100
FULL_EVERY_S: Final = 5.0
SPARE_FDS: Final = 32  # more than before the first job: connections and files kept for the next one
SPARE_TASKS: Final = 256  # kernel threads of libraries; they start about one a core
GRACE_S: Final = 0.1  # what was told to end may need so long; only who leaves something waits for it
NATIVE_GRACE_S: Final = 0.005  # a thread that was joined may still be a kernel task
MAX_ITEMS: Final = 20  # told of one job
MAX_CHARACTERS: Final = 300  # of each

_WALL: Final = 0x40000000  # __WALL: children by clone(2) with another signal than SIGCHLD, too
_PEEK: Final = os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL

# Where joblib keeps the pool that it hopes to use again.
_POOLS: Final = ("joblib.externals.loky.reusable_executor", "loky.reusable_executor")


class Findings:
    """What one look has found. `retire`: the runner must not be given another job."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self.retire = False

    def stays(self, what: str) -> None:
        """It cannot be undone from here."""
        self._add(what)
        self.retire = True

    def put_back(self, what: str) -> None:
        self._add(f"{what} (put back)")

    def _add(self, what: str) -> None:
        if len(self.left) < MAX_ITEMS:
            self.left.append(shorten(what, MAX_CHARACTERS))
        elif len(self.left) == MAX_ITEMS:
            self.left.append("and more")

    def to_json(self) -> dict[str, Any]:
        return {"left": self.left, "retire": self.retire}


class Hygiene:
    """One runner's. Made before its first job, by the thread that runs the jobs.

    let_threads_go   ends the threads that are ours to end: those of the event loop's own pool.
    """

    def __init__(
        self,
        *,
        let_threads_go: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._let_threads_go = let_threads_go
        self._home = os.getcwd()
        self._umask = os.umask(0o022)
        os.umask(self._umask)
        self._environ = dict(_environ())
        self._streams = (sys.stdout, sys.stderr)
        self._path = list(sys.path)
        self._own = census.Own()
        self._tasks = self._own.tasks()
        self._most_tasks = self._tasks + SPARE_TASKS
        self._threads = census.python_threads()
        self._most_fds = self._own.fds() + SPARE_FDS
        self._rare = Rare()
        self._full_at = clock()
        self._served = 0  # jobs whose traces the next close look may find
        self._first_id = ""  # of the first of them

    def look(self, job_id: str) -> Findings | None:
        """After a job; None when it left nothing."""
        self._served += 1
        if self._served == 1:
            self._first_id = job_id
        umask = os.umask(self._umask)  # tells what it was and sets it right in one call
        found: Findings | None = None
        try:
            if (
                umask == self._umask
                and self._childless()
                and self._own.tasks() == self._tasks
                and self._own.fds() <= self._most_fds
                and self._looks_the_same()
                and self._served < FULL_EVERY_JOBS
                and self._clock() - self._full_at < FULL_EVERY_S
            ):
                return None
            found = Findings()
            self._look_closely(found, umask)
        except OSError as error:
            found = found or Findings()
            found.stays(f"what keeps us from looking further ({error.strerror or error})")
        return found if found.left else None

    # --- the cheap questions ----------------------------------------------------------------------------

    def _childless(self) -> bool:
        """Nothing descends from us. Who has ended without being waited for is reaped."""
        try:
            while (ended := os.waitid(os.P_ALL, 0, _PEEK)) is not None:
                os.waitpid(ended.si_pid, os.WNOHANG | _WALL)
        except ChildProcessError:
            return True
        return bool(census.helpers()) and census.children() <= census.helpers()

    def _looks_the_same(self) -> bool:
        try:
            at_home = os.getcwd() == self._home
        except OSError:  # it is in a directory that is gone
            at_home = False
        return (
            at_home
            and _environ() == self._environ
            and sys.stdout is self._streams[0]
            and sys.stderr is self._streams[1]
            and sys.path == self._path
        )

    # --- everything -------------------------------------------------------------------------------------

    def _look_closely(self, found: Findings, umask: int) -> None:
        if umask != self._umask:
            found.put_back(f"umask {umask:04o}")
        self._look_at_descriptors(found)
        self._look_at_processes(found)
        self._look_at_threads(found)
        self._look_at_surroundings(found)
        before = f", by this job or one of the {self._served - 1} since job {self._first_id}"
        self._rare.compare(found.put_back, found.stays, before if self._served > 1 else "")
        self._full_at = self._clock()
        self._served = 0

    def _look_at_processes(self, found: Findings) -> None:
        if self._childless():
            return
        _close_pools()
        if not self._in_time(self._childless, GRACE_S):
            found.stays(census.name_processes(census.children() - census.helpers()))

    def _look_at_threads(self, found: Findings) -> None:
        if not self._only_known_threads():
            _close_pools()
            self._let_threads_go()
            self._in_time(self._only_known_threads, GRACE_S)
        self._in_time(lambda: self._own.tasks() <= self._tasks, NATIVE_GRACE_S)
        # Last: one that has just been started runs no Python code yet.
        if not self._only_known_threads():
            found.stays(census.name_threads(census.python_threads() - self._threads))
        self._tasks = self._own.tasks()
        if self._tasks > self._most_tasks:
            found.stays(f"{self._tasks - self._most_tasks + SPARE_TASKS} threads of native libraries")

    def _only_known_threads(self) -> bool:
        return census.python_threads() <= self._threads

    def _look_at_descriptors(self, found: Findings) -> None:
        more = self._own.fds() - self._most_fds
        if more > 0:
            try:
                which = census.name_descriptors()
            except OSError:
                which = "none is free to look at them"
            found.stays(f"{more + SPARE_FDS} descriptors more than at first: {which}")

    def _look_at_surroundings(self, found: Findings) -> None:
        if not self._looks_the_same():
            self._put_home_back(found)
            self._put_environ_back(found)
            for name, stream in zip(("stdout", "stderr"), self._streams, strict=True):
                if getattr(sys, name) is not stream:
                    setattr(sys, name, stream)
                    found.put_back(f"another sys.{name}")
            if sys.path != self._path:
                # Neither is safe: with it the next job may import something else than it would have, and
                # without it what this one has imported may not find the rest of itself.
                found.stays("a changed sys.path")

    def _put_home_back(self, found: Findings) -> None:
        try:
            here = os.getcwd()
        except OSError:
            here = "one that is gone"
        if here != self._home:
            os.chdir(self._home)
            found.put_back(f"working directory {here}")

    def _put_environ_back(self, found: Findings) -> None:
        now = dict(_environ())
        if now == self._environ:
            return
        changed = sorted(name for name in {*now, *self._environ} if now.get(name) != self._environ.get(name))
        for name in changed:
            if name in self._environ:
                os.environb[name] = self._environ[name]
            else:
                del os.environb[name]
        found.put_back(
            f"environment: {', '.join(map(os.fsdecode, changed))}"
        )  # never a value: it may be secret

    def _in_time(self, true: Callable[[], bool], limit_s: float) -> bool:
        """`true()` within so long."""
        give_up_at = time.monotonic() + limit_s
        while not true():
            if time.monotonic() > give_up_at:
                return False
            time.sleep(0.000_5)
        return True


def _environ() -> dict[bytes, bytes]:
    """What os.environ holds, as it is: a copy would cost more than all the other questions together."""
    held: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return held


def _close_pools() -> None:
    """joblib keeps its worker processes for the next call; they do not outlive the job that started them."""
    for name in _POOLS:
        pool = getattr(sys.modules.get(name), "_executor", None)
        if pool is not None:
            try:
                pool.shutdown(wait=True, kill_workers=True)
            except Exception:  # the library's own: what is left of it will be found
                continue
