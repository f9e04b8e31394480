"""Jobs of a storm: most are of no length, a few do what may go wrong with what waits behind them.

Each writes down, outside of Redis, when it began and ended, and in which process.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

from oxherd import processor

_RUNS = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what, job):
    os.write(_RUNS, b"%s %s %d %.6f\n" % (what, job.id.encode(), os.getpid(), time.time()))


@processor("storm")
def run(job):
    note(b"began", job)
    do = job.data["do"]
    if do == "spin":
        until = time.perf_counter() + 0.001
        while time.perf_counter() < until:
            pass
    elif do.startswith("sleep"):
        time.sleep(int(do.removeprefix("sleep ")) / 1000)
    elif do == "hold":  # the whole interpreter, in C
        ctypes.PyDLL(None).usleep(400_000)
    elif do == "print":
        print(f"of {job.id}")
        print(f"half of {job.id}", end="", file=sys.stderr)
    elif do == "die":
        os._exit(9)
    elif do == "raise":
        raise ValueError("no")
    elif do == "leave":
        subprocess.Popen(["sleep", "60"])
    elif do == "leave a thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif do == "large":
        job.progress(1)
        note(b"ended", job)
        return "x" * 200_000
    note(b"ended", job)
    return None
