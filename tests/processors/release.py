"""A release: what a job is told depends on what stands in the file beside its config when it is loaded."""

from __future__ import annotations

import os
import time
from pathlib import Path

from oxherd import Job, processor

RELEASE = Path("release").read_text().strip()
if RELEASE == "broken":
    raise RuntimeError("this release is broken")
if RELEASE == "hangs":
    Path("hanging").touch()
    while True:
        time.sleep(1)
if RELEASE == "dies":
    os._exit(3)


@processor("work")
def work(job: Job):
    """Notes its start outside of Redis: one line a start, in a file of the job's own."""
    data = job.data or {}
    if "notes" in data:
        with open(Path(data["notes"]) / job.id, "a") as file:
            file.write(f"{RELEASE} {job.attempt}\n")
    time.sleep(data.get("s", 0))
    return RELEASE


@processor("mail")
def mail(job: Job):
    time.sleep((job.data or {}).get("s", 0))
    return RELEASE
