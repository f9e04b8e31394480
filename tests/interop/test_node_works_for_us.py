"""Our producer, Node's workers: what we add, versions 6 and 5 run as if it were their own."""

from __future__ import annotations

from typing import Any

import pytest
from peers import Peer

from supervisor.blocking import KeepJobs, Queue, exponential, fixed
from supervisor.errors import JobFailed

VERSIONS = pytest.mark.parametrize("version", [6, 5])
WAIT_MS = 20_000


@VERSIONS
@pytest.mark.parametrize(
    "data", [{"a": [1, 2.5, None]}, {}, None, "text", 'é"/\\ \u2028 😀', "\ud83d", [], 0]
)
def test_data_arrives_and_the_result_comes_back(node: Peer, queue: Queue, version: int, data: Any):
    job = queue.add("echo", data)
    node.ask("worker", version=version, queue="q", name="w")
    assert queue.result(job, timeout_ms=WAIT_MS) == {"echo": data, "attempt": 1}
    found = queue.get(job.id)
    assert found is not None
    assert (found.attempts_made, found.attempts_started, found.processed_by) == (1, 1, "w")
    assert node.errors == []


@VERSIONS
def test_they_run_in_our_order(node: Peer, queue: Queue, version: int):
    queue.pause()
    queue.add("echo", "late", priority=9)
    queue.add_bulk([("echo", n) for n in range(3)])
    queue.add("echo", "soon", priority=1)
    queue.add("echo", "first", lifo=True)
    queue.resume()
    node.ask("worker", version=version, queue="q")
    done = node.until("worker", "q", "completed", 6)
    assert [line["args"][1]["echo"] for line in done] == ["first", 0, 1, 2, "soon", "late"]
    assert node.errors == []


@VERSIONS
def test_a_delayed_job_of_ours_wakes_their_idle_worker_when_it_is_due(node: Peer, queue: Queue, version: int):
    node.ask("worker", version=version, queue="q", opts={"drainDelay": 60})
    job = queue.add("echo", 1, delay_ms=300)
    assert queue.result(job, timeout_ms=WAIT_MS) == {"echo": 1, "attempt": 1}
    ended = queue.get(job.id)
    assert ended is not None and ended.processed_on is not None
    assert ended.processed_on - ended.timestamp >= 299


@VERSIONS
@pytest.mark.parametrize("backoff", [None, fixed(30), exponential(20, jitter=0.5)])
def test_attempts_and_backoff_are_understood(node: Peer, queue: Queue, version: int, backoff: Any):
    job = queue.add("failOnce", {}, attempts=2, backoff=backoff)
    node.ask("worker", version=version, queue="q")
    assert queue.result(job, timeout_ms=WAIT_MS) == "second time"
    found = queue.get(job.id)
    assert found is not None
    assert (found.attempts_made, found.failed_reason, len(found.stacktrace)) == (2, "first time", 1)


@VERSIONS
def test_a_failure_is_read_with_reason_and_stack(node: Peer, queue: Queue, version: int):
    job = queue.add("fail", {"message": "out of ink"}, attempts=2, stack_trace_limit=1)
    node.ask("worker", version=version, queue="q")
    with pytest.raises(JobFailed, match="out of ink"):
        queue.result(job, timeout_ms=WAIT_MS)
    found = queue.get(job.id)
    assert found is not None
    assert found.stacktrace[0].startswith("Error: out of ink")
    assert (found.attempts_made, len(found.stacktrace)) == (2, 1)


@VERSIONS
def test_progress_and_log_are_read(node: Peer, queue: Queue, version: int):
    job = queue.add("talk", [1])
    node.ask("worker", version=version, queue="q")
    assert queue.result(job, timeout_ms=WAIT_MS) == [1]
    found = queue.get(job.id)
    assert found is not None
    assert found.progress == {"half": True}
    assert queue.logs(job.id) == ["one row"]


@VERSIONS
def test_finished_jobs_are_kept_as_we_said(node: Peer, queue: Queue, version: int):
    queue.add_bulk([("echo", n, {"remove_on_complete": KeepJobs(count=2)}) for n in range(5)])
    queue.add("fail", {"message": "x"}, remove_on_fail=True)
    node.ask("worker", version=version, queue="q")
    node.until("worker", "q", "failed")
    assert [job.data for job in queue.jobs("completed")] == [3, 4]
    assert queue.counts()["failed"] == 0


@VERSIONS
def test_a_job_of_ours_looks_to_them_like_one_of_theirs(node: Peer, queue: Queue, version: int):
    options = {"attempts": 3, "backoff": fixed(5), "priority": 4, "delay_ms": 60_000, "job_id": "mine"}
    queue.add("echo", {"a": 1}, **options)  # type: ignore[arg-type]
    seen = node.ask("job", version=version, queue="q", id="mine")
    told = {
        "attempts": 3,
        "backoff": {"type": "fixed", "delay": 5},
        "priority": 4,
        "delay": 60_000,
        "jobId": "mine",
    }
    assert seen["opts"] == told
    assert (seen["name"], seen["data"], seen["delay"], seen["priority"]) == ("echo", {"a": 1}, 60_000, 4)
    assert node.ask("job", version=version, queue="q", id="mine", method="getState") == "delayed"
    counts = node.ask("queue", version=version, queue="q", method="getJobCounts")
    assert {state: counts.pop(state) for state in ("delayed", "waiting")} == {"delayed": 1, "waiting": 0}
