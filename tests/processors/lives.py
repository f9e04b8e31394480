"""Processors that tell who they are, and that do not live long."""

import ctypes
import os
import time

from oxherd import Job, processor

HOARD = []


@processor("who")
def who(job: Job):
    """The runner's pid; takes memory or time if told, or waits for a file."""
    data = job.data or {}
    HOARD.append(bytearray(data.get("hoard", 0)))
    time.sleep(data.get("sleep", 0))
    while not os.path.exists(data.get("until", "/")):
        time.sleep(0.005)
    return os.getpid()


@processor("fresh", fresh=True)
def fresh(job: Job):
    return os.getpid()


@processor("exits")
def exits(job: Job):
    os._exit(1)


@processor("segfaults")
def segfaults(job: Job):
    if not os.path.exists((job.data or {}).get("unless", "")):
        ctypes.string_at(0)
    return "it worked"
