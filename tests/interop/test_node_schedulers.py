"""Job schedulers made by one side and kept going by the other; a job is made once for each run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peers import Peer
from running import ROOT, Running, until

from supervisor.blocking import Queue
from supervisor.client.schedulers import (
    by_cron,
    every,
    get_scheduler,
    list_schedulers,
    remove_scheduler,
    upsert_scheduler,
)

HERE = Path(__file__).parent


@pytest.fixture
def we_work(redis_url: str) -> Iterator[Running]:
    options = ["--redis", redis_url, "--queue", "q", "--log-format", "json", "--log-level", "debug"]
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
    running.until("runner.started")  # it takes part from the first run on, and knows what TERM means
    yield running
    process.terminate()
    try:
        assert running.ended() == 0, running.story()
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()


def completed(queue: Queue, count: int) -> list[int]:
    """When the runs were due, once so many are completed."""
    done = until(
        lambda: len(found := queue.jobs("completed", 0, -1)) >= count and found, f"{count} runs are completed"
    )
    assert queue.counts()["failed"] == 0
    return sorted(int(job.id.rpartition(":")[2]) for job in done)


def upsert(node: Peer, *args: Any) -> None:
    node.ask("queue", queue="q", method="upsertJobScheduler", args=list(args))


def test_a_scheduler_of_node_is_kept_going_by_us(node: Peer, queue: Queue, we_work: Running):
    upsert(node, "tick", {"every": 300}, {"name": "echo", "data": {"n": 1}})
    times = completed(queue, 4)
    assert {(due_on - times[0]) % 300 for due_on in times} == {0}
    found = queue.run(get_scheduler("tick"))
    assert found is not None and found.iterations is not None and found.iterations >= 4
    (told,) = node.ask("queue", queue="q", method="getJobSchedulers")
    assert (told["key"], told["every"], told["name"]) == ("tick", 300, "echo")
    assert node.ask("queue", queue="q", method="removeJobScheduler", args=["tick"]) is True


def test_a_cron_scheduler_of_node_is_kept_going_by_us(node: Peer, queue: Queue, we_work: Running):
    upsert(node, "tick", {"pattern": "* * * * * *", "tz": "Asia/Tokyo"}, {"name": "echo", "data": 1})
    times = completed(queue, 3)
    assert all(due_on % 1_000 == 0 for due_on in times)
    assert len(set(times)) == len(times)


def test_a_scheduler_of_ours_is_kept_going_by_node(node: Peer, queue: Queue):
    queue.run(upsert_scheduler("tick", every(300), name="echo", data={"n": 1}))
    node.ask("worker", queue="q", name="w")
    times = completed(queue, 4)
    assert {(due_on - times[0]) % 300 for due_on in times} == {0}
    (told,) = node.ask("queue", queue="q", method="getJobSchedulers")
    assert told["template"]["data"] == {"n": 1}
    assert queue.run(remove_scheduler("tick")) is True
    assert node.errors == []


def test_a_cron_scheduler_of_ours_is_kept_going_by_node(node: Peer, queue: Queue):
    queue.run(upsert_scheduler("tick", by_cron("* * * * * *", tz="Asia/Tokyo"), name="echo", data=1))
    node.ask("worker", queue="q", name="w")
    assert all(due_on % 1_000 == 0 for due_on in completed(queue, 3))
    assert node.errors == []


def test_both_sides_together_make_each_run_once(node: Peer, queue: Queue, we_work: Running):
    node.ask("worker", queue="q", name="w")
    queue.run(upsert_scheduler("ours", every(200), name="echo", data=1))
    upsert(node, "theirs", {"every": 200}, {"name": "echo", "data": 2})
    completed(queue, 12)
    assert len(queue.run(list_schedulers())) == 2
    done = [job.id for job in queue.jobs("completed", 0, -1)]
    assert len(set(done)) == len(done)
    for scheduler in ("ours", "theirs"):
        times = sorted(int(job_id.rpartition(":")[2]) for job_id in done if f":{scheduler}:" in job_id)
        assert {(due_on - times[0]) % 200 for due_on in times} == {0}
    assert node.errors == []


def test_an_old_repeatable_of_version_5_is_kept_going_with_its_data(
    node: Peer, queue: Queue, we_work: Running
):
    options = {"repeat": {"pattern": "* * * * * *"}}
    node.ask("queue", version=5, queue="q", method="add", args=["echo", {"a": 1}, options])
    completed(queue, 3)
    assert {str(job.data) for job in queue.jobs("completed", 0, -1)} == {"{'a': 1}"}
    (found,) = queue.run(list_schedulers())
    assert found.name == "echo"
    assert we_work.until("scheduler.legacy")["scheduler"] == found.id
