"""What this process uses, told by itself: of a job that ran for a while, and of itself when it is asked.

Decides how it is measured and for which jobs; where nothing is known it says None. A master that is not root
may not read most of this of a runner that is not dumpable, and CPU time in two parts costs a reading at both
ends of a job. So the runner reads it, and only where that is nothing beside the job: a reading between jobs
at most every 10 ms, one at the end of jobs that ran longer than 20 ms. A job of no length pays two looks at
the clock.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from time import monotonic
from typing import Any, Final

READ_EVERY_S: Final = 0.010
WORTH_S: Final = 0.020
BLOCK_BYTES: Final = 512  # of ru_inblock and ru_oublock
LONGEST_FILE: Final = 4096


class JobMeter:
    """What the job at work uses. One a runner that serves one job at a time.

    CPU time and io are of this process and of its children that have ended. The peak is of this process: how
    far its largest resident set has grown since it was born, if this job made it grow. It may include 10 ms
    of jobs before.
    """

    __slots__ = ("_began_at", "_born_bytes", "_children", "_own", "_read_at")

    def __init__(self) -> None:
        self._read()
        self._born_bytes = self._own.ru_maxrss * 1024
        self._began_at = self._read_at

    def _read(self) -> None:
        self._own, self._children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
        self._read_at = monotonic()

    def begin(self) -> None:
        self._began_at = monotonic()

    def rest(self) -> None:
        """A job is over and its outcome is sent: read for the next one, which is then not kept waiting."""
        if monotonic() - self._read_at > READ_EVERY_S:
            self._read()

    def end(self) -> dict[str, int | None] | None:
        """What the job has used; None for one so short that it is not worth telling."""
        if monotonic() - self._began_at < WORTH_S:
            return None
        own, children = self._own, self._children
        self._read()
        pairs = (own, self._own), (children, self._children)
        peak_kb = self._own.ru_maxrss
        return {
            "user_ms": round(1000 * sum(after.ru_utime - before.ru_utime for before, after in pairs)),
            "system_ms": round(1000 * sum(after.ru_stime - before.ru_stime for before, after in pairs)),
            "read_bytes": BLOCK_BYTES * sum(after.ru_inblock - before.ru_inblock for before, after in pairs),
            "written_bytes": BLOCK_BYTES
            * sum(after.ru_oublock - before.ru_oublock for before, after in pairs),
            "peak_bytes": peak_kb * 1024 - self._born_bytes if peak_kb > own.ru_maxrss else None,
        }


def own_figures() -> dict[str, int | None]:
    """The body of a TOLD frame."""
    usage: resource.struct_rusage = getrusage(RUSAGE_SELF)
    return {
        "pss_bytes": _unless_refused(_pss_bytes),
        "open_files": _unless_refused(lambda: len(os.listdir("/proc/self/fd")) - 1),  # that of the listing
        "read_bytes": usage.ru_inblock * BLOCK_BYTES,
        "written_bytes": usage.ru_oublock * BLOCK_BYTES,
    }


def _unless_refused(read: Callable[[], Any]) -> Any:
    with suppress(OSError, ValueError):
        return read()
    return None


def _pss_bytes() -> int | None:
    with open("/proc/self/smaps_rollup", "rb") as file:
        found = file.read(LONGEST_FILE)
    for line in found.splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None
