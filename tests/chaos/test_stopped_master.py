"""A master that the host stops for longer than its locks live, and one that buries many runners."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from running import until


def says_idle(runner):
    try:
        return "idle" in " ".join(runner.cmdline())
    except psutil.Error:
        return False


@pytest.mark.timeout(120)
def test_what_ended_while_the_master_was_stopped_beyond_its_lock_is_not_written(oxherd, queue, raw, tmp_path):
    """I3: the frame is there when it wakes, and is read before any timer; the lock is its own no more."""
    mark, go = tmp_path / "mark", tmp_path / "go"
    job = queue.add("any", {"do": "mark_and_wait", "mark": str(mark), "go": str(go)})
    run = oxherd("--concurrency", "1", "--lock-duration", "1s", "--stalled-interval", "60s")
    until(mark.exists, "the job runs")
    run.signal(signal.SIGSTOP)
    go.touch()
    until(lambda: all(map(says_idle, run.runners())), "the runner has answered")
    until(lambda: not raw.exists(f"bull:work:{job.id}:lock"), "the lock has gone")
    run.signal(signal.SIGCONT)
    dropped = run.until("job.outcome_dropped")
    assert dropped["job_id"] == job.id and "lock" in dropped["why"]
    assert queue.state(job.id) == "active", "left to the stalled check"
    assert raw.hget("bull:work:" + job.id, "returnvalue") is None
    other = queue.add("any", {"do": "nothing"})
    until(lambda: queue.state(other.id) == "completed", "the next job runs")


@pytest.mark.timeout(120)
def test_a_running_job_is_cut_when_its_master_wakes_too_late(oxherd, queue, raw, tmp_path):
    """I3: its runner is killed, and the job runs again after the stalled check alone."""
    mark = tmp_path / "mark"
    job = queue.add("any", {"do": "mark_and_wait", "mark": str(mark), "go": str(tmp_path / "never")})
    run = oxherd("--concurrency", "1", "--lock-duration", "1s", "--stalled-interval", "60s")
    until(mark.exists, "the job runs")
    [runner] = run.runners()
    run.signal(signal.SIGSTOP)
    until(lambda: not raw.exists(f"bull:work:{job.id}:lock"), "the lock has gone")
    run.signal(signal.SIGCONT)
    run.until("job.outcome_dropped")
    runner.wait(10)
    assert queue.state(job.id) == "active"


@pytest.mark.timeout(120)
def test_what_was_fetched_for_an_idle_master_that_was_stopped_does_not_begin(oxherd, queue, raw, tmp_path):
    """I3: its call stood at the server and took the job, and it wakes when the lock is gone."""
    mark = tmp_path / "mark"
    run = oxherd("--concurrency", "1", "--lock-duration", "4s", "--worker-drain-delay", "600ms")
    run.until("master.started")
    job = None
    for _ in range(20):  # until the job comes while the call stands, which ends with the block
        run.signal(signal.SIGSTOP)
        job = queue.add("any", {"do": "mark_and_wait", "mark": str(mark), "go": str(tmp_path / "never")})
        if raw.exists(f"bull:work:{job.id}:lock"):
            break
        queue.remove(job.id)
        run.signal(signal.SIGCONT)
        until(lambda: raw.info("clients")["blocked_clients"] == 1, "it waits again")
    assert raw.exists(f"bull:work:{job.id}:lock")
    until(lambda: not raw.exists(f"bull:work:{job.id}:lock"), "the lock has gone")
    run.signal(signal.SIGCONT)
    # It reads the answer and drops the job; or its timers come first, and it asks what the call has brought.
    other = queue.add("any", {"do": "nothing"})
    until(lambda: queue.state(other.id) == "completed", "the next job runs")
    assert not mark.exists() and queue.state(job.id) == "active", "left to the stalled check"


@pytest.mark.timeout(120)
def test_fifty_killed_runners_leave_no_descriptor_and_no_zombie_behind(oxherd, queue):
    run = oxherd("--concurrency", "2", "--profile", "none")  # else only root may look at its descriptors
    run.until("runner.started", 2)
    master = psutil.Process(run.pid)
    queue.result(queue.add("any", {"do": "nothing"}), timeout_ms=10_000)
    before = master.num_fds()
    for count in range(50):
        os.kill(until(run.runners, "a runner")[0].pid, signal.SIGKILL)
        run.until("runner.started", count + 3)
    until(lambda: len(run.runners()) == 2, "both slots are filled")
    until(lambda: master.num_fds() <= before, "no descriptor is left behind")
    assert not [each for each in run.family() if each.status() == psutil.STATUS_ZOMBIE]
