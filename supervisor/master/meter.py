"""Meters: what a runner and all below it use now, as three numbers.

Decides how it is measured, nothing of what follows. This one reads /proc, which every host has and a master
that is not root may read: RssAnon and VmSwap of each process, less what it only shares with the process it
was forked from. PSS would say it exactly, but is unreadable once a runner is not dumpable, and costs 17 ms a
GB; these readings cost 15 us a process. A cgroup's meter is in cgroup.py.

What is shared is known at a fork and estimated after: memory that a process was born with counts as its
parent's, until the parent has given it up. Memory of the runner's own birth is the template's, and nobody's
that is metered.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from supervisor.master.killing import descendants_of

FORKED_WITHOUT_EXEC: Final = 0x40  # PF_FORKNOEXEC of the flags in /proc/PID/stat
TICK_MS: Final = 1000 / os.sysconf("SC_CLK_TCK")
LONGEST_FILE: Final = 8192


class Usage(NamedTuple):
    """What a tree of processes uses: `tasks` are processes and threads."""

    memory_bytes: int
    cpu_ms: int
    tasks: int
    processes: int


class Meter(Protocol):
    def read(self) -> Usage | None:
        """None when it is gone."""
        ...

    def cpu_ms(self) -> int:
        """What the runner has used so far. Cheaper: it is asked at the beginning of each job that is watched,
        when there is nobody below it.
        """
        ...


class _Process(NamedTuple):
    parent: int
    forked: bool  # and has not called exec since: it shares pages with whom it was forked from
    cpu_ticks: int  # its own, and that of the children it has reaped
    tasks: int
    memory_bytes: int


class TreeMeter:
    """The meter of one runner without a cgroup. What it has when this is made is what it was forked with."""

    def __init__(
        self, pid: int, *, proc: str = "/proc", below: Callable[[int], list[int]] = descendants_of
    ) -> None:
        self._pid = pid
        self._proc = proc
        self._below = below
        self._baseline = _memory_of(proc, pid) or 0
        self._inherited: dict[int, tuple[int, int]] = {}  # of a descendant: from whom, how much at most

    def read(self) -> Usage | None:
        runner = _process(self._proc, self._pid)
        if runner is None:
            return None
        found = {self._pid: runner}
        for pid in self._below(self._pid):
            process = _process(self._proc, pid)
            if process is not None:
                found[pid] = process
        self._inherited = {pid: known for pid, known in self._inherited.items() if pid in found}
        return Usage(
            sum(self._own(pid, process, found) for pid, process in found.items()),
            round(sum(process.cpu_ticks for process in found.values()) * TICK_MS),
            sum(process.tasks for process in found.values()),
            len(found),
        )

    def cpu_ms(self) -> int:
        try:
            stat = _stat_of(self._proc, self._pid)
        except OSError:
            return 0
        return round(sum(map(int, stat[11:15])) * TICK_MS)

    def _own(self, pid: int, process: _Process, found: dict[int, _Process]) -> int:
        """What this process has that was not counted with another."""
        if pid == self._pid:
            return max(0, process.memory_bytes - self._baseline)
        if not process.forked:
            return process.memory_bytes
        if pid not in self._inherited:
            parent = found.get(process.parent, found[self._pid])
            shared = min(process.memory_bytes, parent.memory_bytes)
            self._inherited[pid] = process.parent, shared
        origin, shared = self._inherited[pid]
        left = found[origin].memory_bytes if origin in found else self._baseline
        return max(0, process.memory_bytes - min(shared, left))


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, LONGEST_FILE)
    finally:
        os.close(fd)


def _stat_of(proc: str, pid: int) -> list[bytes]:
    """What stands after the name, which may contain anything: from the state, the third field of proc(5)."""
    stat = _read(f"{proc}/{pid}/stat")
    return stat[stat.rfind(b")") + 2 :].split()


def _process(proc: str, pid: int) -> _Process | None:
    try:
        parts = _stat_of(proc, pid)
    except OSError:
        return None
    memory = _memory_of(proc, pid)
    if memory is None:
        return None
    return _Process(
        int(parts[1]),
        bool(int(parts[6]) & FORKED_WITHOUT_EXEC),
        sum(map(int, parts[11:15])),
        int(parts[17]),
        memory,
    )


def _memory_of(proc: str, pid: int) -> int | None:
    """RssAnon and VmSwap; 0 for a zombie, which has neither. None: it is gone."""
    try:
        status = _read(f"{proc}/{pid}/status")
    except OSError:
        return None
    return _kilobytes(status, b"\nRssAnon:") + _kilobytes(status, b"\nVmSwap:")


def largest_resident_bytes(pid: int) -> int:
    """The most that this process ever had resident, what it shares included; 0 when it is gone."""
    try:
        status = _read(f"/proc/{pid}/status")
    except OSError:
        return 0
    return _kilobytes(status, b"\nVmHWM:")


def _kilobytes(status: bytes, name: bytes) -> int:
    at = status.find(name)
    return 0 if at < 0 else int(status[at + len(name) : status.index(b"kB", at)]) * 1024
