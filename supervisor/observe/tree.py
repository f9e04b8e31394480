"""What the processes of a runner's tree use now: state, CPU, memory, threads, age; and, seldom, what is dear.

A moment's picture for people and dashboards; nothing is decided by it. Whether a process still lives is told
by its pidfd, never by this, and limits are kept by the meters (master/meter.py).

Read by hand from /proc/PID/stat and statm: 8 us a process, where psutil takes 55 us for the same and another
1.3 ms for each tree, since it reads the parents of all processes of the host. What is asked every 30 s at
most (PSS, open files, io) is psutil's. A master that is not root may not read that of a runner that is not
dumpable: None then, never 0.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
LONGEST_FILE: Final = 4096
MOST_SHOWN: Final = 32  # processes of one tree; the others are in its sums
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Process(NamedTuple):
    """`anon_bytes` is RssAnon: what is resident and no file's. `began` is its start, in ticks since boot."""

    pid: int
    parent: int
    name: str
    state: str
    user_ms: int
    system_ms: int
    anon_bytes: int
    threads: int
    began: int

    @property
    def cpu_ms(self) -> int:
        return self.user_ms + self.system_ms


class Dear(NamedTuple):
    """What is looked at seldom, of one process. None where the kernel does not tell us."""

    pss_bytes: int | None = None
    open_files: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None

    @property
    def known(self) -> bool:
        return any(value is not None for value in self)


class Tree:
    """A runner and all below it at one moment.

    cpu_share   of one core since the look before, None at first. Who has ended in between is in no share.
    """

    __slots__ = ("cpu_share", "looked_at", "processes")

    def __init__(self, processes: list[Process], looked_at: float) -> None:
        self.processes = processes
        self.looked_at = looked_at
        self.cpu_share: float | None = None

    def plain(self, now: float) -> dict[str, Any]:
        """As JSON values."""
        return {
            "count": len(self.processes),
            "threads": sum(each.threads for each in self.processes),
            "cpu_ms": sum(each.cpu_ms for each in self.processes),
            "cpu_share": None if self.cpu_share is None else round(self.cpu_share, 3),
            "anon_bytes": sum(each.anon_bytes for each in self.processes),
            "ago_ms": round((now - self.looked_at) * 1000),
            "processes": [_plain(each) for each in self.processes[:MOST_SHOWN]],
        }


def _plain(process: Process) -> dict[str, Any]:
    known = process._asdict()
    began_ms = known.pop("began") * TICK_MS
    known["age_ms"] = max(0, round(time.clock_gettime(time.CLOCK_BOOTTIME) * 1000 - began_ms))
    return known


class Trees:
    """The trees of several runners, looked at together. `known`: by the runner's pid."""

    def __init__(self, below: Callable[[int], list[int]], clock: Callable[[], float]) -> None:
        """`below` gives the pids of all that descend from one."""
        self._below = below
        self._clock = clock
        self.known: dict[int, Tree] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Look at these now, and forget all others."""
        self.known = {pid: tree for pid in pids if (tree := self._tree(pid)) is not None}

    def _tree(self, pid: int) -> Tree | None:
        found = [each for each in map(process, (pid, *self._below(pid))) if each is not None]
        if not found or found[0].pid != pid:
            return None
        tree = Tree(found, self._clock())
        before = self.known.get(pid)
        if before is not None and tree.looked_at > before.looked_at:
            used = {(each.pid, each.began): each.cpu_ms for each in before.processes}
            more_ms = sum(each.cpu_ms - used.get((each.pid, each.began), 0) for each in found)
            tree.cpu_share = max(0.0, more_ms / 1000 / (tree.looked_at - before.looked_at))
        return tree


def process(pid: int) -> Process | None:
    """One process; None when it is gone. I7: its name is of its own choice."""
    try:
        stat, statm = _read(f"/proc/{pid}/stat"), _read(f"/proc/{pid}/statm")
    except OSError:
        return None
    name, _, rest = stat.partition(b"(")[2].rpartition(b")")
    parts, pages = rest.split(), statm.split()
    return Process(
        pid=pid,
        parent=int(parts[1]),
        name=_CONTROLS.sub("?", name.decode("utf-8", "replace")),
        state=parts[0].decode(),
        user_ms=round(int(parts[11]) * TICK_MS),
        system_ms=round(int(parts[12]) * TICK_MS),
        anon_bytes=max(0, int(pages[1]) - int(pages[2])) * PAGE_BYTES,
        threads=int(parts[17]),
        began=int(parts[19]),
    )


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, LONGEST_FILE)
    finally:
        os.close(fd)


def dear(pid: int) -> Dear:
    """What may be read of it from outside. PSS costs the kernel 17 ms a GB: not for an event loop."""
    # At the top it would cost every command 30 ms.
    import psutil

    found: dict[str, int] = {}
    with suppress(psutil.Error):
        looked_at = psutil.Process(pid)
        with suppress(psutil.Error, OSError, AttributeError):
            found["pss_bytes"] = int(looked_at.memory_full_info().pss)
        with suppress(psutil.Error, OSError):
            found["open_files"] = looked_at.num_fds()
        with suppress(psutil.Error, OSError, AttributeError):
            io = looked_at.io_counters()
            found["read_bytes"], found["written_bytes"] = io.read_bytes, io.write_bytes
    return Dear(**found)
