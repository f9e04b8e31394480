"""Who takes more than it may. Each takes little more than its limit and then waits: a test that finds no
limit kept must not harm the machine. RLIMIT_DATA stands above all of them besides.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time

from oxherd import processor

MB = 1024 * 1024
LONG_S = 30.0
CAP = 256 * MB

TAKE = f"""
import resource, time
resource.setrlimit(resource.RLIMIT_DATA, ({CAP}, {CAP}))
held = bytearray(b"x") * (%d * {MB})
print("took it", flush=True)
time.sleep({LONG_S})
"""


def capped() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (CAP, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def taken(mb: int) -> bytearray:
    return bytearray(b"x") * (min(mb, 150) * MB)


@processor("work", name="own", memory="60M")
def own(job):
    """In the runner itself."""
    capped()
    held = taken(job.data["mb"])
    time.sleep(job.data.get("s", LONG_S))
    return len(held) // MB


@processor("work", name="program", memory="60M")
def program(job):
    """In a program that the job has started."""
    subprocess.run([sys.executable, "-c", TAKE % job.data["mb"]], check=False)


@processor("work", name="daemon", memory="60M")
def daemon(job):
    """In a process that has left session and parent."""
    code = f"import os\nif os.fork():\n    os._exit(0)\nos.setsid()\nif os.fork():\n    os._exit(0)\n{TAKE}"
    subprocess.run([sys.executable, "-c", code % job.data["mb"]], check=False)
    time.sleep(LONG_S)


@processor("work", name="shared", memory="60M")
def shared(job):
    """40 MB that three forked children share with it are 40 MB."""
    held = taken(40)
    children = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                time.sleep(1)
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    return len(held) // MB


@processor("work", name="at_once", memory="20M")
def at_once(job):
    """More at one stroke than the kernel gives: it takes nothing of it."""
    return len(bytearray(64 * 1024 * MB))


@processor("work", name="no_limit")
def no_limit(job):
    return len(bytearray(64 * 1024 * MB))


@processor("work", name="busy", cpu="1s")
def busy(job):
    if job.data.get("idle"):
        time.sleep(job.data["idle"])
        return "slept"
    while True:
        pass


@processor("work", name="busy_child", cpu="1s")
def busy_child(job):
    subprocess.run([sys.executable, "-c", "while True: pass"], check=False)


@processor("work", name="busy_many", cpu="1s")
def busy_many(job):
    """Short programs, each far below the limit."""
    for _ in range(1000):
        subprocess.run([sys.executable, "-c", "for _ in range(3_000_000): pass"], check=False)


@processor("work", name="many", processes=8)
def many(job):
    """Threads and programs, 12 in all."""
    programs = [subprocess.Popen(["sleep", str(LONG_S)]) for _ in range(6)]
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(LONG_S,), daemon=True).start()
    for each in programs:
        each.wait()


@processor("work", name="silent", silence="500ms")
def silent(job):
    time.sleep(LONG_S)


@processor("work", name="talkative", silence="600ms")
def talkative(job):
    """Half as silent as it may be, in three ways, for more than twice as long."""
    for say in (job.log, print, job.progress, job.log, print):
        time.sleep(0.3)
        say("1" if say is not job.progress else 1)
    return "said all"


@processor("work", name="loud", output="100K")
def loud(job):
    for _ in range(job.data["kb"]):
        sys.stdout.write("x" * 1023 + "\n")
    sys.stdout.flush()
    if job.data.get("stay"):
        time.sleep(LONG_S)
    return "printed"


@processor("work", name="files", open_files=40)
def files(job):
    return len([open(os.devnull) for _ in range(job.data["count"])])


@processor("work", name="writer", file_size="1M")
def writer(job):
    with open(job.data["path"], "wb") as file:
        for _ in range(job.data["kb"]):
            file.write(b"x" * 1024)
    return os.path.getsize(job.data["path"])


@processor("work", name="nothing")
def nothing(job):
    return os.getpid()


@processor("work", name="grows", memory="60M", on_memory="bigger")
def grows(job):
    """Says how much it may have, as far as a job can see."""
    capped()
    started = time.time()
    held = taken(job.data["mb"])
    time.sleep(0.8)
    return [started, time.time(), len(held) // MB]


@processor("work", name="naps")
def naps(job):
    started = time.time()
    time.sleep(job.data["s"])
    return [started, time.time(), os.getpid()]
