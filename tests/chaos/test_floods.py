"""A processor that says too much delays no renewal, and fills no memory but its own."""

from __future__ import annotations

import psutil
import pytest
from running import until

TIGHT = ("--concurrency", "2", "--lock-duration", "1s", "--stalled-interval", "500ms")


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("do", "text", "times"),
    [
        ("print", "\n", 400_000),
        ("print", "an endless line", 2_000_000),
        ("log", "", 30_000),
    ],
    ids=["short lines", "one endless line", "empty rows"],
)
def test_a_flood_costs_no_lock_and_no_memory(oxherd, queue, raw, do, text, times):
    """Design, first claim: the bookkeeping cannot be starved."""
    run = oxherd(*TIGHT, "--log-level", "info", target="floods")
    run.until("master.started")
    before = psutil.Process(run.pid).memory_info().rss
    job = queue.add("any", {"do": do, "text": text, "times": times}, keep_logs=10)
    peak = before

    def finished():
        nonlocal peak
        peak = max(peak, psutil.Process(run.pid).memory_info().rss)
        return queue.state(job.id) in ("completed", "failed")

    until(finished, "the flood has ended", 120)
    assert queue.get(job.id).returned == "said"
    assert raw.hget("bull:work:" + job.id, "ats") == b"1" and raw.hget("bull:work:" + job.id, "stc") is None
    assert not run.events("lock.lost")
    assert peak - before < 64 * 1024 * 1024
