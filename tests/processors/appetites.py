"""Jobs that use what they are told to use, so that it can be seen."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import tempfile
import threading
import time

from oxherd import Job, processor

BURN = "import time\nwhile time.process_time() < {}: pass"


@processor("work")
def work(job: Job):
    wants = job.data or {}
    if "threads" in wants:
        for number in range(wants["threads"]):
            threading.Thread(target=helper, args=(60,), name=f"helper {number}", daemon=True).start()
        job.progress(1)
    if "take_mb" in wants:
        taken = bytearray(wants["take_mb"] * 1024 * 1024)
        for at in range(0, len(taken), 4096):
            taken[at] = 1
        del taken
    if "write_mb" in wants:
        with tempfile.NamedTemporaryFile(dir=os.getcwd()) as file:
            file.write(os.urandom(wants["write_mb"] * 1024 * 1024))
            file.flush()
            os.fsync(file.fileno())
    if "child_s" in wants:
        subprocess.run([sys.executable, "-c", BURN.format(wants["child_s"])], check=True)
    if "burn_s" in wants:
        until = time.process_time() + wants["burn_s"]
        while time.process_time() < until:
            pass
    if "burn_until" in wants:
        while not os.path.exists(wants["burn_until"]):
            pass
    if "hold_gil_s" in wants:
        ctypes.PyDLL(None).usleep(int(wants["hold_gil_s"] * 1_000_000))
    for step in range(wants.get("steps", 0)):
        job.progress(100 * (step + 1) // wants["steps"])
        time.sleep(wants.get("step_s", 1))
    held = bytearray(b"x") * (wants.get("hold_mb", 0) * 1024 * 1024)
    time.sleep(wants.get("sleep_s", 0))
    del held
    return "done"


def helper(seconds):
    time.sleep(seconds)


@processor("many", concurrency=4, per_runner=4)
async def many(job: Job):
    await deep_inside(job)


async def deep_inside(job: Job):
    await asyncio.sleep((job.data or {}).get("sleep_s", 60))
