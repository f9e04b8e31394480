"""What honest processors do, to be done under every profile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import resource
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from sandbox.processors import processor

HERE = Path(__file__).parent


def double(number):
    return 2 * number


@processor("work", name="open_relative")
def open_relative(job):
    """Where a job is, and what is there before it has written."""
    before = sorted(os.listdir())
    Path("a-file").write_text("mine")
    Path("a", "deep", "tree").mkdir(parents=True)
    return {"cwd": os.getcwd(), "directory": job.directory, "before": before}


@processor("work", name="write_into_directory")
def write_into_directory(job):
    before = sorted(os.listdir(job.directory))
    Path(job.directory, "a-file").write_text("mine")
    return {"directory": job.directory, "before": before, "cwd": os.getcwd()}


@processor("work", name="leave")
def leave(job):
    """Whatever makes a directory hard to remove. `data` is a file outside that must survive."""
    directory = Path(job.directory)
    (directory / "link").symlink_to(job.data)
    (directory / "to-a-directory").symlink_to(Path(job.data).parent)
    (directory / "loop").symlink_to(directory / "loop")
    closed = directory / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").write_text("x")
    (closed / "inner").chmod(0)
    closed.chmod(0)
    (directory / ".oxherd-0").mkdir()
    os.mkfifo(directory / "fifo")
    fd = os.open(directory, os.O_RDONLY)
    for _ in range(300):  # far deeper than a path may be long
        os.mkdir("n" * 200, dir_fd=fd)
        inner = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    directory.chmod(0)
    return str(directory)


@processor("work", name="die")
def die(job):
    Path(job.directory, "left").write_text("by a runner that was killed")
    job.log("written")
    os.abort()


@processor("work", name="databases_and_certificates")
def databases_and_certificates(job):
    with sqlite3.connect("job.db" if os.access(".", os.W_OK) else ":memory:") as database:
        database.execute("CREATE TABLE t (n INTEGER)")
        database.execute("INSERT INTO t VALUES (17)")
        found = database.execute("SELECT n FROM t").fetchone()[0]
    database.close()
    return [found, ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED]


@processor("work", name="programs")
def programs(job):
    subprocess.run(["/usr/bin/true"], check=True)
    said = subprocess.run(
        [sys.executable, "-c", "import json; print(6 * 7)"], capture_output=True, check=True
    )
    return [int(said.stdout), subprocess.run(["ls", "/usr"], capture_output=True).returncode]


@processor("work", name="pools")
def pools(job):
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        by_threads = list(threads.map(double, range(4)))
    answers = [by_threads]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            answers.append(pool.map(double, range(4)))
    return answers


@processor("work", name="temporary")
def temporary(job):
    with tempfile.NamedTemporaryFile() as file:
        return os.path.dirname(file.name)


@processor("work", name="on_a_loop")
async def on_a_loop(job):
    await asyncio.sleep(0)
    process = await asyncio.create_subprocess_exec("/usr/bin/true")
    left, right = socket.socketpair()
    left.send(b"x")
    got = right.recv(1)
    left.close()
    right.close()
    return [await process.wait(), await asyncio.to_thread(double, 4), got.decode()]


@processor("work", name="import_late")
def import_late(job):
    import colorsys  # noqa: F401 (nothing has imported it before)

    import look  # noqa: F401 (beside this module)

    lock = multiprocessing.Lock()
    with lock:
        return threading.active_count()


@processor("work", name="read_beside")
def read_beside(job):
    """What lies beside the module, by name: readable or not."""

    def what(name: str) -> str:
        try:
            (HERE / name).read_text()
        except OSError as error:
            return type(error).__name__
        return "read"

    return {name: what(name) for name in job.data}


@processor("work", name="limits")
def limits(job):
    names = ("NOFILE", "FSIZE", "CPU", "DATA", "NPROC")
    return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in names}


@processor("work", name="fill")
def fill(job):
    with open(Path(job.directory, "big"), "wb") as file:
        for _ in range(1000):
            file.write(bytes(4096))
            file.flush()


@processor("work", name="many_files")
def many_files(job):
    opened = []
    try:
        for _ in range(10_000):
            opened.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for fd in opened:
            os.close(fd)


@processor("work", name="hog")
def hog(job):
    held = []
    for _ in range(10_000):
        held.append(bytearray(1 << 20))


@processor("work", name="burn")
def burn(job):
    while True:
        pass


@processor("work", name="lower_hard")
def lower_hard(job):
    os.umask(0)  # makes the runner look closely
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, soft))


@processor("work", name="who")
def who(job):
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    kinds = ("user", "mnt", "ipc", "net", "pid")
    return {
        "uid": os.getresuid(),
        "gid": os.getresgid(),
        "groups": os.getgroups(),
        "pid": os.getpid(),
        "status": {name: status[name] for name in ("Seccomp", "NoNewPrivs", "CapEff", "CapPrm")},
        "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds},
    }


@processor("work", name="of_the_whole_host")
def of_the_whole_host(job):
    """What becomes of asking for shared memory, semaphores and queues that are not there: names of errnos."""
    import ctypes
    import errno

    libc = ctypes.CDLL(None, use_errno=True)
    calls = {
        "shmget": (0x4F78_6865, 1, 0),
        "semget": (0x4F78_6865, 1, 0),
        "msgget": (0x4F78_6865, 0),
        "mq_open": (b"/oxherd-is-not-there", 0),
    }
    became = {}
    for name, arguments in calls.items():
        ctypes.set_errno(0)
        getattr(libc, name)(*arguments)
        became[name] = errno.errorcode.get(ctypes.get_errno(), "done")
    return became
