"""Several async jobs in one runner, under a whole master."""

from __future__ import annotations

import pytest
from running import until

from supervisor.errors import JobFailed

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


def crowd(oxherd, *flags, concurrency=20):
    return oxherd("--concurrency", str(concurrency), *flags, target="crowd", queue=None)


def test_jobs_of_one_runner_run_at_the_same_time_and_each_says_its_own(oxherd, queue):
    jobs = queue.add_bulk([("any", {"do": "meet"}, {}) for _ in range(60)])
    running = crowd(oxherd)

    results = [queue.result(job, timeout_ms=20_000) for job in jobs]
    assert [each["id"] for each in results] == [job.id for job in jobs]
    assert len({each["pid"] for each in results}) == 1
    assert len(running.runners()) == 1
    for job in jobs:
        assert queue.logs(job.id) == [f"met {job.id}"]
        assert queue.get(job.id).progress == 50


def test_what_one_job_raises_is_its_own_affair(oxherd, queue):
    crowd(oxherd)
    wrong = [queue.add("any", {"do": do}) for do in ("raise", "exit")]
    right = queue.add("any", {"do": "meet", "s": 1})

    for job in wrong:
        with pytest.raises(JobFailed):
            queue.result(job, timeout_ms=20_000)
    assert queue.result(right, timeout_ms=20_000)["id"] == right.id


def test_a_hard_limit_of_one_ends_the_runner_and_hands_the_others_back(oxherd, queue):
    """I9: they are run again with their attempt not burnt."""
    others = queue.add_bulk([("any", {"do": "meet", "s": 2}, {}) for _ in range(5)])
    guilty = queue.add("any", {"do": "wait"}, timeout_ms=1_000)
    crowd(oxherd)

    with pytest.raises(JobFailed, match="time limit of 1000 ms exceeded"):
        queue.result(guilty, timeout_ms=20_000)
    for job in others:
        queue.result(job, timeout_ms=20_000)
        assert queue.get(job.id).attempts_made == 1


def test_a_soft_limit_reaches_one_job_at_its_next_await(oxherd, queue):
    guilty, other = queue.add("any", {"do": "wait"}), None
    crowd(oxherd, "--soft-timeout", "500ms")
    other = queue.add("any", {"do": "meet"})

    assert queue.result(other, timeout_ms=20_000)["id"] == other.id
    with pytest.raises(JobFailed, match=r"time limit of 500 ms exceeded \(soft\)"):
        queue.result(guilty, timeout_ms=20_000)


def test_a_job_that_is_cancelled_leaves_the_others_alone(oxherd, queue):
    running = crowd(oxherd)
    guilty, other = queue.add("any", {"do": "wait"}), queue.add("any", {"do": "meet", "s": 4})
    until(lambda: queue.counts()["active"] == 2, "both are at work")
    queue.cancel(guilty.id, reason="enough")

    with pytest.raises(JobFailed, match="enough"):
        queue.result(guilty, timeout_ms=20_000)
    pid = queue.result(other, timeout_ms=20_000)["pid"]
    assert [each.pid for each in running.runners()] == [pid]


def test_a_crash_has_failed_all_that_were_in_the_process(oxherd, queue):
    crowd(oxherd)
    jobs = [queue.add("any", {"do": "wait"})]
    until(lambda: queue.counts()["active"] == 1, "it is at work")
    jobs.append(queue.add("any", {"do": "die"}))

    for job in jobs:
        with pytest.raises(JobFailed, match="SIGSEGV"):
            queue.result(job, timeout_ms=20_000)
    assert queue.result(queue.add("any", {"do": "meet"}), timeout_ms=20_000)


def test_questions_are_answered_to_who_asked(oxherd, queue):
    crowd(oxherd)
    jobs = queue.add_bulk([("any", {"do": "add"}, {}) for _ in range(30)])
    assert len({queue.result(job, timeout_ms=20_000) for job in jobs}) == 30


def test_a_task_that_a_job_left_is_ended_when_none_is_at_work(oxherd, queue):
    crowd(oxherd)
    first = queue.result(queue.add("any", {"do": "task"}), timeout_ms=20_000)
    again = queue.result(queue.add("any", {"do": "task"}), timeout_ms=20_000)
    assert first == again


def test_open_files_and_file_size_are_limited_in_a_runner_of_several_jobs_too(oxherd, queue):
    crowd(oxherd, "--open-files", "77", "--file-size", "3M")
    jobs = queue.add_bulk([("any", {"do": "files", "s": s}, {}) for s in (0, 0.3, 0.1)])
    for job in jobs:
        assert queue.result(job, timeout_ms=20_000) == [77, 3 * 2**20]
        assert queue.logs(job.id) == [], "they are taken back afterwards"


def test_no_more_jobs_than_the_concurrency_are_at_work(oxherd, queue):
    jobs = queue.add_bulk([("any", {"do": "meet", "s": 0.3}, {}) for _ in range(9)])
    running = crowd(oxherd, "--log-level", "debug", concurrency=3)
    most = 0
    while any(queue.state(job.id) != "completed" for job in jobs):
        most = max(most, queue.counts()["active"])
    assert most <= 3, running.story()
