"""Evidence: what is known of an abnormal end beside its verdict, and how it is told.

Decides what belongs to a record, how large it may be, how it reads in a job's log, and the sentence about a
process that died. What becomes of the job is finish.py's. All that came from a runner is text of a stranger:
bounded here.

Reads    the clock of a runner's CPU time, its rusage, the maximum of its memory in /proc
Rule     invariant I10: no failure is silent or empty; what is not known is said to be so, and never guessed
"""

from __future__ import annotations

import os
import re
import resource
import signal
import sysconfig
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import structs

import sandbox
from sandbox.policy import size_text, time_text
from supervisor.master.meter import largest_resident_bytes
from supervisor.master.verdicts import Cause, Crashed
from supervisor.protocol.jsontext import encode

if TYPE_CHECKING:
    from supervisor.master.attempt import Attempt
    from supervisor.master.runner import Exit, Runner

OUTPUT_BYTES: Final = 8 * 1024  # of what was printed last
STACK_CHARS: Final = 8 * 1024
PROGRESS_CHARS: Final = 1024
REASON_CHARS: Final = 4 * 1024
RECORD_BYTES: Final = 30 * 1024  # one record; all of a job are bounded by lua/lib/verdict.lua
ROW_CHARS: Final = 400
ROWS_OF_OUTPUT: Final = 5
# Known of whoever had a runner: 0 is what they were.
MAY_BE_NOTHING: Final = frozenset({"cpu_ms", "ran_ms", "runner_age_ms", "runner_jobs"})

NOBODY: Final = "nobody of ours"
KERNEL: Final = "the kernel"
FAULTS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSYS}
)
_FRAME: Final = re.compile(r'^  File "(?P<path>.*)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)
_OURS: Final = (os.path.dirname(os.path.abspath(sandbox.__file__)) + os.sep, "<string>")
_NOT_THE_USERS: Final = (*_OURS, sysconfig.get_path("stdlib") + os.sep, "<frozen ")


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Beside the cause and the reason.

    ended          how the process ended: an exit status or a signal; empty when it lives on.
    killed_by      `oxherd`, `the kernel` that keeps limits too, or `nobody of ours` for a signal that we did
                   not send; empty for faults in C.
    peak_bytes     most memory in use; 0: not known.
    peak_of        whose that is. `attempt`: of its own, all its processes together, sampled or of a cgroup.
                   `runner`: the largest resident set of one process in the runner's life, shared memory too.
    cpu_ms         CPU time of the attempt; of processes that it started only as far as known.
    runner         its process id.
    runner_jobs    how many jobs it had finished before.
    python_stack   of all threads, asked for before the kill or written by a crash; else `no_stack` says why.
    output         the last 8 KB of what was printed.
    progress       the last progress, JSON text.
    """

    ended: str = ""
    killed_by: str = ""
    peak_bytes: int = 0
    peak_of: str = "attempt"
    cpu_ms: int = 0
    ran_ms: int = 0
    runner: int = 0
    runner_age_ms: int = 0
    runner_jobs: int = 0
    python_stack: str = ""
    no_stack: str = ""
    output: str = ""
    progress: str = ""

    def record(self, cause: str, reason: str, **further: Any) -> bytes:
        """One JSON object on one line, at most RECORD_BYTES: output and stack give way."""
        known: dict[str, Any] = {"cause": cause, "reason": _cut(reason, REASON_CHARS), **further}
        known |= {
            name: value
            for name in self.__struct_fields__
            if (value := getattr(self, name)) not in ("", 0) or (self.runner and name in MAY_BE_NOTHING)
        }
        if not self.peak_bytes:
            del known["peak_of"]
        whole = _encoded(known)
        if len(whole) > RECORD_BYTES:  # control characters take six bytes each
            for name in ("python_stack", "output", "reason", "progress"):
                known[name] = _cut(str(known.get(name, "")), 512)
            whole = _encoded(known)
        return whole

    def rows(self, cause: str, reason: str) -> list[str]:
        """For the job's log."""
        rows = [reason, self._figures(cause)]
        if self.runner:
            rows.append(f"runner {self.runner}, {self._life()}")
        if self.progress:
            rows.append(f"last progress: {self.progress}")
        if not self.python_stack and self.no_stack:
            rows.append(f"no Python stack: {self.no_stack}")
        last = [line for line in self.output.splitlines() if line.strip()][-ROWS_OF_OUTPUT:]
        rows += [f"last output: {line}" for line in last]
        return [_cut(f"verdict: {row}", ROW_CHARS) for row in rows]

    def _figures(self, cause: str) -> str:
        figures = [f"cause {cause}"]
        if self.ended:
            by = f", sent by {self.killed_by}" if self.killed_by else ""
            figures.append(f"ended with {self.ended}{by}")
        if self.peak_bytes:
            whose = "" if self.peak_of == "attempt" else " resident (its runner, with what it shares)"
            figures.append(f"peak memory {size_text(self.peak_bytes)}{whose}")
        figures += [f"CPU {time_text(self.cpu_ms)}", f"ran {time_text(self.ran_ms)}"]
        return ", ".join(figures)

    def _life(self) -> str:
        jobs = {0: "no job", 1: "1 job"}.get(self.runner_jobs, f"{self.runner_jobs} jobs")
        return f"{time_text(self.runner_age_ms)} old, {jobs} before this one"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _encoded(known: dict[str, Any]) -> bytes:
    # Whatever a runner printed: halves of surrogate pairs would stop the readers of Redis' JSON.
    return encode({name: _whole(value) for name, value in known.items()})


def _whole(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


# --- what is gathered ---------------------------------------------------------------------------------


class Tail:
    """The last 8 KB of what was printed, line by line."""

    __slots__ = ("_lines", "_size")

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0

    def add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size - len(self._lines[0]) - 1 >= OUTPUT_BYTES:
            self._size -= len(self._lines.popleft()) + 1

    def text(self) -> str:
        whole = "\n".join(self._lines).encode("utf-8", "backslashreplace")
        return whole[-OUTPUT_BYTES:].decode("utf-8", "ignore")


def cpu_ns(pid: int) -> int:
    """CPU time that this process has used, all its threads; 0 when it is gone. Costs a microsecond."""
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)  # the kernel's clock id of that process
    except OSError:
        return 0


def begin(attempt: Attempt, runner: Runner) -> None:
    """It is about to begin in its runner, which may have others at work."""
    attempt.cpu_from_ns = cpu_ns(runner.pid)
    if runner.room > 1 and len(runner.attempts) > 1:
        return
    runner.tail = None
    if runner.faults is not None:
        runner.faults.clear()


def of_exit(attempt: Attempt, runner: Runner, how: Exit, now: float) -> Evidence:
    """Of an attempt whose runner is reaped."""
    stack, no_stack = "", "it ended before it could be asked"
    if runner.faults is not None:
        text = runner.faults.text_of_crash() if how.signal in FAULTS else runner.faults.text
        stack, no_stack = trimmed(text), runner.faults.no_answer or no_stack
    usage = runner.usage
    cpu_ms = attempt.cpu_ms
    if usage is not None:
        cpu_ms = max(cpu_ms, _cpu_ms(usage, runner, attempt))
    peak, whose = attempt.peak_bytes, "attempt"
    if not peak and usage is not None:
        peak, whose = usage.ru_maxrss * 1024, "runner"
    return Evidence(
        ended=str(how),
        killed_by=_killer(runner, how),
        peak_bytes=peak,
        peak_of=whose,
        cpu_ms=cpu_ms,
        python_stack=_cut(stack, STACK_CHARS),
        no_stack="" if stack else no_stack,
        **_common(attempt, runner, now),
    )


def _killer(runner: Runner, how: Exit) -> str:
    if how.signal is None or how.signal in FAULTS:
        return ""
    if runner.was_killed:
        return "oxherd" if how.signal == signal.SIGKILL else ""
    return NOBODY


def _cpu_ms(usage: resource.struct_rusage, runner: Runner, attempt: Attempt) -> int:
    used = usage.ru_utime + usage.ru_stime if not runner.served else runner.cpu_ns / 1e9
    return max(0, round((used - attempt.cpu_from_ns / 1e9) * 1000))


def of_kernel_kill(known: Evidence, attempt: Attempt) -> Evidence:
    """The same of one whom the kernel killed, as its books say; they may know the peak."""
    if not attempt.peak_bytes:
        return structs.replace(known, killed_by=KERNEL)
    return structs.replace(known, killed_by=KERNEL, peak_bytes=attempt.peak_bytes, peak_of="attempt")


def of_outcome(attempt: Attempt, runner: Runner, now: float) -> Evidence:
    """Of an attempt that has said its outcome: its runner lives."""
    used = cpu_ns(runner.pid) - attempt.cpu_from_ns
    peak, whose = attempt.peak_bytes, "attempt"
    if not peak:
        peak, whose = largest_resident_bytes(runner.pid), "runner"
    return Evidence(
        peak_bytes=peak,
        peak_of=whose,
        cpu_ms=max(attempt.cpu_ms, round(used / 1e6)),
        **_common(attempt, runner, now),
    )


def _common(attempt: Attempt, runner: Runner, now: float) -> dict[str, Any]:
    progress = (attempt.last_progress or b"").decode("utf-8", "backslashreplace")
    return {
        "ran_ms": max(0, round((now - attempt.started_at) * 1000)),
        "runner": runner.pid,
        "runner_age_ms": max(0, round((now - runner.born_at) * 1000)),
        "runner_jobs": runner.served,
        "output": runner.tail.text() if runner.tail is not None else "",
        "progress": _cut(progress, PROGRESS_CHARS),
    }


# --- what is made of it -------------------------------------------------------------------------------


def trimmed(dump: str) -> str:
    """A dump of faulthandler without the frames below the user's code, which are ours."""
    kept: list[str] = []
    for line in dump.splitlines():
        frame = _FRAME.match(line)
        if frame is None or not frame["path"].startswith(_OURS):
            kept.append(line)
    return "\n".join(kept).strip()


def where(stack: str) -> str:
    """The innermost line of the user's own code in the thread that comes first: `f (shop.py line 3)`."""
    current = stack.partition("Current thread")[2] or stack
    frames = list(_FRAME.finditer(current.partition("\n\n")[0]))
    own = [frame for frame in frames if not frame["path"].startswith(_NOT_THE_USERS)]
    for frame in own or frames:
        return f"{frame['name']} ({os.path.basename(frame['path'])} line {frame['line']})"
    return ""


def place_of_crash(runner: Runner) -> str:
    """` in f (shop.py line 3)`, when it has written its stacks; else nothing."""
    place = where(trimmed(runner.faults.text)) if runner.faults is not None else ""
    return f" in {place}" if place else ""


def death(how: Exit, evidence: Evidence) -> Crashed:
    """The verdict on a runner that ended before its job did, and nobody of us had asked for it."""
    if how.signal is None:
        return Crashed(
            Cause.EXIT, f"the runner's process ended with {how} before the job was done: there is no result"
        )
    place = where(evidence.python_stack)
    sentence = f"the runner died of {how}" + (f" in {place}" if place else "")
    if evidence.killed_by:
        sentence += f", sent by {evidence.killed_by}"
    return Crashed(Cause.SIGNAL, sentence)
