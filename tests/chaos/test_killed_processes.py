"""kill -9 of every process of ours in turn while 200 jobs run: nothing is lost, nothing runs twice unseen."""

from __future__ import annotations

import os
import random
import signal

import psutil
import pytest
from running import until

JOBS = 200
SEED = int(os.environ.get("OXHERD_TEST_SEED", "20261122"))


def add_jobs(queue):
    return [job.id for job in queue.add_bulk([("any", {"do": "sleep", "s": 0.02}) for _ in range(JOBS)])]


def finished(queue):
    counts = queue.counts()
    return counts["completed"] + counts["failed"]


def check_outcomes(queue, raw, job_ids, *, run_again):
    """Every job completed exactly once, or failed with a cause that names the signal."""
    completed = [
        fields[b"jobId"].decode()
        for _, fields in raw.xrange("bull:work:events")
        if fields[b"event"] == b"completed"
    ]
    assert len(completed) == len(set(completed)), "completed exactly once"
    for job_id in job_ids:
        state = queue.state(job_id)
        job = queue.get(job_id)
        if state == "failed":
            assert "SIGKILL" in job.failed_reason or "stalled" in job.failed_reason
        else:
            assert state == "completed"
            started = int(raw.hget(f"bull:work:{job_id}", "ats"))
            assert started == 1 or (run_again and started <= 3)
    assert raw.llen("bull:work:active") == 0
    assert not list(raw.scan_iter("bull:work:*:lock"))


@pytest.mark.timeout(180)
def test_runners_that_are_killed_cost_their_own_job_alone(oxherd, queue, raw):
    job_ids = add_jobs(queue)
    rng = random.Random(SEED)
    run = oxherd("--concurrency", "4")
    killed = 0
    while killed < 12:
        before = finished(queue)
        runners = until(run.runners, "runners")
        rng.choice(runners).kill()
        killed += 1
        until(lambda before=before: finished(queue) > min(before + 3, JOBS - 1), "the queue goes on")
    until(lambda: finished(queue) == JOBS, "all are finished")
    check_outcomes(queue, raw, job_ids, run_again=False)
    assert queue.counts()["failed"] <= killed
    assert len(until(lambda: len(found := run.runners()) == 4 and found, "four runners again")) == 4


@pytest.mark.timeout(180)
def test_a_killed_template_stops_no_runner_and_is_replaced(oxherd, queue, raw):
    job_ids = add_jobs(queue)
    run = oxherd("--concurrency", "4")
    until(lambda: finished(queue) > 20, "some are done")
    [template] = [each for each in run.family() if "oxherd: template" in " ".join(each.cmdline())]
    template.kill()
    run.until("template.exited")
    run.until("template.started", 2)
    for runner in run.runners()[:2]:
        runner.kill()
    until(lambda: finished(queue) == JOBS, "all are finished")
    until(lambda: len(run.runners()) == 4, "the new template has forked")
    check_outcomes(queue, raw, job_ids, run_again=False)
    assert queue.counts()["failed"] <= 2


@pytest.mark.timeout(180)
def test_a_killed_master_takes_its_family_along_and_another_goes_on(oxherd, queue, raw):
    """I8: a runner dies with its master. The stalled check of the next master recovers what was active."""
    job_ids = add_jobs(queue)
    quick = (
        "--concurrency",
        "4",
        "--lock-duration",
        "1s",
        "--stalled-interval",
        "500ms",
        "--stalled-max-count",
        "5",
    )
    first = oxherd(*quick)
    until(lambda: finished(queue) > 20, "some are done")
    family = first.family()
    first.signal(signal.SIGKILL)
    first.ended()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, f"outlived their master: {alive}"
    oxherd(*quick)
    until(lambda: finished(queue) == JOBS, "all are finished")
    check_outcomes(queue, raw, job_ids, run_again=True)
    assert queue.counts()["failed"] == 0
