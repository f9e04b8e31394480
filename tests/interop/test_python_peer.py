"""PyPI's bullmq and we, on one queue, in both directions."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from peers import Peer
from scene import Scene, completed, failed

from supervisor.blocking import Queue
from supervisor.errors import JobFailed

WAIT_MS = 20_000
DATA = pytest.mark.parametrize("data", [{"a": [1, 2.5, None]}, "text", 'é"/\\ 😀', []])


@DATA
def test_their_worker_runs_our_jobs(python: Peer, queue: Queue, data: Any):
    job = queue.add("echo", data)
    python.ask("worker", queue="q")
    assert queue.result(job, timeout_ms=WAIT_MS) == {"echo": data}


def test_their_worker_keeps_our_order_and_our_delays(python: Peer, queue: Queue):
    queue.pause()
    queue.add("echo", "late", priority=9)
    queue.add_bulk([("echo", n) for n in range(3)])
    queue.add("echo", "first", lifo=True)
    queue.add("echo", "due", delay_ms=300)
    queue.resume()
    python.ask("worker", queue="q")
    done = [line["args"][1]["echo"] for line in python.until("worker", "q", "completed", 6)]
    assert [data for data in done if data != "due"] == ["first", 0, 1, 2, "late"]


def test_their_failure_is_read(python: Peer, queue: Queue):
    job = queue.add("fail", {"message": "out of ink"}, attempts=2)
    python.ask("worker", queue="q")
    with pytest.raises(JobFailed, match="out of ink"):
        queue.result(job, timeout_ms=WAIT_MS)
    found = queue.get(job.id)
    assert found is not None
    assert found.attempts_made == 2


def test_their_progress_and_log_are_read(python: Peer, queue: Queue):
    job = queue.add("talk", 7)
    python.ask("worker", queue="q")
    assert queue.result(job, timeout_ms=WAIT_MS) == 7
    found = queue.get(job.id)
    assert found is not None
    assert (found.progress, queue.logs(job.id)) == (10, ["one row"])


@DATA
def test_we_run_their_jobs(python: Peer, redis_url: str, raw: redis.Redis, data: Any):
    with Scene(redis_url, raw, "q").opened() as play:
        python.ask("queue", queue="q", method="add", args=["echo", data, {"attempts": 2, "priority": 3}])
        job = play.queue.get("1")
        assert job is not None
        assert (job.data, job.attempts, job.priority) == (data, 2, 3)
        fetched = play.fetch()
        play.exchange(completed(fetched, fetched.data))
        assert python.ask("queue", queue="q", method="getJobCounts", args=["completed"]) == {"completed": 1}
        assert python.ask("job", queue="q", id="1")["returnvalue"] == data


def test_they_read_our_failure_and_take_the_job_up_again(python: Peer, redis_url: str, raw: redis.Redis):
    with Scene(redis_url, raw, "q").opened() as play:
        python.ask("queue", queue="q", method="addBulk", args=[[{"name": "echo", "data": 1, "opts": {}}]])
        play.exchange(failed(play.fetch(), "out of ink"))
        seen = python.ask("job", queue="q", id="1")
        assert (seen["failedReason"], seen["attemptsMade"]) == ("out of ink", 1)
        play.queue.retry("1")
        python.ask("worker", queue="q")
        assert play.queue.result("1", timeout_ms=WAIT_MS) == {"echo": 1}
