"""Flows between two languages: Node's FlowProducer with our runners, and our trees with Node's workers."""

from __future__ import annotations

from typing import Any

import pytest
from peers import Peer
from running import oxherd, until  # noqa: F401

from supervisor.blocking import Queue
from supervisor.client import batches, flows
from supervisor.client.flows import FlowJob

VERSIONS = pytest.mark.parametrize("version", [6, 5])
WAIT_MS = 20_000


@VERSIONS
def test_a_tree_of_theirs_is_run_by_our_runners(
    node: Peer,
    redis_url: str,
    oxherd: Any,  # noqa: F811
    version: int,
):
    kids = [{"name": "page", "queueName": "pages", "data": {"n": n}} for n in range(2)]
    middle = {"name": "part", "queueName": "work", "data": {"do": "collect"}, "children": kids}
    tree = {"name": "book", "queueName": "work", "data": {"do": "collect"}, "children": [middle]}
    node.ask("flow", version=version, method="add", args=[tree])
    oxherd("--concurrency", "1", target="families", queue=None)
    with Queue("work", url=redis_url) as queue:
        until(lambda: queue.counts()["completed"] == 2, "both parents are done")
        book = next(job for job in queue.jobs("completed") if job.name == "book")
        (values,) = book.returned.values()
        assert sorted(page["page"] for page in values.values()) == [0, 1]
        read = queue.run(flows.get(book.id))
        assert [len(part.children) for part in read.children] == [2]


@VERSIONS
def test_a_tree_of_ours_is_run_by_their_workers(node: Peer, queue: Queue, version: int):
    kids = [FlowJob("echo", n, "kids") for n in range(2)]
    broken = FlowJob("fail", {"message": "torn"}, "kids", {"ignore_dependency_on_failure": True})
    flow = queue.run(flows.add(FlowJob("collect", children=kids)))
    second = queue.run(flows.add(FlowJob("ignored", children=[broken])))
    node.ask("worker", version=version, queue="q")
    node.ask("worker", version=version, queue="kids")
    assert sorted(value["echo"] for value in queue.result(flow.job, timeout_ms=WAIT_MS).values()) == [0, 1]
    assert list(queue.result(second.job, timeout_ms=WAIT_MS).values()) == ["torn"]
    assert node.errors == []


@VERSIONS
def test_a_batch_of_ours_is_run_by_their_worker_while_it_is_added(node: Peer, queue: Queue, version: int):
    node.ask("worker", version=version, queue="q")
    batch = queue.run(batches.add("echo", range(250), collect="collect"))

    values = queue.result(batch, timeout_ms=WAIT_MS)

    key = queue.keys.job(batch.id)
    assert {name: value["echo"] for name, value in values.items()} == {
        f"{key}-{n + 1}-of-250": n for n in range(250)
    }


@VERSIONS
def test_a_child_that_their_worker_fails_fails_our_parent(node: Peer, queue: Queue, version: int):
    broken = FlowJob("fail", {"message": "torn"}, "kids", {"job_id": "bad", "fail_parent_on_failure": True})
    flow = queue.run(flows.add(FlowJob("collect", children=[broken])))
    node.ask("worker", version=version, queue="kids")
    node.ask("worker", version=version, queue="q")
    until(lambda: queue.state(flow.job.id) == "failed", "the parent has failed")
    found = queue.get(flow.job.id)
    assert found is not None and found.failed_reason == "child bull:kids:bad failed"


def test_they_read_our_tree_as_we_do(node: Peer, queue: Queue):
    kids = [FlowJob("page", {"n": n}, "kids", {"job_id": f"k{n}"}) for n in range(3)]
    queue.run(flows.add(FlowJob("book", options={"job_id": "B"}, children=kids)))
    told = node.ask("flow", version=6, method="getFlow", args=[{"id": "B", "queueName": "q"}])
    assert sorted(child["id"] for child in told["children"]) == ["k0", "k1", "k2"]
    counts = node.ask("job", version=6, queue="q", id="B", method="getDependenciesCount")
    assert counts == queue.run(flows.dependency_counts("B"))


@VERSIONS
def test_a_running_parent_of_ours_waits_for_children_their_worker_runs(
    node: Peer,
    redis_url: str,
    oxherd: Any,  # noqa: F811
    version: int,
):
    with Queue("work", url=redis_url) as queue:
        added = queue.add("book", {"do": "hire"})
        oxherd("--concurrency", "1", target="families")
        until(lambda: queue.state(added.id) == "waiting-children", "it waits")
        node.ask("worker", version=version, queue="kids")
        assert queue.result(added, timeout_ms=WAIT_MS) == [{"echo": "ours", "attempt": 1}]
