"""What Node's getters answered, recorded, and what ours answer to the same queue.

Not asked of ours: `paused` as a state of its own (jobs that BullMQ 5 put aside count as waiting), and
`wait` as another word for waiting.
"""

from __future__ import annotations

import json
from typing import Any

import comparing
import pytest
import redis
from comparing import load
from scene import Scene, completed, failed

from supervisor.client import getters
from supervisor.client.edit import register
from supervisor.protocol import fields
from supervisor.protocol.commands.read_more import Metrics


@pytest.fixture
def play(redis_url: str, raw: redis.Redis):
    with Scene(redis_url, raw, "Q").opened() as scene:
        yield scene


def test_ranges_in_both_orders_over_several_states(play: Scene) -> None:
    (step,) = load("getters-ranges")["steps"]
    recorded = step["result"]
    queue = play.queue
    queue.run(register())
    for number in range(1, 5):
        queue.add(f"w{number}", number)
    queue.add("p1", 1, priority=10)
    queue.add("p2", 1, priority=1)
    now_ms = play.clock()
    for name, delay_ms in (("d1", 90_000), ("d2", 60_000)):
        queue.add(name, 1, delay_ms=delay_ms)
    play.matches(step)
    asked = {
        "waiting_desc": (("waiting",), {"newest_first": True}),
        "waiting_asc": (("waiting",), {}),
        "wait_asc_0_1": (("waiting",), {"start": 0, "end": 1}),
        "wait_desc_0_1": (("waiting",), {"start": 0, "end": 1, "newest_first": True}),
        "wait_asc_2_9": (("waiting",), {"start": 2, "end": 9}),
        "wait_asc_5_9": (("waiting",), {"start": 5, "end": 9}),
        "prio_desc": (("prioritized",), {"newest_first": True}),
        "prio_asc": (("prioritized",), {}),
        "delayed_desc": (("delayed",), {"newest_first": True}),
        "delayed_asc": (("delayed",), {}),
        "both": (("delayed", "waiting"), {"start": 0, "end": 1}),
        "all_default": ((), {"newest_first": True}),
        "getWaiting": (("waiting",), {}),
        "getDelayed": (("delayed",), {}),
    }
    for name, (states, places) in asked.items():
        assert queue.run(getters.ids(*states, **places)) == recorded[name], name
        found = queue.run(getters.jobs(*states, **({"end": -1} | places)))
        assert [job.id for job in found] == recorded[name], name
    assert queue.run(getters.counts()) == recorded["counts"]
    assert queue.run(getters.counts("waiting"))["waiting"] == recorded["countsAlias"]["waiting"]
    assert queue.run(getters.count()) == recorded["count"]
    assert queue.run(getters.count_due_before(now_ms + 75_000)) == recorded["delayedCountBefore"]
    seen = set(recorded) - {"counts", "countsAlias", "count", "delayedCountBefore"}
    assert seen == set(asked)


def _in_our_words(entry: dict[str, Any]) -> dict[str, Any]:
    """This trace calls a time to live `ttl_ms`."""
    return {"pttl_ms" if name == "ttl_ms" else name: value for name, value in entry.items()}


def same_metrics(recorded: dict[str, Any], seen: Metrics, counted_on: int) -> None:
    assert recorded["meta"]["count"] == seen.count
    assert recorded["meta"]["prevCount"] == seen.counted
    assert (recorded["data"], recorded["count"]) == (seen.points, seen.minutes)
    assert seen.counted_on == counted_on


def test_metrics_by_the_minute_and_for_prometheus(play: Scene) -> None:
    steps = iter(load("metrics")["steps"])
    play.metrics = 100
    play.queue.run(register())
    metrics_key = play.keys.metrics("completed")
    play.attach()

    def end(outcome: Any, *args: Any) -> None:
        play.queue.add("a" if outcome is completed else "f", 1)
        play.run(lambda job: outcome(job, *args))

    def counted_on(key: str = metrics_key) -> int:
        return int(play.raw.hget(key, fields.METRIC_LAST_ON))

    def as_recorded(step: dict[str, Any], kind: str = "completed") -> None:
        # The recorded worker took jobs while others were added, so the order of its events is its own.
        keys = {key: _in_our_words(entry) for key, entry in step["keys"].items()}
        state, _ = comparing.dump(play.raw, play.keys.base)
        found = list(comparing.differences({**step, "keys": keys, "new_events": {}}, state, {}, 0))
        assert not found, "\n".join(found)
        recorded = step["result"].get("metrics", step["result"])
        same_metrics(recorded, told(kind), counted_on(play.keys.metrics(kind)))

    def told(kind: str = "completed") -> Metrics:
        return play.queue.run(getters.metrics(kind))

    end(completed, b"1")
    as_recorded(next(steps))
    for _ in range(4):
        end(completed, b"1")
    as_recorded(next(steps))
    for minutes in (1, 3):
        play.raw.hincrby(metrics_key, fields.METRIC_LAST_ON, -60_000 * minutes)
        end(completed, b"1")
        as_recorded(next(steps))
    end(failed, "x")
    last = next(steps)
    as_recorded(last, "failed")
    assert play.queue.run(getters.prometheus({"env": 't"x'})) == last["result"]["prometheus"]
    assert next(steps, None) is None, json.dumps(last)
