"""Orphans: what the jobs of a dead master have left on this host, ended by the next master.

A master that is killed takes its runners with it, but not what its jobs have started in sessions of their
own: that goes to whoever adopts orphans, and works on. Where a cgroup or a PID namespace holds it, it ends
with them. For all other cases the template's environment carries a mark that every program started below it
inherits: which master, when that was started, and in which PID namespace. A new master ends every process of
its user whose mark names a master that lives no more.

A process that was forked without exec shows no environment (process titles are written over it, and who is
not dumpable hides it): it is not found here. A job that wants a process to outlive its master takes the mark
out of that process' environment.

Reads    /proc
Writes   SIGKILL to orphans
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

MARK = "STARTED_BY_OXHERD"
PASSES = 20

_PREFIX = MARK.encode() + b"="


def mark() -> dict[str, str]:
    """What goes into the environment of a template of this master."""
    return {MARK: f"{os.getpid()}.{_started(os.getpid())}.{_namespace()}"}


def end_orphans(runner_uid: int = 0) -> list[int]:
    """End what dead masters' jobs have left; their pids. Who forks meanwhile is stopped first.

    runner_uid   whose runners are; 0 for our own user's.
    """
    users = {os.geteuid(), runner_uid or os.geteuid()}
    spared = _ancestors()
    found: set[int] = set()
    for _ in range(PASSES):
        new = {pid for pid in _pids() if pid not in found | spared and _is_orphan(pid, users)}
        if not new:
            break
        for pid in new:
            _signal(pid, users, signal.SIGSTOP)
        found |= new
    for pid in found:
        _signal(pid, users, signal.SIGKILL)
    return sorted(found)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _ancestors() -> set[int]:
    """Ourselves, and those above us: a job may have started the master that takes over."""
    found = set()
    pid = os.getpid()
    while pid > 0 and pid not in found:
        found.add(pid)
        pid = _number_of(pid, 1)
    return found


def _signal(pid: int, users: set[int], number: signal.Signals) -> None:
    """Signal an orphan, if the number is still its own: held by a pidfd it cannot change any more."""
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if _is_orphan(pid, users):
                signal.pidfd_send_signal(pidfd, number)
        finally:
            os.close(pidfd)


def _is_orphan(pid: int, users: set[int]) -> bool:
    """It is one of these users' and carries the mark of a master of our PID namespace that is gone."""
    try:
        if os.stat(f"/proc/{pid}").st_uid not in users:
            return False
        with open(f"/proc/{pid}/environ", "rb") as file:
            told = next((each for each in file.read().split(b"\0") if each.startswith(_PREFIX)), b"")
    except OSError:
        return False
    words = told.removeprefix(_PREFIX).decode("ascii", "replace").split(".")
    # A number means something in its namespace only: a container's master is not looked for out here.
    if len(words) != 3 or not words[0].isdigit() or words[2] != _namespace():
        return False
    return str(_started(int(words[0]))) != words[1]


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid").strip("pid:[]")


def _started(pid: int) -> int:
    """When the process with this number was started, in ticks since boot; 0 for none that lives."""
    return 0 if _state_of(pid) in "ZX" else _number_of(pid, 19)


def _state_of(pid: int) -> str:
    return (_fields_of(pid) or ["Z"])[0]


def _number_of(pid: int, place: int) -> int:
    fields = _fields_of(pid)
    return int(fields[place]) if fields else 0


def _fields_of(pid: int) -> list[str]:
    """What stands in /proc/PID/stat after the name, which may contain anything: state, parent, ..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
