"""A Redis that is slow, away, full or corrupt: running jobs are not disturbed, and the guilty is alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal

import pytest
from running import until

BATCH = 16


@contextlib.contextmanager
def stopped(server):
    """The server answers nobody meanwhile."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def finished(queue):
    counts = queue.counts()
    return counts["completed"] + counts["failed"]


# --- away ----------------------------------------------------------------------------------------------


def test_an_outage_shorter_than_the_locks_disturbs_no_running_job(oxherd, queue, raw, redis_server, tmp_path):
    marks = [tmp_path / f"mark{n}" for n in range(4)]
    jobs = [
        queue.add("any", {"do": "mark_and_wait", "mark": str(mark), "go": str(tmp_path / "go")})
        for mark in marks
    ]
    run = oxherd("--concurrency", "4", "--lock-duration", "30s", "--redis-reply-timeout", "500ms")
    until(lambda: all(mark.exists() for mark in marks), "all four run")
    with stopped(redis_server):
        (tmp_path / "go").touch()
        run.until("redis.lost")
    until(lambda: finished(queue) == 4, "their outcomes are written when Redis is back")
    for job in jobs:
        assert queue.state(job.id) == "completed"
        assert raw.hmget(f"bull:work:{job.id}", "ats", "atm") == [b"1", b"1"]


def test_when_trust_in_the_locks_ends_the_attempts_are_cut_and_nothing_is_written(
    oxherd, queue, raw, redis_server
):
    """I3: the stalled check, not we, gives the job to whoever comes next."""
    job = queue.add("any", {"do": "sleep", "s": 60})
    run = oxherd("--concurrency", "1", "--lock-duration", "1s", "--stalled-interval", "500ms")
    pid = until(lambda: queue.state(job.id) == "active" and run.runners(), "it runs")[0].pid
    with stopped(redis_server):
        assert run.until("lock.lost")["job_id"] == job.id
        run.until("job.outcome_dropped")
        until(lambda: pid not in {each.pid for each in run.runners()}, "its process is dead")
    until(lambda: raw.hget(f"bull:work:{job.id}", "stc") == b"1", "recovered as stalled")
    assert raw.hget(f"bull:work:{job.id}", "atm") is None


def titles(run):
    """What its runners say that they do."""
    return "\n".join(" ".join(each.cmdline()) for each in run.runners())


@pytest.mark.parametrize("requests", [[signal.SIGTERM], [signal.SIGQUIT]], ids=["term", "quit"])
def test_a_stop_while_redis_is_away_ends_by_its_deadline_and_says_what_is_left(
    oxherd, queue, raw, redis_server, requests
):
    """I9: the one exception, named in the log."""
    jobs = [queue.add("any", {"do": "hang"}) for _ in range(2)]
    run = oxherd("--concurrency", "2", "--stop-deadline", "2s")
    # Redis knows of them before the master does: told to stop in between, that would have none to tell of.
    until(lambda: titles(run).count(" work/") == 2, "both run")
    with stopped(redis_server):
        for number in requests:
            run.signal(number)
        assert run.ended(8) == 0
    assert run.events("stop.deadline_passed")[0]["left"] == 2
    assert {line["job_id"] for line in run.events("job.outcome_unknown")} == {job.id for job in jobs}


def test_jobs_are_fetched_again_after_every_connection_was_killed(oxherd, queue, raw):
    run = oxherd("--concurrency", "1")
    run.until("master.started")
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    run.until("redis.lost")
    job = queue.add("any", {})
    until(lambda: queue.state(job.id) == "completed", "it is consumed, not only alive")


def test_outcomes_wait_while_the_server_is_a_replica(oxherd, queue, raw, tmp_path):
    """A failover: every write is refused as READONLY for a while. Seen before: the outcome was given up."""
    mark, go = tmp_path / "mark", tmp_path / "go"
    job = queue.add("any", {"do": "mark_and_wait", "mark": str(mark), "go": str(go)})
    waiting = queue.add("any", {})
    run = oxherd("--concurrency", "1")
    until(mark.exists, "it runs")
    refused = raw.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"]
    raw.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        go.touch()
        until(
            lambda: raw.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"] > refused,
            "refused",
        )
    finally:
        raw.execute_command("REPLICAOF", "NO", "ONE")
    until(lambda: finished(queue) == 2, "both are finished when it is a master again")
    assert [queue.state(each.id) for each in (job, waiting)] == ["completed", "completed"]
    assert raw.hmget(f"bull:work:{job.id}", "ats", "atm") == [b"1", b"1"]
    assert not run.events("job.refused") and not run.events("job.outcome_dropped")


# --- one guilty among sixteen ----------------------------------------------------------------------------


@pytest.fixture
def sixteen(oxherd, queue, tmp_path):
    """Sixteen jobs that run at once and end together when `go` exists; with `spoil` called in between."""

    def run_with(spoil):
        go = tmp_path / "go"
        marks = [tmp_path / f"mark{n}" for n in range(BATCH)]
        jobs = queue.add_bulk(
            [("any", {"do": "mark_and_wait", "mark": str(m), "go": str(go)}) for m in marks]
        )
        run = oxherd("--concurrency", str(BATCH))
        until(lambda: all(mark.exists() for mark in marks), "all sixteen run")
        spoil(jobs)
        go.touch()
        until(lambda: finished(queue) == BATCH, "all sixteen are finished")
        return run, jobs

    return run_with


def check_nothing_is_left_active(raw):
    assert raw.llen("bull:work:active") == 0
    assert not list(raw.scan_iter("bull:work:*:lock"))


def test_a_corrupt_parent_key_fails_its_job_alone(sixteen, queue, raw):
    """I10."""

    def spoil(jobs):
        parent = {"id": "p", "queueKey": "bull:parents"}
        raw.hset("bull:parents:p", "name", "parent")
        raw.set("bull:parents:p:dependencies", "this is no set")
        raw.hset(
            f"bull:work:{jobs[7].id}", mapping={"parentKey": "bull:parents:p", "parent": json.dumps(parent)}
        )

    run, jobs = sixteen(spoil)
    guilty = queue.get(jobs[7].id)
    assert queue.state(jobs[7].id) == "failed" and "parent" in guilty.failed_reason
    assert queue.counts()["completed"] == BATCH - 1
    run.until("job.refused")
    assert [line["job_id"] for line in run.events("job.refused")] == [jobs[7].id]
    check_nothing_is_left_active(raw)


def test_a_corrupt_stalled_key_hurts_no_job(sixteen, queue, raw):
    def spoil(jobs):
        raw.delete("bull:work:stalled")
        raw.set("bull:work:stalled", "this is no set")

    sixteen(spoil)
    assert queue.counts()["completed"] == BATCH
    check_nothing_is_left_active(raw)


def test_a_full_server_still_takes_the_outcomes(sixteen, queue, raw):
    def spoil(jobs):
        raw.config_set("maxmemory-policy", "noeviction")
        raw.config_set("maxmemory", 1)

    try:
        sixteen(spoil)
    finally:
        raw.config_set("maxmemory", 0)
    assert queue.counts()["completed"] == BATCH
    check_nothing_is_left_active(raw)


def test_a_full_server_gives_no_jobs_and_the_master_goes_on_when_there_is_room(oxherd, queue, raw):
    job = queue.add("any", {})
    raw.config_set("maxmemory", 1)
    try:
        run = oxherd("--concurrency", "1")
        run.until("queue.fetch_failed")
        assert queue.state(job.id) == "waiting"
    finally:
        raw.config_set("maxmemory", 0)
    until(lambda: queue.state(job.id) == "completed", "fetched when there is room")


def test_a_corrupt_marker_key_does_not_stop_the_fetching(oxherd, queue, raw):
    run = oxherd("--concurrency", "1", "--worker-drain-delay", "200ms")
    run.until("master.started")
    raw.delete("bull:work:marker")
    raw.set("bull:work:marker", "this is no sorted set")
    run.until("queue.fetch_failed")
    raw.delete("bull:work:marker")
    job = queue.add("any", {})
    until(lambda: queue.state(job.id) == "completed", "it goes on")
