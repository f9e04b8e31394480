"""What ends otherwise than by its own word, one way each, told by the job's data."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

from oxherd import Job, processor


@processor("work", timeout="600ms", max_crashes=2)
def work(job: Job):
    data = job.data or {}
    return WAYS[data["do"]](job, data)


@processor("patient", max_crashes=3)
def patient(job: Job):
    data = job.data or {}
    return WAYS[data["do"]](job, data)


@processor("greedy", cpu="300ms")
def greedy(job: Job):
    spin(job, {})


@processor("silent", silence="300ms")
def silent(job: Job):
    job.progress(7)
    sleep(job, {})


def segfault(job, data):
    print("about to crash", flush=True)
    job.progress(40)
    ctypes.string_at(0)


def segfault_without_stderr(job, data):
    """Its stderr goes elsewhere, as that of many programs does."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    ctypes.string_at(0)


def die(job, data):
    os.kill(os.getpid(), getattr(signal, data["signal"]))
    time.sleep(60)


def leave(job, data):
    os._exit(data["status"])


def sleep(job, data):
    print("\n".join(f"line {n}" for n in range(3000)))
    time.sleep(60)


def spin(job, data):
    helper = threading.Thread(target=wait_in_a_thread, daemon=True)
    helper.start()
    while True:
        pass


def wait_in_a_thread():
    time.sleep(60)


def stop_itself(job, data):
    os.kill(os.getpid(), signal.SIGSTOP)


def take_the_handler(job, data):
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    time.sleep(60)


def close_everything(job, data):
    for fd in range(3, 4096):
        if not data.get("link") or not _is_socket(fd):
            try:
                os.close(fd)
            except OSError:
                continue
    time.sleep(60)


def _is_socket(fd):
    try:
        return os.path.realpath(f"/proc/self/fd/{fd}").split("/")[-1].startswith("socket:")
    except OSError:
        return False


def garbage(job, data):
    for fd in range(3, 64):
        if _is_socket(fd):
            os.write(fd, b"\xff" * 64)
    wait_after_garbage()


def wait_after_garbage():
    time.sleep(60)


def flood_the_faults(job, data):
    """Writes where only faulthandler writes."""
    for fd in range(200, 216):
        try:
            for _ in range(100):
                os.write(fd, b"nonsense \x01\xff\n" * 1000)
        except OSError:
            continue
    time.sleep(60)


def unserialisable(job, data):
    print("one line")
    return {"a": object()}


def burn(job, data):
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    os._exit(7)


def raises(job, data):
    raise ValueError("its own word")


def crash_then_raise(job, data):
    """One crash, then failures of its own."""
    if job.attempt == 1:
        os._exit(1)
    raise ValueError("its own word")


def crash_below(job, data):
    """A process that it forked crashes; it does not."""
    child = os.fork()
    if not child:
        try:
            segfault_without_stderr(job, data)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def nothing(job, data):
    return sys.version


WAYS = {name: each for name, each in list(globals().items()) if callable(each) and not isinstance(each, type)}
