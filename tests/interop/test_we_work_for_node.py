"""Node's producers and listeners, `oxherd run`: what versions 6 and 5 add we run, and they see it all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Peer, PeerError
from running import ROOT, Running, until

from supervisor.blocking import Queue

VERSIONS = pytest.mark.parametrize("version", [6, 5])
HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def _we_work(redis_server: Any) -> Iterator[None]:
    """One `oxherd run` for all, with one slot, so that the order of the jobs can be told."""
    options = ["--redis", redis_server.url, "--queue", "q", "--concurrency", "1", "--log-format", "json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "run", "processors", *options],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(process)
    yield
    process.terminate()
    try:
        assert running.ended() == 0, running.story()
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()


def add(node: Peer, version: int, name: str, data: Any, **options: Any) -> str:
    added = node.ask("queue", version=version, queue="q", method="add", args=[name, data, options])
    return str(added["id"])


def job(node: Peer, version: int, job_id: str, method: str | None = None, *args: Any) -> Any:
    return node.ask("job", version=version, queue="q", id=job_id, method=method, args=list(args))


def told(node: Peer, name: str, count: int = 1) -> list[Any]:
    """The fields of what their QueueEvents told."""
    return [line["args"][0] for line in node.until("events", "q", name, count)]


@VERSIONS
def test_every_kind_of_job_is_run_in_its_order(node: Peer, queue: Queue, version: int):
    node.ask("events", version=version, queue="q")
    node.ask("queue", version=version, queue="q", method="pause")
    add(node, version, "echo", "late", priority=9)
    bulk = [{"name": "echo", "data": n, "opts": {}} for n in range(3)]
    node.ask("queue", version=version, queue="q", method="addBulk", args=[bulk])
    add(node, version, "echo", "soon", priority=1)
    add(node, version, "echo", "first", lifo=True)
    add(node, version, "echo", "due", delay=200)
    add(node, version, "echo", "mine", jobId="mine", priority=20)
    node.ask("queue", version=version, queue="q", method="resume")
    done = [fields["returnvalue"]["echo"] for fields in told(node, "completed", 8)]
    assert [data for data in done if data != "due"] == ["first", 0, 1, 2, "soon", "late", "mine"]
    assert queue.counts()["completed"] == 8


@VERSIONS
@pytest.mark.parametrize("data", [{"a": [1, 2.5, None]}, None, 'é"/\\ \u2028 😀', "\ud83d", []])
def test_their_data_arrives_and_they_read_our_result(node: Peer, version: int, data: Any):
    node.ask("events", version=version, queue="q")
    job_id = add(node, version, "echo", data)
    assert node.ask("waitUntilFinished", version=version, queue="q", id=job_id) == {
        "echo": data,
        "attempt": 1,
    }
    seen = job(node, version, job_id)
    assert (seen["returnvalue"]["echo"], seen["attemptsMade"], seen["attemptsStarted"]) == (data, 1, 1)
    assert job(node, version, job_id, "getState") == "completed"


@VERSIONS
def test_their_listeners_hear_our_whole_life_of_a_job(node: Peer, version: int):
    node.ask("events", version=version, queue="q")
    job_id = add(node, version, "talk", [1], delay=50)
    told(node, "drained")
    heard = [(line["name"], line["args"][0]) for line in node.told("events", "q")]
    names = [name for name, fields in heard]
    assert names == [
        "added",
        "delayed",
        "waiting",
        "active",
        "progress",
        "progress",
        "completed",
        "drained",
    ] or (
        # progress is told at most 10 times a second, the last always
        names == ["added", "delayed", "waiting", "active", "progress", "completed", "drained"]
    )
    of = dict(heard)
    assert of["waiting"] == {"jobId": job_id, "prev": "delayed"}
    assert of["active"] == {"jobId": job_id, "prev": "waiting"}
    assert of["progress"] == {"jobId": job_id, "data": {"half": True}}
    assert of["completed"] == {"jobId": job_id, "returnvalue": [1], "prev": "active"}
    logs = node.ask("queue", version=version, queue="q", method="getJobLogs", args=[job_id])
    assert logs == {"logs": ["one row"], "count": 1}
    assert job(node, version, job_id)["progress"] == {"half": True}


@VERSIONS
@pytest.mark.parametrize("backoff", [None, 30, {"type": "exponential", "delay": 20, "jitter": 0.5}])
def test_their_attempts_and_backoff_are_kept(node: Peer, version: int, backoff: Any):
    node.ask("events", version=version, queue="q")
    options = {"attempts": 2} | ({"backoff": backoff} if backoff else {})
    job_id = add(node, version, "failOnce", {}, **options)
    assert node.ask("waitUntilFinished", version=version, queue="q", id=job_id) == "second time"
    seen = job(node, version, job_id)
    assert (seen["attemptsMade"], seen["failedReason"], len(seen["stacktrace"])) == (2, "first time", 1)
    assert told(node, "delayed") if backoff else node.told("events", "q", "delayed") == []


@VERSIONS
def test_a_crash_is_told_where_their_dashboards_look(node: Peer, queue: Queue, version: int):
    """Reason, stack trace and log; a crash is an attempt, and the second of them the last."""
    node.ask("events", version=version, queue="q")
    job_id = add(node, version, "crash", {}, attempts=5)
    with pytest.raises(PeerError, match="quarantined after 2 crashes"):
        node.ask("waitUntilFinished", version=version, queue="q", id=job_id)
    seen = job(node, version, job_id)
    died = "the runner died of signal 11 (SIGSEGV) in crash (processors.py line"
    assert seen["failedReason"].startswith(f"quarantined after 2 crashes: {died}")
    assert seen["attemptsMade"] == 2
    assert [stack.startswith(died) for stack in seen["stacktrace"]] == [True, True]
    assert "Segmentation fault" in seen["stacktrace"][1]
    logs = node.ask("queue", version=version, queue="q", method="getJobLogs", args=[job_id])["logs"]
    assert f"verdict: {seen['failedReason']}" in logs
    assert logs.count("verdict: last output: its last words") == 2

    job(node, version, job_id, "retry")
    told(node, "failed", 2)
    again = queue.get(job_id)
    assert (again.crashes, len(again.verdicts), again.attempts_made) == (3, 3, 3)


@VERSIONS
def test_our_failure_is_theirs_to_read_and_to_retry(node: Peer, version: int):
    node.ask("events", version=version, queue="q")
    job_id = add(node, version, "fail", {"message": "out of ink"}, attempts=2)
    with pytest.raises(PeerError, match="out of ink"):
        node.ask("waitUntilFinished", version=version, queue="q", id=job_id)
    assert told(node, "failed") == [{"jobId": job_id, "failedReason": "out of ink", "prev": "active"}]
    assert told(node, "retries-exhausted") == [{"jobId": job_id, "attemptsMade": "2"}]
    seen = job(node, version, job_id)
    assert (seen["attemptsMade"], seen["failedReason"], len(seen["stacktrace"])) == (2, "out of ink", 2)
    assert "ValueError: out of ink" in seen["stacktrace"][0]

    job(node, version, job_id, "updateData", {"message": "no paper"})
    job(node, version, job_id, "retry", "failed")
    assert [fields["failedReason"] for fields in told(node, "failed", 2)] == ["out of ink", "no paper"]
    job(node, version, job_id, "remove")
    assert told(node, "removed") == [{"jobId": job_id, "prev": "failed"}]


@VERSIONS
def test_an_unrecoverable_job_of_theirs_is_not_tried_again(node: Peer, version: int):
    node.ask("events", version=version, queue="q")
    job_id = add(node, version, "unrecoverable", {"message": "never"}, attempts=5)
    assert told(node, "failed") == [{"jobId": job_id, "failedReason": "never", "prev": "active"}]
    told(node, "drained")
    assert node.told("events", "q", "retries-exhausted") == []


@VERSIONS
def test_finished_jobs_are_kept_as_they_said(node: Peer, queue: Queue, version: int):
    node.ask("events", version=version, queue="q")
    for n in range(4):
        add(node, version, "echo", n, removeOnComplete={"count": 2})
    add(node, version, "fail", {"message": "x"}, removeOnFail=True)
    told(node, "failed")
    assert [kept.data for kept in queue.jobs("completed")] == [2, 3]
    assert queue.counts()["failed"] == 0


@VERSIONS
def test_they_find_our_worker_by_its_connection(node: Peer, version: int):
    until(
        lambda: len(node.ask("queue", version=version, queue="q", method="getWorkers")) == 1,
        "an idle worker of ours among theirs",
    )


@VERSIONS
def test_their_pause_stops_us_and_their_resume_wakes_us(node: Peer, queue: Queue, version: int):
    node.ask("events", version=version, queue="q")
    first = add(node, version, "echo", 1)
    node.ask("waitUntilFinished", version=version, queue="q", id=first)
    node.ask("queue", version=version, queue="q", method="pause")
    second = add(node, version, "echo", 2)
    queue.add("echo", 3)
    assert job(node, version, second, "getState") == "waiting"
    assert queue.counts()["waiting"] == 2
    node.ask("queue", version=version, queue="q", method="resume")
    told(node, "completed", 3)
