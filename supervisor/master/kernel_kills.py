"""Deaths that the kernel caused: a cgroup's limit, a host without memory, RLIMIT_CPU.

Decides what the kernel's own books say of a runner that died by a signal which nobody of us sent. They are
exact for a runner with a cgroup. Without one there is only the host's count of kills for want of memory: that
it has risen since the last look, and a runner died of SIGKILL. A look is taken at every birth and at every
such death, so there is little time in which somebody else's death could be taken for ours.
"""

from __future__ import annotations

import signal
from typing import Final

from sandbox.policy import Limits, size_text, time_text
from supervisor.master.attempt import Attempt
from supervisor.master.runner import Exit, Runner
from supervisor.master.verdicts import Cause, Crashed

COUNTER: Final = b"\noom_kill "


class KernelKills:
    """One for a master."""

    def __init__(self, vmstat: str = "/proc/vmstat") -> None:
        self._vmstat = vmstat
        self._known = self._count()
        self._told: tuple[Runner | None, bool] = (None, False)  # several attempts may die with one runner

    def look(self) -> bool:
        """Has the host killed anybody for want of memory since the last look?"""
        before, self._known = self._known, self._count()
        return self._known > before

    def _count(self) -> int:
        try:
            with open(self._vmstat, "rb") as file:
                text = file.read()
        except OSError:
            return 0  # before Linux 4.13, or hidden from us: nothing can be said then
        at = text.find(COUNTER)
        return int(text[at + len(COUNTER) :].split(None, 1)[0]) if at >= 0 else 0

    def why(self, attempt: Attempt, runner: Runner, how: Exit) -> Crashed | None:
        """The verdict on a death that the kernel explains; None for any other."""
        limits = attempt.limits
        if how.signal == signal.SIGXCPU and limits.cpu_ms:
            limit = time_text(limits.cpu_ms)
            return Crashed(Cause.CPU_TIME, f"CPU time limit of {limit} exceeded: the kernel ended it")
        if how.signal != signal.SIGKILL:
            return None
        if self._told[0] is not runner:
            self._told = runner, self.look()
        if runner.leaf is None:
            return _host(attempt) if self._told[1] else None
        events = runner.leaf.events()
        if not events.memory_kills:
            return None
        attempt.peak_bytes = max(attempt.peak_bytes, runner.leaf.peak_bytes())
        return _own(attempt, limits) if events.over_memory and limits.memory_bytes else _host(attempt)


def _own(attempt: Attempt, limits: Limits) -> Crashed:
    limit = size_text(limits.memory_bytes)
    peak = f"at {size_text(attempt.peak_bytes)}" if attempt.peak_bytes else "at once"
    return Crashed(Cause.MEMORY_LIMIT, f"memory limit of {limit} exceeded: the kernel ended it {peak}")


def _host(attempt: Attempt) -> Crashed:
    used = f", which used {size_text(attempt.peak_bytes)}" if attempt.peak_bytes else ""
    return Crashed(Cause.HOST_MEMORY, f"the host was out of memory: the kernel ended the runner{used}")
