"""The kernel's limits of one attempt: set before it, taken back after it.

Soft limits only; the hard ones stay, so that they can be taken back. Files and descriptors are limited here
and nowhere else. CPU, memory and processes are limited by the master, which counts the whole tree; the limits
here are set above its own, for what happens between two of its looks.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Iterator
from contextlib import suppress

from sandbox.policy import Limits

CPU_GRACE_S = 2
MEMORY_FACTOR = 2  # address space is asked for that is never used
MEMORY_GRACE_BYTES = 256 * 1024 * 1024
PROCESSES_GRACE = 256  # the kernel counts all of the user's, the other runners' too

Kept = list[tuple[int, tuple[int, int]]]


def set_for(limits: Limits, *, own_user: bool) -> Kept:
    """Set what the attempt may use; answers what `restore` is to be given.

    own_user   the uid belongs to runners alone, so that its processes may be counted.
    """
    kept: Kept = []
    for which, value in _wanted(limits, own_user):
        soft, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # More descriptors than the host gives unasked are given; of all else there is enough without us.
        if which == resource.RLIMIT_NOFILE or soft == resource.RLIM_INFINITY or value < soft:
            resource.setrlimit(which, (value, hard))
            kept.append((which, (soft, hard)))
    return kept


class Shared:
    """Open files and file size of a process that has several jobs, which the kernel limits for all of them.

    So each has at least what it may: the largest of theirs holds, and none where one of them has none.
    """

    def __init__(self) -> None:
        self._of: dict[int, Limits] = {}  # of each attempt
        self._set = Limits()
        self._kept: Kept = []

    def begin(self, attempt: int, limits: Limits) -> None:
        self._of[attempt] = limits
        self._keep()

    def end(self, attempt: int) -> None:
        del self._of[attempt]
        self._keep()

    def _keep(self) -> None:
        wanted = Limits(
            open_files=_largest(each.open_files for each in self._of.values()),
            file_size_bytes=_largest(each.file_size_bytes for each in self._of.values()),
        )
        if wanted != self._set:
            restore(self._kept)
            self._kept, self._set = set_for(wanted, own_user=False), wanted


def _largest(limits: Iterable[int]) -> int:
    """0, which is no limit, is more than any."""
    known = list(limits)
    return max(known) if known and all(known) else 0


def _wanted(limits: Limits, own_user: bool) -> Iterator[tuple[int, int]]:
    if limits.open_files:
        yield resource.RLIMIT_NOFILE, limits.open_files
    if limits.file_size_bytes:
        yield resource.RLIMIT_FSIZE, limits.file_size_bytes
    if limits.cpu_ms:
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = used.ru_utime + used.ru_stime + limits.cpu_ms / 1000
        yield resource.RLIMIT_CPU, math.ceil(seconds) + CPU_GRACE_S
    if limits.memory_bytes:
        yield resource.RLIMIT_DATA, _data_bytes() + MEMORY_FACTOR * limits.memory_bytes + MEMORY_GRACE_BYTES
    if limits.processes and own_user:
        yield resource.RLIMIT_NPROC, _tasks_of(os.getuid()) + limits.processes + PROCESSES_GRACE


def restore(kept: Iterable[tuple[int, tuple[int, int]]]) -> None:
    for which, before in kept:
        # The job may have lowered the hard limit; a runner that differs is retired elsewhere.
        with suppress(OSError, ValueError):
            resource.setrlimit(which, before)


def _data_bytes() -> int:
    """What RLIMIT_DATA counts of this process now."""
    fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 256).split()[5]) * resource.getpagesize()
    finally:
        os.close(fd)


def _tasks_of(uid: int) -> int:
    """Processes and threads of a user."""
    tasks = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found = os.stat(f"/proc/{name}/task")
                tasks += found.st_nlink - 2 if _uid_of(name) == uid else 0
    return tasks


def _uid_of(pid: str) -> int:
    fd = os.open(f"/proc/{pid}/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for line in os.read(fd, 4096).splitlines():
            if line.startswith(b"Uid:"):
                return int(line.split()[1])
    finally:
        os.close(fd)
    return -1
