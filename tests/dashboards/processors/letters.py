"""What the dashboards' tests run: letters that are sent, returned by the post office, or being written."""

from __future__ import annotations

import time
from pathlib import Path

from oxherd import Job, processor

PLACE = Path(__file__).parent


@processor("work")
def letters(job: Job):
    return {"send": send, "write": write}[job.data["do"]](job)


def send(job: Job):
    """Fails as long as there is no stamp."""
    job.log(f"weighed the letter to {job.data['to']}")
    if not (PLACE / "stamp").exists():
        raise ValueError(f"no stamp on the letter to {job.data['to']}")
    job.progress(100)
    return f"sent to {job.data['to']}"


def write(job: Job):
    """Is active until it is told to end."""
    job.log("page 1 is written")
    job.log("page 2 is written")
    job.progress(60)
    while not (PLACE / "end").exists():
        time.sleep(0.005)
