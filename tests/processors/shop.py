"""What the tests of breakers and sagas run. While the file `data["down"]` is there, payments are down."""

from __future__ import annotations

import os
import signal

from oxherd import Breaker, Job, Saga, processor

payments = Breaker("payments", failures=3, within="60s", open_for="300ms", longest="600ms")


@processor("orders")
def charge(job: Job):
    with payments(job):
        if job.data.get("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if os.path.exists(job.data["down"]):
            raise ConnectionError("payments are down")
    return job.attempt


@processor("bookings")
async def book_later(job: Job):
    async with payments(job):
        if os.path.exists(job.data["down"]):
            raise ConnectionError("payments are down")
    return job.attempt


@processor("trips")
def trip(job: Job):
    def note(what: str) -> int:
        with open(job.data["notes"], "a", encoding="utf-8") as notes:
            notes.write(what + "\n")
        return 4

    with Saga(job) as saga:
        seat = saga.step("seat", lambda: note("seat"), undo=lambda seat: note(f"no seat {seat}"))
        if job.data.get("dies") and job.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        saga.step("room", lambda: note("room"), undo=lambda room: note(f"no room {room}"))
        if job.data.get("fails"):
            raise ConnectionError("no money")
    return seat
