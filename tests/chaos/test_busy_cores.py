"""Hard work never delays a lock renewal, so it is never run twice."""

from __future__ import annotations

import os
import threading
import time

import pytest
from running import until


class BareTimer(threading.Thread):
    """Wakes every 10 ms and keeps the longest gap: what the machine did to a thread that wanted little."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest_s = 0.0
        self._stop_it = threading.Event()

    def run(self) -> None:
        last = time.monotonic()
        while not self._stop_it.wait(0.01):
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now

    def stop(self) -> None:
        self._stop_it.set()


@pytest.mark.timeout(120)
def test_jobs_that_burn_every_core_for_8_s_complete_once_with_a_lock_of_2_s(oxherd, queue, raw):
    timer = BareTimer()
    timer.start()
    jobs = [queue.add("any", {"do": "burn", "s": 8}) for _ in range(os.cpu_count() or 2)]
    oxherd(
        "--concurrency", str(len(jobs)), "--lock-duration", "2s", "--stalled-interval", "1s",
        "--stalled-max-count", "0",
    )  # fmt: skip
    until(lambda: queue.counts()["completed"] + queue.counts()["failed"] == len(jobs), "all are finished", 90)
    timer.stop()
    for job in jobs:
        kept = raw.hgetall(f"bull:work:{job.id}")
        seen = {name: kept.get(name) for name in (b"ats", b"atm", b"stc", b"failedReason")}
        beside = f"job {job.id}: {seen}; the longest gap of a bare timer was {timer.longest_s * 1000:.0f} ms"
        assert kept[b"ats"] == b"1" and b"stc" not in kept, beside
        assert queue.state(job.id) == "completed", beside
    events = [fields[b"event"] for _, fields in raw.xrange("bull:work:events")]
    assert b"stalled" not in events
