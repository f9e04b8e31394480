"""What the module and its jobs see of the process they run in."""

import ctypes
import os
import resource
import signal

from sandbox import linux
from sandbox.processors import processor

OPENED_AT_IMPORT = open(__file__, "rb")  # noqa: SIM115 (stays open, as a model file would)


def see():
    with open("/proc/self/oom_score_adj") as file:
        oom_score_adj = int(file.read())
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed them
    return {
        "pid": os.getpid(),
        "ppid": os.getppid(),
        "sid": os.getsid(0),
        "dumpable": linux.dumpable(),
        "no_new_privs": linux.no_new_privs(),
        "subreaper": linux.child_subreaper(),
        "parent_death": linux.parent_death_signal(),
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "oom_score_adj": oom_score_adj,
        "scheduler": os.sched_getscheduler(0),
        "blocked": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "sigint": str(signal.getsignal(signal.SIGINT)),
        "sigterm": str(signal.getsignal(signal.SIGTERM)),
        "sigpipe": str(signal.getsignal(signal.SIGPIPE)),
        "fds": fds,
        "environment": sorted(os.environ),
        "title": title(),
    }


def title():
    with open("/proc/self/cmdline", "rb") as file:
        return file.read().rstrip(b"\0 ").replace(b"\0", b" ").decode()


AT_IMPORT = see()
# What a library may do to the process it is imported in.
signal.signal(signal.SIGTERM, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})


@processor("look", name="import")
def at_import(job):
    return AT_IMPORT


@processor("look", name="job")
def in_job(job):
    return see()


@processor("look", name="read_own_file")
def read_own_file(job):
    OPENED_AT_IMPORT.seek(0)
    return len(OPENED_AT_IMPORT.read())


@processor("look", name="c_print")
def c_print(job):
    ctypes.CDLL(None).printf(b"from C\n")
