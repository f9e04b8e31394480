"""A plain function for several queues that share slots: it waits, fails or dies, as its data says."""

import os
import signal
import time


def work(job):
    data = job.data or {}
    if data.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.attempt <= data.get("fails", 0):
        raise ValueError("not yet")
    while "until" in data and not os.path.exists(data["until"]):
        time.sleep(0.005)
    time.sleep(data.get("s", 0))
    return [job.queue, os.getpid()]
