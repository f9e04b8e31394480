"""What jobs leave behind in their process. One thing each, told by the job's name."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import locale
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time

from oxherd import processor

kept = []  # what stays alive because the module does


@processor("work", name="nothing")
def nothing(job):
    return os.getpid()


@processor("work", name="look")
def look(job):
    """What the next job finds."""
    return {
        "cwd": os.getcwd(),
        "umask": _umask(),
        "environ": sorted(os.environ),
        "term": signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
        "mask": [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "stdout": type(sys.stdout).__name__,
        "locale": locale.setlocale(locale.LC_ALL),
        "timer": signal.getitimer(signal.ITIMER_VIRTUAL)[0],
        "recursion": sys.getrecursionlimit(),
        "collects": gc.isenabled(),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    }


def _umask():
    found = os.umask(0)
    os.umask(found)
    return found


# --- processes ---


@processor("work", name="sleeper")
def sleeper(job):
    kept.append(subprocess.Popen(["sleep", "300"]))
    return kept[-1].pid


@processor("work", name="daemon")
def daemon(job):
    """Forked twice, in a session of its own: nobody's child any more, but for the sub-reaper."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                os.write(write, b"%d" % os.getpid())
                time.sleep(300)
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with open(read) as file:
        return int(os.read(file.fileno(), 32))


@processor("work", name="zombie")
def zombie(job):
    """Ended, and never waited for."""
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    kept.append(child)
    return child.pid


@processor("work", name="told to end")
def told_to_end(job):
    child = subprocess.Popen(["sleep", "300"])
    child.terminate()
    return child.pid


# --- threads ---


@processor("work", name="thread")
def thread(job):
    threading.Thread(target=time.sleep, args=(300,), name="Straggler", daemon=True).start()


@processor("work", name="unseen thread")
def unseen_thread(job):
    """One that has not run yet would be taken for a native one until the next close look."""
    import _thread

    runs = _thread.allocate_lock()
    runs.acquire()

    def stay():
        runs.release()
        time.sleep(300)

    _thread.start_new_thread(stay, ())
    runs.acquire()


@processor("work", name="native thread")
def native_thread(job):
    """As numeric libraries do: a thread in C, that never runs Python."""
    libc = ctypes.CDLL(None)
    ident = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(ident), None, ctypes.cast(libc.pause, ctypes.c_void_p), None)


@processor("work", name="joined thread")
def joined_thread(job):
    one = threading.Thread(target=time.sleep, args=(0.001,))
    one.start()
    one.join()


@processor("work", name="to_thread")
async def to_thread(job):
    return await asyncio.to_thread(int, "3")


@processor("work", name="thread of a coroutine")
async def thread_of_a_coroutine(job):
    threading.Thread(target=time.sleep, args=(300,), name="Straggler", daemon=True).start()


# --- descriptors ---


@processor("work", name="files")
def files(job):
    kept.extend(os.open("/dev/zero", os.O_RDONLY) for _ in range(job.data))


@processor("work", name="all descriptors")
def all_descriptors(job):
    while True:
        kept.append(os.open("/dev/zero", os.O_RDONLY))


@processor("work", name="another stdout")
def another_stdout(job):
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    time.sleep(job.data)


# --- the process itself ---


@processor("work", name="many things")
def many_things(job):
    os.chdir("/usr")
    os.umask(0o077)
    os.environ["LEFT_BY_A_JOB"] = "secret"
    os.environ.pop("PATH")
    sys.stdout = io.StringIO()


@processor("work", name="directory gone")
def directory_gone(job):
    with tempfile.TemporaryDirectory() as gone:
        os.chdir(gone)


@processor("work", name="rare things")
def rare_things(job):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    signal.setitimer(signal.ITIMER_VIRTUAL, 300)
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")
    sys.setrecursionlimit(5000)
    gc.disable()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


@processor("work", name="hard limit")
def hard_limit(job):
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft // 2, soft // 2))
    libc = ctypes.CDLL(None)
    libc.prctl(36, ctypes.c_ulong(0), *(ctypes.c_ulong(0),) * 3)  # and no sub-reaper any more


@processor("work", name="path")
def path(job):
    sys.path.insert(0, "/nowhere")
