"""What a job seldom changes of its process, compared with what it was before the first job.

Signal handlers and mask, timers, limits, priority, locale, the recursion limit and more: about 20 us in all,
so hygiene.py asks for it at intervals. What can be put back is put back here; how it is told, and what
follows from what cannot, is hygiene.py's.
"""

from __future__ import annotations

import _locale
import _signal  # type: ignore[import-not-found]
import faulthandler
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from sandbox import faults, linux

# Those that can have a handler; 32 and 33 are the C library's own.
_SIGNALS: Final = tuple(int(each) for each in signal.valid_signals() if each not in (9, 19, 32, 33))
_OF_FAULTHANDLER: Final = {
    signal.SIGSEGV,
    signal.SIGFPE,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGILL,
    signal.SIGUSR1,
}
_TIMERS: Final = tuple(
    (name, getattr(signal, name)) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")
)
# By number: RLIMIT_OFILE is RLIMIT_NOFILE.
_LIMITS: Final = tuple(
    (name, which)
    for which, name in {
        getattr(resource, name): name
        for name in sorted(dir(resource), reverse=True)
        if name.startswith("RLIMIT_")
    }.items()
)

Tell = Callable[[str], None]


class Rare:
    """One process'. Made before the first job."""

    def __init__(self) -> None:
        self._handlers = _handlers()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._limits = _limits()
        self._values = [read() for _, read, _ in _VALUES]
        self._streams = _standard_streams()

    def compare(self, put_back: Tell, stays: Tell, who: str) -> None:
        """Put back what can be, and tell what was found. `who` may have done it: the end of each sentence."""
        self._compare_handlers(lambda what: put_back(what + who))
        self._compare_timers(lambda what: put_back(what + who))
        self._compare_limits(lambda what: put_back(what + who), lambda what: stays(what + who))
        self._compare_values(lambda what: put_back(what + who), lambda what: stays(what + who))
        for number, before, now in zip(range(3), self._streams, _standard_streams(), strict=True):
            if now != before:
                stays(f"descriptor {number} is not what it was{who}")

    def _compare_handlers(self, put_back: Tell) -> None:
        changed = []
        for number, before, now in zip(_SIGNALS, self._handlers, _handlers(), strict=True):
            if now is before or now == before or _is_ours(now) or before is None:
                continue
            signal.signal(number, before)
            changed.append(number)
        if changed:
            if _OF_FAULTHANDLER & set(changed):
                _have_stacks_told()
            put_back(f"handlers of {', '.join(map(_name_of, changed))}")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        if mask != self._mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            put_back(f"blocked signals {', '.join(sorted(map(_name_of, mask ^ self._mask)))}")

    def _compare_timers(self, put_back: Tell) -> None:
        for name, which in _TIMERS:
            if signal.getitimer(which) != (0.0, 0.0):
                signal.setitimer(which, 0)
                put_back(f"a running {name}")

    def _compare_limits(self, put_back: Tell, stays: Tell) -> None:
        for (name, which), before, now in zip(_LIMITS, self._limits, _limits(), strict=True):
            if now == before:
                continue
            try:
                resource.setrlimit(which, before)
            except (OSError, ValueError):  # a hard limit, once lowered, is not raised again
                stays(f"{name} {now[0]}, {now[1]}")
            else:
                put_back(f"{name} {now[0]}, {now[1]}")

    def _compare_values(self, put_back: Tell, stays: Tell) -> None:
        for (name, read, write), before in zip(_VALUES, self._values, strict=True):
            now = read()
            if now == before:
                continue
            try:
                if write is None:
                    raise PermissionError
                write(before)
                if read() != before:
                    raise PermissionError
            except (OSError, ValueError, RecursionError):
                stays(f"{name} {now}")
            else:
                put_back(f"{name} {now}")


def _handlers() -> list[Any]:
    # The C module's own: signal.getsignal makes an enum of each, for ten times the price.
    return [_signal.getsignal(number) for number in _SIGNALS]


def _is_ours(handler: Any) -> bool:
    """The soft limit and its like arm themselves with the first job that needs them."""
    return (getattr(handler, "__module__", None) or "").startswith("sandbox.")


def _have_stacks_told() -> None:
    """Putting a handler back has taken faulthandler's away; a dump asked for would end the runner."""
    faulthandler.disable()  # enabling does nothing while it believes that it is on
    faulthandler.unregister(signal.SIGUSR1)
    faults.tell()


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _limits() -> list[tuple[int, int]]:
    return [resource.getrlimit(which) for _, which in _LIMITS]


def _standard_streams() -> list[tuple[int, int] | None]:
    found: list[tuple[int, int] | None] = []
    for number in range(3):
        try:
            status = os.fstat(number)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _set_gc(enabled: bool) -> None:
    (gc.enable if enabled else gc.disable)()


def _set_argv(argv: list[str]) -> None:
    sys.argv[:] = argv


# What it is called, how it is read, and how it is put back; None: it is not.
_VALUES: Final[tuple[tuple[str, Callable[[], Any], Callable[[Any], object] | None], ...]] = (
    (
        "locale",
        lambda: _locale.setlocale(_locale.LC_ALL, None),
        lambda to: _locale.setlocale(_locale.LC_ALL, to),
    ),
    ("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    ("sys.argv", lambda: list(sys.argv), _set_argv),
    ("garbage collection:", gc.isenabled, _set_gc),
    ("nice", lambda: os.getpriority(os.PRIO_PROCESS, 0), lambda to: os.setpriority(os.PRIO_PROCESS, 0, to)),
    (
        "scheduling policy",
        lambda: os.sched_getscheduler(0),
        lambda to: os.sched_setscheduler(0, to, os.sched_param(0)),
    ),
    ("CPU affinity", lambda: os.sched_getaffinity(0), lambda to: os.sched_setaffinity(0, to)),
    ("sub-reaper", linux.child_subreaper, None),
    ("parent death signal", linux.parent_death_signal, None),
    ("dumpable", linux.dumpable, None),
)
