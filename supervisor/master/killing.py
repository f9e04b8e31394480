"""Ending a whole tree of processes: by its cgroup, by its PID namespace, by stop, sweep and kill.

Decides nothing about jobs. In this order, because a cgroup is ended at one stroke, a namespace with its first
process, and everything else step by step: a tree that forks while it is swept is stopped first, level by
level, until a pass finds nobody new, for who is stopped cannot fork (isolation.md section 2). The sweep
follows the cgroup too: a process may have gone to another group, if it was allowed to write there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Set
from contextlib import suppress
from typing import Protocol

PASSES = 50


class Group(Protocol):
    def kill(self) -> bool: ...


class Ended(Protocol):
    """Who is ended: an unreaped child of ours. `leaf`: the group of its own, if there is one."""

    @property
    def pid(self) -> int: ...
    @property
    def leaf(self) -> Group | None: ...


def end_tree(runner: Ended) -> None:
    """SIGKILL a runner and all that descends from it."""
    if runner.leaf is not None:
        runner.leaf.kill()
    if is_first_of_namespace(runner.pid):
        with suppress(OSError):
            os.kill(runner.pid, signal.SIGKILL)  # the kernel ends the others before it lets this one go
    else:
        kill_tree(runner.pid)


def is_first_of_namespace(pid: int) -> bool:
    """It is number 1 in a PID namespace below ours. The kernel's word, not the process' own."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            numbers = next((line.split()[1:] for line in file if line.startswith("NSpid:")), [])
    except OSError:
        return False
    return len(numbers) > 1 and numbers[-1] == "1"


def stuck_below(pid: int) -> list[int]:
    """Those of the tree that wait inside the kernel and cannot be killed before it lets them go."""
    return [each for each in (pid, *descendants_of(pid)) if _state_of(each) == "D"]


def name_of(pid: int) -> str:
    """What the kernel calls it: the program's name, or what it has made of it, at most 15 letters."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().strip()
    except OSError:
        return ""  # it has just ended


def _state_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def children_of(pid: int) -> list[int]:
    """The children of every thread of `pid`; empty when it is gone."""
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
        except OSError:
            continue
    return found


def descendants_of(pid: int) -> list[int]:
    """All below `pid`, children before grandchildren."""
    found = children_of(pid)
    for child in found:  # grows while it is walked
        found += children_of(child)
    return found


def kill_tree(pid: int) -> int:
    """SIGKILL `pid` and all below it; returns how many there were below.

    `pid` must be an unreaped child of ours (so that the number cannot be somebody else's) and a sub-reaper
    (so that a daemonised grandchild is still below it).
    """
    with suppress(OSError):
        os.kill(pid, signal.SIGSTOP)
    below: set[int] = set()
    for _ in range(PASSES):
        new = set(descendants_of(pid)) - below
        if not new:
            break
        below |= new
        for descendant in new:
            _signal_below(descendant, signal.SIGSTOP, {pid, *below})
    for descendant in below:
        _signal_below(descendant, signal.SIGKILL, {pid, *below})
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    return len(below)


def signal_below(pid: int, number: signal.Signals) -> int:
    """A signal to all that descends from `pid`, not to itself; returns how many there were."""
    below = descendants_of(pid)
    for descendant in below:
        _signal_below(descendant, number, {pid, *below})
    return len(below)


def _signal_below(pid: int, number: signal.Signals, tree: Set[int]) -> None:
    """Signal a descendant, if the number is still its own.

    Others than we may reap it at any time. Held by a pidfd it cannot change any more, so a parent in the tree
    that is read after that is proof.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _parent_of(pid) in tree:
            signal.pidfd_send_signal(pidfd, number)
    except OSError:
        pass  # it has ended, or is not ours to signal
    finally:
        os.close(pidfd)


def _parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        # After the name, which may contain anything: state, parent.
        return int(file.read().rpartition(")")[2].split()[1])
