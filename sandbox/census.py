"""Census: which processes, threads and descriptors this process has now, and what they are called.

It decides nothing. Everything is read from /proc/self and may raise OSError where that cannot be read.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Final

MAX_NAMED: Final = 5  # of one kind; of the others the number is told

_TASKS: Final = "/proc/self/task"
_FDS: Final = "/proc/self/fd"
_INODE: Final = re.compile(r":\[\d+\]$")

# Modules whose helper processes live as long as their process, and the attributes that lead to the pid.
_HELPERS: Final = (
    ("multiprocessing.resource_tracker", "_resource_tracker", "_pid"),
    ("multiprocessing.forkserver", "_forkserver", "_forkserver_pid"),
    ("joblib.externals.loky.backend.resource_tracker", "_resource_tracker", "_pid"),
    ("loky.backend.resource_tracker", "_resource_tracker", "_pid"),
)


def children() -> set[int]:
    """The children of every thread of this process, dead ones that are not reaped among them."""
    found: set[int] = set()
    for task in os.listdir(_TASKS):
        try:
            with open(f"{_TASKS}/{task}/children") as file:
                found.update(map(int, file.read().split()))
        except FileNotFoundError:
            continue  # the thread has just ended; its children are another's
    return found


def helpers() -> set[int]:
    """Processes that libraries keep to serve this one as long as it lives."""
    found = set()
    for module, keeper, attribute in _HELPERS:
        pid = getattr(getattr(sys.modules.get(module), keeper, None), attribute, None)
        if isinstance(pid, int):
            found.add(pid)
    return found


class Own:
    """The two counts that the kernel has ready, read through descriptors: by name they cost twice that.

    fds_are_counted   the kernel tells how many descriptors there are (since Linux 6.2).
    """

    def __init__(self) -> None:
        self._tasks = os.open(_TASKS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fds = os.open(_FDS, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.fds_are_counted = os.fstat(self._fds).st_size > 0

    def tasks(self) -> int:
        """A number that changes with the number of kernel threads."""
        return os.fstat(self._tasks).st_nlink

    def fds(self) -> int:
        """How many descriptors are open; where the kernel does not count them, the lowest free number."""
        if self.fds_are_counted:
            return os.fstat(self._fds).st_size
        lowest = os.dup(1)
        os.close(lowest)
        return lowest


def python_threads() -> set[int]:
    """Threads that Python code runs in, the calling one among them: those `threading` never saw, too."""
    threading = sys.modules.get("threading")
    known = () if threading is None else threading.enumerate()  # one that has just started has no frame yet
    return {*sys._current_frames(), *(each.ident for each in known if each.ident is not None)}


def name_processes(pids: Iterable[int]) -> str:
    """`process 17 (sleep)`, or `3 processes: 17 (sleep), ...`."""
    named = [f"{pid} ({_name_of(pid)})" for pid in sorted(pids)]
    return f"process {named[0]}" if len(named) == 1 else f"{len(named)} processes: {_first(named)}"


def _name_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip() or "?"
    except OSError:
        return "?"  # it has just ended


def name_threads(idents: Iterable[int]) -> str:
    """`thread Thread-1 (work)`, or `2 threads: ...`."""
    threading = sys.modules.get("threading")
    known = {} if threading is None else {each.ident: each.name for each in threading.enumerate()}
    named = sorted(known.get(ident) or "unnamed" for ident in idents)
    return f"thread {named[0]}" if len(named) == 1 else f"{len(named)} threads: {_first(named)}"


def name_descriptors() -> str:
    """What is open, the most frequent first: `40 x /tmp/a, 3 x socket`."""
    counted: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        try:
            counted[_INODE.sub("", os.readlink(f"/proc/self/fd/{fd}"))] += 1
        except OSError:
            continue  # the one that made the list; or it is not ours to read
    return _first([f"{count} x {what}" for what, count in counted.most_common()])


def _first(named: list[str]) -> str:
    more = len(named) - MAX_NAMED
    return ", ".join(named[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
