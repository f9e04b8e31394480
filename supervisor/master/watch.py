"""Limits that are kept by looking: memory, CPU and processes of an attempt's whole tree, silence, output.

Decides when an attempt is over a limit, and the sentence that says so; ending it is the dispatcher's. Looks
four times a second, and only while an attempt runs that has such a limit: one timer for all of them, which
lapses when there is nothing left to look at. Silence has a timer of its own for each attempt, which is not
moved at every word but looks, when it fires, how long ago the last was.

The kernel keeps what it can beside this: a cgroup's memory.max (cgroup.py), a runner's own RLIMIT_DATA, so
that a job which takes a gigabyte between two looks does not get it.

Rule     I10: each sentence has the limit and what was measured
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import structs

from sandbox.policy import Limits, size_text, time_text
from supervisor.master.attempt import Attempt
from supervisor.master.cgroup import Leaf
from supervisor.master.kernel_kills import KernelKills
from supervisor.master.meter import Meter, TreeMeter, Usage
from supervisor.master.runner import Runner
from supervisor.master.verdicts import Cause, Crashed, Raised, Verdict
from supervisor.observe.log import get

log = get("watch")

LOOK_EVERY_S: Final = 0.25
LARGEST_SHARE: Final = 0.05  # of the master's time: with thousands of processes it looks less often

End = Callable[[Attempt, Crashed], None]


def exceeded(limits: Limits, usage: Usage) -> Crashed | None:
    """The verdict on who uses that much, or None when it may."""
    if 0 < limits.memory_bytes < usage.memory_bytes:
        return Crashed(Cause.MEMORY_LIMIT, memory_sentence(limits, usage.memory_bytes, usage.processes))
    if 0 < limits.cpu_ms < usage.cpu_ms:
        used = f"{time_text(usage.cpu_ms)} used"
        return Crashed(Cause.CPU_TIME, f"CPU time limit of {time_text(limits.cpu_ms)} exceeded: {used}")
    if 0 < limits.processes < usage.tasks:
        return Crashed(
            Cause.PROCESSES,
            f"limit of {limits.processes} processes and threads exceeded: {usage.tasks} in "
            f"{_processes(usage.processes)}",
        )
    return None


def memory_sentence(limits: Limits, used_bytes: int, processes: int) -> str:
    used = f"{size_text(used_bytes)} in {_processes(processes)}"
    return f"memory limit of {size_text(limits.memory_bytes)} exceeded: {used}"


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


class _Watched(msgspec.Struct):
    """What is kept beside an attempt while it is watched."""

    end: End
    looked_at: bool  # memory, CPU or processes are limited
    cpu_before_ms: int = 0  # used by its runner's tree before it
    printed_before: int = 0
    silence: asyncio.TimerHandle | None = None


class Watch:
    """One for all queues of a master. All methods belong to the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self.kernel = KernelKills()
        self._watched: dict[Attempt, _Watched] = {}
        self._timer: asyncio.TimerHandle | None = None

    def met(self, runner: Runner) -> None:
        """A runner has just come up: what it uses now is not its jobs'."""
        self.kernel.look()
        if runner.leaf is None:
            runner.meter = TreeMeter(runner.pid)
        else:
            runner.leaf.ready()
            runner.meter = runner.leaf

    def begin(self, attempt: Attempt, end: End) -> None:
        """Its job is about to be sent to its runner. `end` is called at most once, and only while it has no
        verdict.
        """
        limits, runner = attempt.limits, attempt.runner
        if runner is None:
            return
        if runner.leaf is not None:
            self._have_kept(runner, runner.leaf, limits)
            if not limits.watched:
                return
        looked_at = bool(limits.memory_bytes or limits.cpu_ms or limits.processes)
        kept = _Watched(end, looked_at, printed_before=runner.printed_bytes)
        self._watched[attempt] = kept
        if looked_at and runner.meter is not None:
            kept.cpu_before_ms = runner.meter.cpu_ms()
        if looked_at and self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY_S, self._look)
        if limits.silence_ms:
            attempt.heard_at = self._clock()
            kept.silence = self._loop.call_later(limits.silence_ms / 1000, self._listen, attempt)

    def _have_kept(self, runner: Runner, leaf: Leaf, limits: Limits) -> None:
        try:
            leaf.set(limits)
        except OSError as error:
            log.warning("cgroup.refused", runner=runner.pid, error=f"{error.filename}: {error.strerror}")
            runner.meter = TreeMeter(runner.pid)

    def forget(self, attempt: Attempt) -> None:
        """It is over, or decided. Harmless for one that was never watched."""
        kept = self._watched.pop(attempt, None)
        if kept is None:
            return
        if kept.silence is not None:
            kept.silence.cancel()

    # --- memory, CPU, processes -------------------------------------------------------------------------

    def _look(self) -> None:
        began_at = self._clock()
        seen: dict[Runner, Usage | None] = {}  # several attempts may be in one
        for attempt in [attempt for attempt, kept in self._watched.items() if kept.looked_at]:
            runner = attempt.runner
            if runner is not None and runner.meter is not None:
                if runner not in seen:
                    seen[runner] = self._read(runner, runner.meter)
                self._note(attempt, seen[runner])
        took_s = self._clock() - began_at
        self._timer = None
        if any(kept.looked_at for kept in self._watched.values()):
            self._timer = self._loop.call_later(max(LOOK_EVERY_S, took_s / LARGEST_SHARE), self._look)

    def _read(self, runner: Runner, meter: Meter) -> Usage | None:
        usage = meter.read()
        if usage is None and runner.leaf is not None and meter is runner.leaf:
            # Whoever gave us the group has taken it back. What the runner has now is not seen any more.
            log.warning("cgroup.refused", runner=runner.pid, error="its group tells nothing any more")
            runner.meter = TreeMeter(runner.pid)
        return usage

    def look_at(self, attempt: Attempt) -> None:
        """Measure it now and remember the most that was seen; ends it when it is over a limit."""
        kept = self._watched.get(attempt)
        if kept is not None and kept.looked_at and attempt.runner is not None and attempt.runner.meter:
            self._note(attempt, attempt.runner.meter.read())

    def judged(self, attempt: Attempt, said: Verdict) -> Verdict:
        """What its runner says of a failure, with what can be seen of it now.

        A limit that the kernel keeps reaches the processor as an error of its own, and leaves it as one: a
        MemoryError, or a fork that was refused.
        """
        if attempt.limits.watched and isinstance(said, Raised | Crashed):
            self.look_at(attempt)
        if isinstance(said, Crashed) and attempt.limits.memory_bytes:
            limit, peak = size_text(attempt.limits.memory_bytes), size_text(attempt.peak_bytes)
            reason = f"memory limit of {limit} exceeded: an allocation was refused at {peak}"
            return structs.replace(said, reason=reason)
        return said

    def _note(self, attempt: Attempt, found: Usage | None) -> None:
        kept = self._watched.get(attempt)
        if found is None or kept is None:
            return
        usage = found._replace(cpu_ms=max(attempt.cpu_ms, found.cpu_ms - kept.cpu_before_ms))
        attempt.cpu_ms = usage.cpu_ms
        attempt.peak_bytes = max(attempt.peak_bytes, usage.memory_bytes)
        attempt.processes = max(attempt.processes, usage.tasks)
        verdict = exceeded(attempt.limits, usage)
        if verdict is not None:
            self._end(attempt, kept, verdict)

    def _end(self, attempt: Attempt, kept: _Watched, verdict: Crashed) -> None:
        if attempt.verdict is None:
            kept.end(attempt, verdict)

    # --- silence and output -----------------------------------------------------------------------------

    def _listen(self, attempt: Attempt) -> None:
        kept = self._watched[attempt]
        limit_s = attempt.limits.silence_ms / 1000
        if attempt.paused or attempt.asks:
            attempt.heard_at = self._clock()  # it is waiting for us
        silent_s = self._clock() - attempt.heard_at
        if silent_s < limit_s:
            kept.silence = self._loop.call_later(limit_s - silent_s, self._listen, attempt)
            return
        kept.silence = None
        limit = time_text(attempt.limits.silence_ms)
        self._end(
            attempt,
            kept,
            Crashed(
                Cause.NO_PROGRESS,
                f"silence limit of {limit} exceeded: no progress, log row or output for "
                f"{time_text(round(silent_s * 1000))}",
            ),
        )

    def heard(self, attempt: Attempt) -> None:
        """It has said or printed something."""
        attempt.heard_at = self._clock()

    def printed(self, attempt: Attempt) -> None:
        """Its runner has printed something: is it more than it may be?"""
        kept, runner = self._watched.get(attempt), attempt.runner
        if kept is None or runner is None:
            return
        printed = runner.printed_bytes - kept.printed_before
        if printed > attempt.limits.output_bytes:
            limit = size_text(attempt.limits.output_bytes)
            self._end(
                attempt,
                kept,
                Crashed(Cause.OUTPUT, f"output limit of {limit} exceeded: {size_text(printed)} printed"),
            )
