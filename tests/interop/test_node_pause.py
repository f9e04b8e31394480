"""Pausing beside Node: version 6 as one of its own, version 5 without the losses of the recorded runs.

Version 5 renames lists when it pauses and resumes, over whatever stands in the way; interop-v5-v6-pause
records how a version 6 beside it loses jobs. We add to the list that version 5 will look at, never rename
one, and merge when we resume (core.md 12.4).
"""

from __future__ import annotations

from typing import Any

import pytest
from peers import Peer

from supervisor.blocking import Queue


class Beside:
    """Node and we take turns on one queue; at the end every job must run, once."""

    def __init__(self, node: Peer, queue: Queue, version: int) -> None:
        self.node, self.queue, self.version = node, queue, version
        self.added: list[str] = []

    def node_does(self, method: str, *args: Any) -> Any:
        return self.node.ask("queue", version=self.version, queue="q", method=method, args=list(args))

    def node_adds(self) -> None:
        self.added.append(str(self.node_does("add", "echo", {})["id"]))

    def we_add(self, **options: Any) -> None:
        self.added.append(self.queue.add("echo", {}, **options).id)

    def all_of_them_run(self) -> None:
        self.node.ask("worker", version=self.version, queue="q", name="last")
        done = self.node.until("worker", "q", "completed", len(self.added))
        assert sorted(line["args"][0] for line in done) == sorted(self.added)
        assert self.queue.counts()["waiting"] == 0


@pytest.fixture
def beside(node: Peer, queue: Queue, version: int) -> Beside:
    return Beside(node, queue, version)


@pytest.mark.parametrize(
    ("version", "pauses", "resumes"),
    [
        (6, "node", "node"),
        (6, "node", "we"),
        (6, "we", "node"),
        (6, "we", "we"),
        (5, "node", "node"),
        (5, "node", "we"),
        (5, "we", "we"),
    ],
)
def test_each_may_pause_and_resume_what_both_add_to(beside: Beside, pauses: str, resumes: str):
    """But for one: after a pause of ours, version 5's own adds and its resume lose jobs among themselves."""
    beside.we_add()
    beside.node_adds()
    beside.queue.pause() if pauses == "we" else beside.node_does("pause")
    assert beside.queue.is_paused()
    assert beside.node_does("isPaused")
    beside.we_add()
    beside.we_add(lifo=True)
    beside.we_add(priority=3)
    beside.node_adds()
    assert beside.queue.counts()["waiting"] + beside.queue.counts()["prioritized"] == 6
    beside.queue.resume() if resumes == "we" else beside.node_does("resume")
    assert not beside.queue.is_paused()
    beside.all_of_them_run()


@pytest.mark.parametrize("version", [5])
def test_what_version_5_put_aside_is_counted_listed_and_found(beside: Beside):
    beside.node_adds()
    beside.node_does("pause")
    beside.we_add()
    assert beside.queue.counts()["waiting"] == 2
    assert sorted(job.id for job in beside.queue.jobs("waiting")) == ["1", "2"]
    assert [beside.queue.state(job_id) for job_id in beside.added] == ["waiting", "waiting"]


@pytest.mark.parametrize("version", [5])
def test_a_second_pause_of_version_5_loses_nothing_of_ours(beside: Beside):
    """The recorded loss: version 5 adds to a paused queue, pauses it again and renames over its own list."""
    beside.node_does("pause")
    beside.node_adds()
    beside.we_add()
    beside.node_does("pause")
    beside.we_add()
    beside.queue.resume()
    beside.all_of_them_run()
