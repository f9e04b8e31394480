"""Children of ours that nobody registered: what dead runners have left behind, and who died at its birth.

Strays come to the master because it is a sub-reaper, without a pidfd: they are reaped on SIGCHLD by pid, and
looked for after each burial. Decides who is one; births and burials of runners are `runners.py`'s.

While a fork is under way an unknown child may be a runner that is not registered yet. So nobody is looked for
then, and who ends meanwhile is remembered until the template has told whom it forked.

Rule     invariant I8
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from supervisor.master.killing import children_of, kill_tree, name_of
from supervisor.master.runner import Exit
from supervisor.observe.log import get

log = get("runners")

SWEEP_WITHIN_S: Final = 0.05


class Strays:
    """All of one master. Its methods belong to the event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        registered: Callable[[], set[int]],
        forking: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._registered = registered
        self._forking = forking
        # Children from before us (the embedded server) are somebody else's to end.
        self._spared = set(children_of(os.getpid()))
        self._dead_at_birth: dict[int, Exit] = {}  # reaped before the template could tell their pid
        self._wanted = False
        self._soon: asyncio.TimerHandle | None = None
        self.reaped = 0

    def spares(self, pid: int) -> bool:
        return pid in self._spared

    def claimed(self, pid: int) -> None:
        """It was there before us, and is registered now."""
        self._spared.discard(pid)

    def reap(self, pid: int) -> None:
        """A child that is not registered has ended."""
        _, status = os.waitpid(pid, os.WNOHANG)
        self._spared.discard(pid)  # the number may be a stray's one day
        if self._forking():
            # It may be a runner that died between its fork and the template's answer.
            signum = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
            self._dead_at_birth[pid] = Exit(None if signum else os.WEXITSTATUS(status), signum)
        else:
            self.reaped += 1

    def dead_at_birth(self) -> dict[int, Exit]:
        """A fork was answered: who ended while some were under way."""
        dead = self._dead_at_birth
        if not self._forking():
            self._dead_at_birth = {}  # the others were strays: nobody will ask for them
        return dead

    def sweep_soon(self) -> None:
        if self._soon is None:
            self._soon = self._loop.call_later(SWEEP_WITHIN_S, self.sweep)

    def sweep_if_wanted(self) -> None:
        """A birth is over, for which a sweep may have waited."""
        if self._wanted:
            self.sweep()

    def sweep(self) -> None:
        """Kill them all; later, if a fork is under way."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._forking():
            self._wanted = True
            return
        self._wanted = False
        known = self._registered() | self._spared
        for pid in children_of(os.getpid()):
            if pid not in known:
                what = name_of(pid)
                below = kill_tree(pid)
                log.warning("stray.killed", pid=pid, what=what, below=below)
