"""What attempts used: in the log, in the job's record, and the limits that follow."""

from __future__ import annotations

import json

import pytest

from supervisor.cli.render import span

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

MB = 1024 * 1024


def test_what_a_job_used_is_in_its_log_line_and_in_its_record(oxherd, queue, ask):
    running = oxherd("--concurrency", "1", target="appetites", queue=None)
    job = queue.add("look", {"burn_s": 0.2, "child_s": 0.1, "take_mb": 48, "write_mb": 2})
    assert queue.result(job, timeout_ms=30_000) == "done"

    line = running.until("job.completed")
    assert 300 <= line["user_ms"] + line["system_ms"] <= line["ran_ms"] + 100
    assert 48 * MB <= line["peak_bytes"] < 90 * MB
    assert line["waited_ms"] >= 0
    assert line["start_ms"] < 1_000

    told = json.loads(ask("job", "work", job.id, "--json"))["used"]
    assert told == {name: line[name] for name in told}
    assert told["attempt"] == 1
    assert {"waited_ms", "start_ms", "ran_ms", "user_ms", "system_ms", "written_bytes"} <= told.keys()
    assert f"attempt 1: waited {span(told['waited_ms'])}" in ask("job", "work", job.id)


def test_a_job_of_no_length_leaves_no_record_of_what_it_used(oxherd, queue, raw):
    running = oxherd("--concurrency", "1", target="appetites", queue=None)
    job = queue.add("look", {})
    queue.result(job, timeout_ms=30_000)
    assert "user_ms" not in running.until("job.completed")
    assert not raw.hexists(f"bull:work:{job.id}", "ox:used")


def test_a_job_that_failed_has_its_figures_and_the_next_attempt_its_own(oxherd, queue, raw):
    running = oxherd("--concurrency", "1")
    job = queue.add("look", {"do": "fail_once"}, attempts=2)
    queue.result(job, timeout_ms=30_000)
    slow = queue.add("look", {"do": "burn", "s": 0.1})
    queue.result(slow, timeout_ms=30_000)
    running.until("job.completed", 2)
    assert json.loads(raw.hget(f"bull:work:{slow.id}", "ox:used"))["ran_ms"] >= 100


def test_a_job_that_is_not_kept_leaves_nothing(oxherd, queue, raw):
    running = oxherd("--concurrency", "1", target="appetites", queue=None)
    job = queue.add("look", {"sleep_s": 0.1}, remove_on_complete=True)
    running.until("job.completed")
    assert not raw.exists(f"bull:work:{job.id}")


def test_the_memory_of_a_job_of_some_seconds_is_seen_without_any_limit(oxherd, queue):
    """Its runner was as large before, so only a look can tell."""
    running = oxherd("--concurrency", "1", target="appetites", queue=None)
    queue.add("look", {"take_mb": 64})
    running.until("job.completed")
    queue.add("look", {"hold_mb": 24, "sleep_s": 3})
    line = running.until("job.completed", 2)
    assert line["processes"] == 1
    assert 24 * MB <= line["peak_bytes"] < 50 * MB


def test_from_a_few_attempts_nothing_is_recommended_and_from_a_hundred_a_limit(oxherd, queue, ask):
    running = oxherd("--concurrency", "4", target="appetites", queue=None)
    jobs = [queue.add("look", {"sleep_s": 0.03}) for _ in range(20)]
    running.until("job.completed", len(jobs))
    assert "nothing is recommended" in ask("recommend", "work", status=1)

    jobs += [queue.add("look", {"sleep_s": 0.03}) for _ in range(80)]
    running.until("job.completed", len(jobs))
    text = ask("recommend", "work")
    assert "work / look: 100 attempts measured" in text
    assert '[queue.work.policy]\ntimeout = "' in text
    limits = json.loads(ask("recommend", "work", "--json").splitlines()[-1])["limits"]
    assert limits["timeout"] >= 1_000
    assert limits["memory"] is None or limits["memory"] >= 16 * MB


def test_a_queue_that_nobody_serves_is_refused(oxherd, queue, ask):
    oxherd("--concurrency", "1", target="appetites", queue=None).until("control.opened")
    assert "serves the queue 'nobody'" in ask("recommend", "nobody", status=1)
