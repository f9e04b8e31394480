"""Node's getters and ours look at one queue: workers, listeners, counts, metrics, events of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import running
from peers import Peer
from running import Running, until

from supervisor.blocking import Queue, listen
from supervisor.client import getters
from supervisor.client.listen import publish

oxherd = running.oxherd  # the fixture


def test_each_lists_the_workers_of_the_other(
    node: Peer, redis_url: str, request: pytest.FixtureRequest
) -> None:
    start: Callable[..., Running] = request.getfixturevalue("oxherd")
    start("--worker-name", "ours").until("master.started")
    node.ask("worker", queue="work", name="theirs")
    with Queue("work", url=redis_url) as queue:

        def names() -> set[str]:
            return {worker.name for worker in queue.run(getters.workers())}

        until(lambda: names() == {"ours", "theirs"}, "both are listed by us")
        listed = node.ask("queue", queue="work", method="getWorkers")
        assert {worker["rawname"].rpartition(":")[2] for worker in listed} == {"ours", "theirs"}
        assert node.ask("queue", queue="work", method="getWorkersCount") == 2


def test_each_lists_the_listeners_of_the_other(node: Peer, queue: Queue) -> None:
    node.ask("events", queue="q")
    until(lambda: len(queue.run(getters.listeners())) == 1, "Node's listener is listed")
    queue.add("echo", {})
    events = listen(queue, since="0-0")
    next(events)
    queue.run(publish("mine", {"n": 1}))  # the connection is held after the first read that waits
    while next(events).name != "mine":
        pass
    asked = node.send("queue", queue="q", method="getQueueEvents")
    assert len(node.answer(asked)) == 2
    events.close()


def test_counts_and_metrics_read_the_same_on_both_sides(node: Peer, queue: Queue) -> None:
    queue.add_bulk(
        [("j", {}), ("j", {}, {"priority": 2}), ("j", {}, {"priority": 2}), ("j", {}, {"delay_ms": 9_000})]
    )

    def theirs(method: str, *args: Any) -> Any:
        return node.ask("queue", queue="q", method=method, args=list(args))

    assert theirs("getJobCounts") == queue.run(getters.counts())
    assert theirs("count") == queue.run(getters.count()) == 4
    ours = queue.run(getters.counts_by_priority(0, 1, 2))
    assert theirs("getCountsPerPriority", [0, 1, 2]) == {str(each): n for each, n in ours.items()}
    assert theirs("exportPrometheusMetrics") == queue.run(getters.prometheus())
    assert theirs("getMetrics", "completed")["count"] == queue.run(getters.metrics("completed")).minutes
    assert theirs("getMeta")["maxLenEvents"] == queue.run(getters.meta()).max_events


def test_events_of_ones_own_reach_the_listeners_of_the_other(node: Peer, queue: Queue) -> None:
    node.ask("events", queue="q", names=["ours"])
    queue.run(publish("ours", {"n": 1, "text": "x"}))
    (told,) = node.until("events", "q", "ours")
    assert told["args"][0] == {"n": "1", "text": "x"}

    node.ask("publish", queue="q", event={"eventName": "theirs", "jobId": "7", "m": 2})
    events = listen(queue, since="0-0")
    seen = [next(events), next(events)]
    events.close()
    assert [event.name for event in seen] == ["ours", "theirs"]
    assert (seen[1].job_id, seen[1].values) == ("7", {"m": "2"})
