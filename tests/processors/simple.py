"""Small processors of one queue, `work`, told apart by name."""

import os
import signal
import sys
import time

from sandbox.errors import Delayed, RateLimited, TimeLimit, Unrecoverable, WaitingChildren
from sandbox.processors import processor

attempts_seen = 0


@processor("work", name="echo")
def echo(job):
    return job.data


@processor("work", name="facts")
def facts(job):
    return {
        "id": job.id,
        "name": job.name,
        "queue": job.queue,
        "attempt": job.attempt,
        "attempts": job.attempts,
        "timestamp": job.timestamp,
        "priority": job.priority,
        "parent": job.parent,
    }


@processor("work", name="raise")
def raise_it(job):
    def deeper():
        raise ValueError(job.data)

    deeper()


@processor("work", name="raise_class")
def raise_class(job):
    kinds = {
        "Unrecoverable": lambda: Unrecoverable("not again"),
        "Delayed": lambda: Delayed(1500),
        "RateLimited": lambda: RateLimited(2500),
        "WaitingChildren": WaitingChildren,
        "SystemExit": lambda: SystemExit(3),
        "KeyboardInterrupt": KeyboardInterrupt,
        "RecursionError": RecursionError,
        "MemoryError": MemoryError,
        "Empty": ValueError,
        "Own": lambda: type("Own", (BaseException,), {})("words"),
        "Mute": lambda: type("Mute", (Exception,), {"__str__": lambda self: 1 / 0})(),
    }
    raise kinds[job.data]()


@processor("work", name="recurse")
def recurse(job):
    return recurse(job)


@processor("work", name="return")
def return_it(job):
    values = {
        "set": {1, 2},
        "nested": {"a": [1, {"b": object()}]},
        "nan": {"x": [float("nan")]},
        "bytes": b"raw",
        "key": {(1, 2): 3},
        "surrogate": "\ud800",
        "none": None,
        "large": "x" * 5000,
    }
    circle = []
    circle.append({"back": circle})
    values["circle"] = circle
    return values[job.data]


@processor("work", name="progress")
def progress(job):
    for value in job.data:
        job.progress(value)
    return len(job.data)


@processor("work", name="calls")
def calls(job):
    job.log("one row")
    job.update_data({"step": 2})
    job.progress(50)
    values = job.children_values()
    added = job.add("other", "child", {"n": 1}, delay_ms=5)
    return {"values": values, "added": added, "data": job.data}


@processor("work", name="until_cancelled")
def until_cancelled(job):
    job.log("waiting")
    while not job.cancelled:
        time.sleep(0.001)
    return "cancelled"


@processor("work", name="spin")
def spin(job):
    while True:
        pass


@processor("work", name="spin_stubborn")
def spin_stubborn(job):
    try:
        while True:
            pass
    except TimeLimit:
        return "cleaned up"


@processor("work", name="sleep")
def sleep(job):
    time.sleep(job.data)
    return "slept"


@processor("work", name="print")
def print_it(job):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(1, b"raw bytes\n")
    print("no newline", end="")
    return


@processor("work", name="pid")
def pid(job):
    return os.getpid()


@processor("work", name="leave_fork_behind")
def leave_fork_behind(job):
    """A fork whose child comes back: two processes with one link."""
    child = os.fork()
    if child == 0:
        return "from the child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@processor("work", name="fork_and_exit")
def fork_and_exit(job):
    child = os.fork()
    if child == 0:
        sys.exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@processor("work", name="fork_and_speak")
def fork_and_speak(job):
    child = os.fork()
    if child == 0:
        try:
            job.log("from the child")
        except RuntimeError:
            os._exit(6)
        finally:
            os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@processor("work", name="exit_now")
def exit_now(job):
    os._exit(0)


@processor("work", name="progress_then_wait")
def progress_then_wait(job):
    job.progress(job.data)
    return until_cancelled(job)


@processor("work", name="set_alarm")
def set_alarm(job):
    signal.signal(signal.SIGALRM, lambda *_: os._exit(99))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


@processor("work", name="large_progress")
def large_progress(job):
    job.progress("x" * job.data)
    while True:
        pass
