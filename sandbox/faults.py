"""Where a runner's faulthandler writes: a pipe to the master that is nobody else's.

On descriptor 2 a crash's text would end up wherever the processor has sent its stderr. Here the master reads
it whatever became of that: the stacks of all threads, when the process dies of a fault in C, and when the
master asks before a kill (SIGUSR1; a handler in C writes them, so they come out of a loop in C too).

The pipe's end does not block: nobody waits for a reader inside a signal handler.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import resource
import signal

_where = [2]  # of this process
LEAST_FD = 200  # above what programs close and reuse by the hundred when they make themselves daemons


def install(fd: int) -> None:
    """Have faulthandler write to `fd`, which is closed here: a copy of it is kept at a high number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        high = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(3, min(LEAST_FD, soft - 8)))
    except OSError:
        tell()  # no room for one more: it writes to stderr
        return
    os.close(fd)
    os.set_blocking(high, False)
    _where[0] = high
    tell()


def tell() -> None:
    """Have faulthandler write there, or to stderr when nothing was installed."""
    faulthandler.enable(file=_where[0], all_threads=True)
    faulthandler.register(signal.SIGUSR1, file=_where[0], all_threads=True, chain=False)
