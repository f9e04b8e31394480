"""I5: the template has one kernel thread when it forks, or it refuses and says which library started the
other.

fork() copies every lock but only the calling thread: a lock that another thread held stays locked in the
runner for ever. Kernel tasks are counted, not Python threads: numeric libraries start their own unseen.

Some libraries know that: OpenBLAS, and with it NumPy and SciPy as they come, ends its threads when the
process is about to fork (pthread_atfork) and starts them anew when they are next needed, in whichever
process. So who has threads after the import is made to fork once, a child that does nothing, and is counted
again.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

CHILD_ENDS_S = 2.0  # its handlers of forks may hang, since it was forked beside threads
ENDING_S = 0.2  # a thread that was joined may still be a kernel task for a moment

# Part of a loaded library's file name, what it is called, and how it is kept to one thread at import.
KNOWN_STARTERS = (
    ("openblas", "OpenBLAS (numpy, scipy)", "OPENBLAS_NUM_THREADS=1"),
    ("libmkl", "MKL (numpy, torch)", "MKL_NUM_THREADS=1"),
    ("libgomp", "OpenMP", "OMP_NUM_THREADS=1"),
    ("libiomp", "OpenMP", "OMP_NUM_THREADS=1"),
    ("libomp", "OpenMP", "OMP_NUM_THREADS=1"),
    ("libblis", "BLIS", "BLIS_NUM_THREADS=1"),
    ("libtorch", "PyTorch", "OMP_NUM_THREADS=1"),
    ("tensorflow", "TensorFlow", "TF_NUM_INTEROP_THREADS=1"),
    ("libtbb", "TBB", ""),
    ("libarrow", "Arrow (pyarrow)", "OMP_NUM_THREADS=1 ARROW_IO_THREADS=1"),
    ("grpc", "gRPC", ""),
    ("polars", "Polars", "POLARS_MAX_THREADS=1"),
)


class TemplateHasThreads(Exception):
    """The message names the threads, the likely starter and the way out."""


def let_go() -> None:
    """Have libraries end the threads that they do not want to be forked beside."""
    if len(_tasks()) > 1:
        with suppress(OSError):  # no room for another process; or who has ended is reaped by others
            _fork_for_nothing()


def _fork_for_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    try:
        if not select.select([pidfd], [], [], CHILD_ENDS_S)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(pidfd)
    os.waitpid(child, 0)


def check() -> None:
    """Raise `TemplateHasThreads` when this process has more than one kernel thread."""
    if len(_tasks()) == 1:
        return
    give_up_at = time.monotonic() + ENDING_S
    while time.monotonic() < give_up_at:
        time.sleep(0.001)
        if len(_tasks()) == 1:
            return
    raise TemplateHasThreads(_sentence())


def _tasks() -> list[str]:
    return os.listdir("/proc/self/task")


def _sentence() -> str:
    others = [task for task in _tasks() if int(task) != os.getpid()]
    names = sorted(_names_of(others))
    count = "1 thread" if len(others) == 1 else f"{len(others)} threads"
    text = f"importing the targets left {count} running ({', '.join(names)}); forking beside them is not safe"
    starters = _starters()
    if starters:
        called = ", ".join(sorted({name for name, _ in starters}))
        variables = " ".join(sorted({hint for _, hint in starters if hint}))
        text += f"; loaded and known to start some: {called}"
        if variables:
            text += f"; set {variables} in the environment, or"
            return f"{text} start threads in the processor, not when the module is imported"
    return f"{text}; start threads in the processor, not when the module is imported"


def _names_of(tasks: list[str]) -> set[str]:
    """Python's names where Python started them; the kernel's for the others."""
    threading = sys.modules.get("threading")  # whoever started one in Python has imported it
    known = {} if threading is None else {str(each.native_id): each.name for each in threading.enumerate()}
    return {known.get(task) or _name_of(task) for task in tasks}


def _name_of(task: str) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        with open("/proc/self/comm", encoding="utf-8", errors="replace") as file:
            # One that nobody has named has the name of who started it: the process's title, cut.
            return "unnamed" if name == file.read().strip() else name or task
    except OSError:
        return task  # it has just ended


def _starters() -> list[tuple[str, str]]:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            files = {os.path.basename(line.rstrip().rpartition(" ")[2]) for line in file if "/" in line}
    except OSError:
        return []
    return [
        (name, hint) for part, name, hint in KNOWN_STARTERS if any(part in each.lower() for each in files)
    ]
