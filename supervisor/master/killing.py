"""Ending a whole tree of processes without a cgroup: stop, sweep, kill.

Decides nothing about jobs. A tree that forks while it is swept is stopped first, level by level, until a pass
finds nobody new: who is stopped cannot fork (isolation.md section 2).
"""

from __future__ import annotations

import os
import signal

PASSES = 50


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
    _signal(pid, signal.SIGSTOP)
    below: set[int] = set()
    for _ in range(PASSES):
        new = set(descendants_of(pid)) - below
        if not new:
            break
        for descendant in new:
            _signal(descendant, signal.SIGSTOP)
        below |= new
    for descendant in below:
        _signal(descendant, signal.SIGKILL)
    _signal(pid, signal.SIGKILL)
    return len(below)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass
