"""A module that starts a thread when it is imported, and takes its time, as heavy libraries do.

Each import writes its process' number into `imports`, beside it; a file `broken` there ends the process.
"""

import asyncio
import os
import signal
import threading
import time
from pathlib import Path

from sandbox.processors import processor

HERE = Path(__file__).parent

with (HERE / "imports").open("a") as imports:
    imports.write(f"{os.getpid()}\n")
if (HERE / "broken").exists():
    os._exit(3)
threading.Thread(target=time.sleep, args=(1000,), daemon=True, name="nightly-refresh").start()
time.sleep(0.3)


@processor("work")
def work(job):
    if job.data == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@processor("many", per_runner=4)
async def many(job):
    await asyncio.sleep(0)
    return work(job)
