"""The comparison with the traces must be able to fail: one test for each way in which Redis can differ."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comparing
import pytest

NOW = "1795000000000"
EVENTS = {
    "bull:q:events": [{"event": "added", "jobId": "1"}, {"event": "delayed", "jobId": "1", "delay": NOW}]
}
STEP = {
    "step": "one",
    "keys": {
        "bull:q:1": {
            "type": "hash",
            "value": {
                "timestamp": "T",
                "opts": '{"timestamp":T,"attempts":0}',
                "stacktrace": '["E: x\\n    <frames>"]',
            },
        },
        "bull:q:1:lock": {"type": "string", "value": "U1:0", "pttl_ms": 5},
        "bull:q:wait": {"type": "list", "value": ["1"]},
        "bull:q:delayed": {"type": "zset", "value": [["1", "T*4096+1"]]},
        "bull:q:prioritized": {"type": "zset", "value": [["1", "2*2^32+3"]]},
        "bull:q:meta": {"type": "hash", "value": {"version": "theirs"}},
    },
    "events": {
        "bull:q:events": [{"event": "added", "jobId": "1"}, {"event": "delayed", "jobId": "1", "delay": "T"}]
    },
}
STATE = {
    "bull:q:1": {
        "type": "hash",
        "value": {
            "timestamp": NOW,
            "opts": f'{{"attempts": 0, "timestamp": {NOW}}}',
            "stacktrace": '["E: x\\n  at ours"]',
        },
    },
    "bull:q:1:lock": {"type": "string", "value": "w:0", "pttl_ms": 99},
    "bull:q:wait": {"type": "list", "value": ["1"]},
    "bull:q:delayed": {"type": "zset", "value": [["1", str(int(NOW) * 4096 + 1)]]},
    "bull:q:prioritized": {"type": "zset", "value": [["1", str(2 * 2**32 + 3)]]},
    "bull:q:meta": {"type": "hash", "value": {"version": "ours"}},
}


def differences(state: Any, events: Any) -> list[str]:
    return list(comparing.differences(STEP, state, events, 0))


def test_what_differs_only_in_time_tokens_frames_and_order_of_json_is_the_same():
    assert differences(STATE, EVENTS) == []


def _set(key: str, value: Any) -> Callable[[Any, Any], None]:
    def change(state: Any, events: Any) -> None:
        state[key]["value"] = value

    return change


def _field(name: str, value: str) -> Callable[[Any, Any], None]:
    def change(state: Any, events: Any) -> None:
        state["bull:q:1"]["value"][name] = value

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state, events: state.pop("bull:q:wait"), "bull:q:wait: should be"),
        (lambda state, events: state.update(x={"type": "string", "value": "1"}), "x: should not be there"),
        (lambda state, events: state["bull:q:1:lock"].pop("pttl_ms"), "bull:q:1:lock: should expire"),
        (lambda state, events: state["bull:q:wait"].update(type="set"), "bull:q:wait: should be a list"),
        (_set("bull:q:wait", ["1", "2"]), "bull:q:wait: should be ['1']"),
        (_set("bull:q:1:lock", ""), "bull:q:1:lock: should be 'U1:0'"),
        (
            _set("bull:q:delayed", [["1", str(int(NOW) * 4096)]]),
            "bull:q:delayed, member 1: the score should be",
        ),
        (_set("bull:q:delayed", [["2", str(int(NOW) * 4096 + 1)]]), "bull:q:delayed: should be"),
        (_set("bull:q:prioritized", [["1", "5"]]), "bull:q:prioritized, member 1: the score"),
        (_field("timestamp", "17"), "bull:q:1, field timestamp: should be 'T' and is '17'"),
        (_field("opts", '{"attempts": 1}'), "bull:q:1, field opts"),
        (_field("opts", '{"attempts": false, "timestamp": 1795000000000}'), "bull:q:1, field opts"),
        (_field("stacktrace", '["E: y\\n  at ours"]'), "bull:q:1, field stacktrace"),
        (_field("more", "1"), "bull:q:1, field more: should not be there"),
        (lambda state, events: state["bull:q:1"]["value"].pop("opts"), "bull:q:1, field opts: should be"),
        (lambda state, events: events["bull:q:events"].pop(), "bull:q:events, event 1: should be"),
        (lambda state, events: events["bull:q:events"].append({"event": "x"}), "event 2: should be None"),
        (lambda state, events: events["bull:q:events"][1].update(delay="x"), "bull:q:events, event 1"),
        (lambda state, events: events["bull:q:events"][0].update(prev="x"), "bull:q:events, event 0"),
    ],
)
def test_each_difference_is_told_with_step_key_and_field(change: Callable[[Any, Any], Any], told: str):
    state, events = copy.deepcopy(STATE), copy.deepcopy(EVENTS)
    change(state, events)
    found = differences(state, events)
    assert len(found) == 1
    assert found[0].startswith("step 'one', ")
    assert told in found[0]


def test_a_trace_of_which_a_step_is_left_out_fails_the_test_that_loads_it():
    steps = comparing.load("08_lifo")["steps"]
    assert len(list(comparing.mistakes())) == len(steps) == 2
    list(comparing.differences(steps[0], {}, {}, 0))
    (told,) = comparing.mistakes()
    assert told.startswith("08_lifo, step 1: was loaded and not compared")
    comparing.begin()


def test_every_trace_is_replayed_or_there_is_a_reason_why_not():
    """That a test which loads one compares every step is seen to by a fixture in conftest.py."""
    loaded = {
        node.value
        for path in Path(__file__).parent.glob("test_traces*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    traces = {path.stem for path in comparing.TRACES.glob("*.json")}
    assert len(traces) > 50
    assert traces - loaded == set(comparing.NOT_REPLAYED)
    assert {name for name, _ in comparing.NOT_COMPARED} <= traces & loaded
    for name, place in comparing.NOT_COMPARED:
        assert place < len(comparing.load(name)["steps"])
    comparing.begin()
