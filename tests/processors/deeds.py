"""What the master's own tests run. Each does one thing, told by the job's data."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time

from oxherd import Delayed, Job, RateLimited, RetryAfter, TimeLimit, Unrecoverable, processor


@processor("work")
def work(job: Job):
    """`data["do"]` names one of the functions below; None returns at once."""
    data = job.data or {}
    return DEEDS[data.get("do", "nothing")](job, data)


@processor("slow", soft_timeout="300ms")
def slow(job: Job):
    try:
        time.sleep(30)
    except TimeLimit:
        job.log("cleaned up")
        raise


def nothing(job, data):
    return None


def echo(job, data):
    return data


def burn(job, data):
    end = time.monotonic() + data["s"]
    while time.monotonic() < end:
        for _ in range(1000):
            pass
    return "burnt"


def sleep(job, data):
    time.sleep(data.get("s", 60))
    return "slept"


def fail(job, data):
    raise ValueError(data.get("why", "boom"))


def fail_once(job, data):
    if job.attempt == 1:
        raise ValueError("the first time")
    return "the second time"


def come_back(job, data):
    if job.attempt == 1:
        raise RetryAfter(data["ms"], "busy")
    return "welcome"


def give_up(job, data):
    raise Unrecoverable("there is no point")


def later(job, data):
    if not os.path.exists(data["mark"]):
        open(data["mark"], "w").close()
        raise Delayed(data.get("ms", 50))
    return "later"


def limited(job, data):
    if not os.path.exists(data["mark"]):
        open(data["mark"], "w").close()
        raise RateLimited(data.get("ms", 50))
    return "after the pause"


def die(job, data):
    os.kill(os.getpid(), getattr(signal, data["signal"]))
    time.sleep(60)


def crash_in_c(job, data):
    ctypes.string_at(0)


def leave(job, data):
    os._exit(data["status"])


def hang(job, data):
    while True:
        pass


def litter(job, data):
    """Leaves a daemon behind, then dies."""
    code = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(300)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    job.progress(int(child.stdout.readline()))
    if data.get("hang"):
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def mark_and_wait(job, data):
    """Says that it runs, and ends when it is told to."""
    open(data["mark"], "w").close()
    while not os.path.exists(data["go"]):
        time.sleep(0.005)
    return "gone"


def report(job, data):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    for step in range(1, data.get("steps", 3) + 1):
        job.progress(step)
        job.log(f"step {step}")
    return "reported"


def rewrite(job, data):
    job.update_data({"rewritten": True})
    return "rewritten"


def breed(job, data):
    """Adds a job through the master, and says what it is told when it adds nonsense."""
    child = job.add("work", "any", {"do": "nothing"}, priority=3)
    try:
        job.add("no:queue", "any", {})
    except Exception as error:
        return {"child": child, "refused": str(error)}


def ask_children(job, data):
    return job.children_values()


def look_around(job, data):
    """What a job finds in its own process. Not being root it cannot read /proc/self: it is not dumpable."""
    try:
        with open("/proc/self/environ") as file:
            inherited = file.read()
    except PermissionError:
        inherited = "unreadable"
    return {
        "environ": f"{inherited} {os.environ}",
        "kept": os.environ.get("KEPT"),
        "sockets": [fd for fd in range(256) if _is_socket(fd)],
        "pid": os.getpid(),
        "ppid": os.getppid(),
    }


def _is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


def not_json(job, data):
    return {"a": object()}


def too_large(job, data):
    return "x" * (17 * 1024 * 1024)


def garbage(job, data):
    """Writes nonsense on every socket it finds: only the link to the master is one."""
    for fd in range(3, 64):
        try:
            os.write(fd, b"\xff" * 64)
        except OSError:
            continue
    time.sleep(60)


DEEDS = {
    name: each for name, each in list(globals().items()) if callable(each) and not isinstance(each, type)
}
