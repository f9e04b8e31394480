"""Node sees a dead letter of ours as the job it is, hears of it, and can work on it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import running
from peers import Peer
from running import Running

from supervisor.blocking import Queue
from supervisor.client.dead_letter import dead_letters

oxherd = running.oxherd  # the fixture


def test_node_reads_a_dead_letter_and_runs_it(
    node: Peer, redis_url: str, request: pytest.FixtureRequest
) -> None:
    start: Callable[..., Running] = request.getfixturevalue("oxherd")
    with Queue("work", url=redis_url) as work, Queue("dead", url=redis_url) as dead:
        failed = work.add("echo", {"do": "fail", "é": [1, None]}, attempts=2)
        assert start("--burst", "--dead-letter", "dead").ended() == 1
        (letter,) = dead.run(dead_letters())

        seen = node.ask("job", queue="dead", id=letter.id)
        assert (seen["name"], seen["delay"], seen["priority"]) == ("echo", 0, 0)
        assert seen["opts"] == {"attempts": 0}
        told = seen["data"]
        assert (told["queue"], told["id"], told["failedReason"]) == ("work", failed.id, "boom")
        assert json.loads(told["data"]) == {"do": "fail", "é": [1, None]} == letter.data
        assert told["attemptsMade"] == len(told["stacktrace"]) == 2
        assert node.ask("job", queue="dead", id=letter.id, method="getState") == "waiting"

        node.ask("worker", queue="dead")
        assert dead.result(letter.id, timeout_ms=20_000)["echo"] == told
