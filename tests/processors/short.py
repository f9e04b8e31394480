"""Jobs of no length, with one among them that is none: each writes down that it has begun."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

from oxherd import processor


@processor("short")
def run(job):
    number, what = job.data
    fd = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d %d\n" % (number, time.monotonic_ns()))
    os.close(fd)
    if what == "nap":
        time.sleep(0.02)
    elif what == "hold":  # the whole interpreter, in C
        ctypes.PyDLL(None).sleep(3)
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise ValueError("no")
    elif what == "exit":
        sys.exit(3)
    elif what == "leave a child":
        subprocess.Popen(["sleep", "60"])
    elif what == "leave a thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif what == "print":
        print(f"of {number}")
        print(f"half of {number}", end="", file=sys.stderr)
    return number
