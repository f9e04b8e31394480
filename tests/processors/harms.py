"""Jobs that would harm their machine: run in the guest alone (tests/guest). `started` is logged before."""

import os
import signal
import sys
import time

from oxherd import processor

MEGABYTE = 1 << 20


@processor("work", name="echo")
def echo(job):
    return job.data


@processor("work", name="where")
def where(job):
    """The group it is in, and what the kernel keeps there."""
    with open("/proc/self/cgroup") as file:
        group = file.read().strip().partition("::")[2]
    found = {}
    for name in ("memory.max", "memory.oom.group", "pids.max", "cpu.max", "cpu.weight", "cpu.stat"):
        with open(f"/sys/fs/cgroup{group}/{name}") as file:
            found[name] = file.read().strip()
    return {"group": group, "pid": os.getpid(), **found}


@processor("work", name="throttled", cpus=0.2, cpu_weight=50)
def throttled(job):
    """Computes for 0.2 s of CPU time, which is ten times its quota in a tenth of a second."""
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    return where(job)


@processor("work", name="limited_where", memory="64M", processes=16)
def limited_where(job):
    return where(job)


def eat(megabytes=None):
    held = []
    while megabytes is None or len(held) < megabytes:
        held.append(bytearray(MEGABYTE))
    return held


@processor("work", name="eater", memory="64M")
def eater(job):
    eat(job.data["megabytes"])
    return "eaten"


@processor("work", name="hog", memory="64M")
def hog(job):
    job.log("started")
    eat()


@processor("work", name="unlimited_hog")
def unlimited_hog(job):
    job.log("started")
    eat()


@processor("work", name="family_of_hogs", memory="64M")
def family_of_hogs(job):
    """None of them is over the limit, all together are; the parent only waits."""
    job.log("started")
    for _ in range(4):
        if os.fork() == 0:
            try:
                held = eat(30)
                signal.pause()
            finally:
                os._exit(len(held))
    signal.pause()


@processor("work", name="deep", memory="64M")
def deep(job):
    """In Python 3.11 a recursion takes memory, not stack."""
    job.log("started")
    sys.setrecursionlimit(10**9)

    def down(level):
        return down(level + 1)

    down(0)


@processor("work", name="bomb", processes=16, timeout="20s")
def bomb(job):
    """Everybody forks, in a session of its own, without end."""
    job.log("started")
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            time.sleep(0.005)


@processor("work", name="flees", timeout="2s")
def flees(job):
    """Every 5 ms its work is in another process, whose parent is gone."""
    job.log("started")
    if os.fork() == 0:
        try:
            os.setsid()
            while os.fork() == 0:
                time.sleep(0.005)
        finally:
            os._exit(0)
    signal.pause()


@processor("work", name="daemons", timeout="2s")
def daemons(job):
    """Deaf to every signal that can be refused, in sessions of their own, orphans."""
    job.log("started")
    for _ in range(5):
        if os.fork() == 0:
            try:
                os.setsid()
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                    signal.signal(number, signal.SIG_IGN)
                if os.fork() == 0:
                    signal.pause()
            finally:
                os._exit(0)
    signal.pause()


FILLER = "/tmp/filler"


@processor("work", name="fills")
def fills(job):
    """Writes until there is no room, and leaves it so."""
    written = 0
    try:
        with open(FILLER, "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(MEGABYTE))
    finally:
        job.update_data({"written": written})


@processor("work", name="fills_by_limit", file_size="4M")
def fills_by_limit(job):
    fills(job)


@processor("work", name="tidies")
def tidies(job):
    os.unlink(FILLER)
