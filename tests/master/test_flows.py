"""Flows through master, template and runners: jobs that wait for jobs."""

from __future__ import annotations

import pytest
from running import until

from supervisor.blocking import Queue
from supervisor.client import flows
from supervisor.client.flows import FlowJob


@pytest.fixture
def pages(redis_url):
    with Queue("pages", url=redis_url) as queue:
        yield queue


def finished(queue, job_id):
    until(lambda: queue.state(job_id) in ("completed", "failed"), f"job {job_id} is finished")
    return queue.get(job_id)


def both(oxherd, *flags):
    """One master for the queues of the parents and of the children."""
    return oxherd("--concurrency", "1", *flags, target="families", queue=None)


def test_a_parent_that_adds_children_runs_again_when_they_are_done(oxherd, queue, raw):
    added = queue.add("book", {"do": "split", "pages": 3}, attempts=2)
    master = both(oxherd)

    job = finished(queue, added.id)

    keys = [f"bull:pages:{added.id}-{n}-page" for n in range(3)]
    parent = {"id": added.id, "queue": "bull:work"}
    assert job.returned["values"] == {key: {"page": n, "parent": parent} for n, key in enumerate(keys)}
    assert job.returned["attempt"] == 1  # waiting is no attempt
    assert (job.attempts_made, job.attempts_started) == (1, 2)
    master.until("job.waiting_for_children")
    assert len(master.events("job.waiting_for_children")) == 1
    assert raw.exists(f"bull:work:{added.id}:lock", f"bull:work:{added.id}:dependencies") == 0


def test_who_waits_for_nobody_runs_again_at_once(oxherd, queue):
    added = queue.add("any", {"do": "wait_for_nobody"})
    both(oxherd)

    assert finished(queue, added.id).returned == "at once"


def test_a_processor_is_told_which_of_its_children_failed_and_why(oxherd, queue):
    added = queue.add("any", {"do": "tolerate", "policy": "ignore_dependency_on_failure"})
    both(oxherd)

    told = finished(queue, added.id).returned
    assert told["reasons"] == {"bull:pages:torn": "torn"}
    assert told["found"]["ignored"] == {"bull:pages:torn": "torn"}
    assert list(told["found"]["processed"]) == ["bull:pages:whole"]
    assert told["found"]["unprocessed"] == told["found"]["failed"] == []


def test_a_child_that_fails_its_parent_fails_it_unrun(oxherd, queue, pages):
    pages.pause()  # so that the parent waits before its child fails
    added = queue.add("any", {"do": "tolerate", "policy": "fail_parent_on_failure"})
    both(oxherd)
    until(lambda: queue.state(added.id) == "waiting-children", "the parent waits")
    pages.resume()

    assert finished(queue, added.id).failed_reason == "child bull:pages:torn failed"


@pytest.mark.parametrize(("wait", "call"), [(False, "moveToFinished"), (True, "moveToWaitingChildren")])
def test_a_parent_can_neither_complete_nor_wait_once_a_child_has_failed(oxherd, queue, wait, call):
    added = queue.add("any", {"do": "insist", "wait": wait}, attempts=5)
    both(oxherd)

    job = finished(queue, added.id)
    assert job.failed_reason == (
        f"Cannot complete job {added.id} because it has at least one failed child. {call}"
    )
    assert job.attempts_made == 1


def test_a_parent_that_is_not_there_is_said_to_the_processor(oxherd, queue):
    added = queue.add("any", {"do": "orphan"})
    both(oxherd)

    assert "Missing key for parent job bull:work:gone" in finished(queue, added.id).returned


def test_a_tree_of_three_levels_runs_from_its_leaves_up(oxherd, queue):
    leaves = [FlowJob("page", {"n": n}, queue="pages") for n in range(4)]
    middle = [FlowJob("part", {"do": "collect"}, children=pair) for pair in (leaves[:2], leaves[2:])]
    flow = queue.run(flows.add(FlowJob("book", {"do": "collect"}, children=middle)))
    both(oxherd)

    parts = finished(queue, flow.job.id).returned
    assert sorted(leaf["page"] for part in parts.values() for leaf in part.values()) == [0, 1, 2, 3]


def test_a_burst_is_not_over_while_a_parent_waits_for_its_children(oxherd, queue):
    added = queue.add("book", {"do": "split", "pages": 2})

    assert both(oxherd, "--burst").ended() == 0

    assert queue.state(added.id) == "completed"
