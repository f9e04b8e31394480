"""Thirty-four ways to behave badly, each one tiny: what a sandbox is for.

Each is a processor of its own, so that it has the limits that contain it. Those under "harmful" are only ever
run by a user of their own with limits already in force (tests/ordinary_user.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from oxherd import processor

kept = []  # what outlives its job because the module does

HEADER = struct.Struct("!BIII")  # of a frame: kind, attempt, length, note
PROGRESS = 17
COMPLETED = 21


@processor("work", name="nothing")
def nothing(job):
    return os.getpid()


@processor("work", name="sibling")
def sibling(job):
    """At work beside the one that behaves badly; done when it is told."""
    job.progress(os.getpid())
    while not os.path.exists(job.data):
        time.sleep(0.005)
    return "done"


# --- harmful: 1, 2, 4, 14, 23 ---


@processor("work", name="fork bomb", processes=20, timeout="20s")
def fork_bomb(job):
    while True:
        try:
            if os.fork() == 0:
                try:
                    fork_bomb(None)
                finally:
                    os._exit(0)
        except BaseException:  # no room for one more; go on trying
            time.sleep(0.01)


@processor("work", name="memory hog", memory="48M", timeout="30s")
def memory_hog(job):
    while True:
        kept.append(b"x" * 1024 * 1024)
        time.sleep(0.005)


@processor("work", name="disk fill", file_size="1M")
def disk_fill(job):
    with open(job.data, "wb") as file:
        while True:
            file.write(bytes(65_536))


@processor("work", name="runner", timeout="1s")
def runner(job):
    """Forks every 5 ms, and each leaves its session and ends its parent: never the same number twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job.progress(1)
    if os.fork() == 0:
        try:
            while True:
                os.setsid()
                time.sleep(0.005)
                if os.fork():
                    os._exit(0)
        finally:
            os._exit(0)
    time.sleep(60)


@processor("work", name="recursion", timeout="20s")
def recursion(job):
    """Without Python's limit it is the stack or the memory that ends it."""
    if job.data:
        sys.setrecursionlimit(job.data)

    def deeper(level):
        return deeper(level + 1)

    return deeper(0)


# --- what it uses up: 3, 17, 25, 30 ---


@processor("work", name="descriptors", open_files=256)
def descriptors(job):
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))


@processor("work", name="output")
def output(job):
    """Many lines, one endless one, and bytes that are no text."""
    for _ in range(20_000):
        print("a line like any other")
    os.write(1, b"x" * 1_000_000)
    os.write(1, b"\xff\xfe\x00\x80\n" * 1000)
    return "said"


@processor("work", name="large result")
def large_result(job):
    return "x" * 100_000_000


@processor("work", name="no JSON")
def no_json(job):
    return {"a": object()}


@processor("work", name="progress")
def progress(job):
    for number in range(200_000):
        job.progress(number)
    return "told"


# --- what it may not see or touch: 5, 6, 7, 8, 33 ---


@processor("work", name="spy")
def spy(job):
    """What of the master it can read."""
    master = os.getppid()
    found = {}
    for name in ("environ", "mem", "maps"):
        try:
            with open(f"/proc/{master}/{name}", "rb") as file:
                found[name] = "read" if file.read(1) else "empty"
        except OSError as error:
            found[name] = type(error).__name__
    return found


@processor("work", name="own environment")
def own_environment(job):
    text = " ".join(f"{name}={value}" for name, value in os.environ.items())
    try:
        with open("/proc/self/environ", errors="replace") as file:
            text += file.read()
    except PermissionError:
        pass
    return text


@processor("work", name="kill")
def kill(job):
    os.kill(job.data, signal.SIGKILL)
    return "killed"


@processor("work", name="ptrace")
def ptrace(job):
    attach = 16
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(attach, job.data, None, None) == 0:
        return "attached"
    return os.strerror(ctypes.get_errno())


@processor("work", name="kill the template")
def kill_the_template(job):
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                title = file.read()
            with open(f"/proc/{name}/stat") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getppid() and title.startswith(b"oxherd: template"):
            os.kill(int(name), signal.SIGKILL)
            return int(name)
    return None


# --- what it says to the master: 9, 10, 11, 30, 32 ---


def link():
    """The one socket of this process."""
    for fd in range(3, 256):
        try:
            return socket.socket(fileno=os.dup(fd)), fd
        except OSError:
            continue
    raise LookupError("no socket")


@processor("work", name="garbage")
def garbage(job):
    link()[0].sendall(b"\xff" * 64)
    time.sleep(60)


@processor("work", name="closes the link")
def closes_the_link(job):
    ours, fd = link()
    ours.shutdown(socket.SHUT_RDWR)
    os.close(fd)
    while True:
        time.sleep(1)


@processor("work", name="half a frame", timeout="500ms")
def half_a_frame(job):
    link()[0].sendall(HEADER.pack(PROGRESS, 0, 1000, 0)[:5])
    time.sleep(60)


@processor("work", name="another's frame")
def anothers_frame(job):
    """Says that another job is done."""
    link()[0].sendall(HEADER.pack(COMPLETED, 12345, 4, 0) + b"null")
    time.sleep(60)


@processor("work", name="two of it")
def two_of_it(job):
    """The copy comes back into our loop and would answer for the same job."""
    pid = os.fork()
    if pid == 0:
        return "the copy"
    return ["the original", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])]


# --- when it does not end, or how: 12, 18, 20, 21, 22, 29, 31 ---


@processor("work", name="ignores signals", timeout="500ms")
def ignores_signals(job):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTSTP, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


@processor("work", name="sleeps in C", timeout="500ms")
def sleeps_in_c(job):
    while True:
        ctypes.CDLL(None).sleep(60)


@processor("work", name="holds the GIL", timeout="500ms")
def holds_the_gil(job):
    ctypes.PyDLL(None).sleep(60)


@processor("work", name="stops itself", timeout="500ms")
def stops_itself(job):
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(60)


@processor("work", name="segfault")
def segfault(job):
    ctypes.string_at(0)


class Own(BaseException):
    """Not an Exception."""


@processor("work", name="leaves")
def leaves(job):
    match job.data:
        case "sys.exit":
            sys.exit(3)
        case "SystemExit":
            raise SystemExit("a text")
        case "KeyboardInterrupt":
            raise KeyboardInterrupt
        case _:
            raise Own("of its own")


@processor("work", name="exits")
def exits(job):
    os._exit(job.data)


# --- what it leaves behind: 13, 26, 27, 28 ---


@processor("work", name="daemon")
def daemon(job):
    """In a session of its own, nobody's child, and with our output open."""
    if (pid := os.fork()) == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                time.sleep(300)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return "gone"


@processor("work", name="surroundings")
def surroundings(job):
    os.chdir("/")
    os.umask(0)
    os.environ["LEFT"] = "here"
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return "moved"


@processor("work", name="seen")
def seen(job):
    print("still heard")
    umask = os.umask(0)
    os.umask(umask)
    return [os.getcwd(), umask, os.environ.get("LEFT")]


@processor("work", name="thread")
def thread(job):
    threading.Thread(target=time.sleep, args=(300,), name="Straggler", daemon=True).start()
    return "started"


@processor("work", name="many descriptors")
def many_descriptors(job):
    kept.extend(os.open("/dev/null", os.O_RDONLY) for _ in range(100))
    return "opened"


@processor("work", name="subprocess left")
def subprocess_left(job):
    kept.append(subprocess.Popen(["sleep", "300"]))
    return "started"
