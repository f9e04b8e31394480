"""Compares what stands in Redis with a step of a recorded trace, key by key and field by field.

A trace holds T, T0, T1... for any epoch milliseconds, `Un:m` for a token, `T*4096+n` and `p*2^32+n` for
scores, `<frames>` for the frames of a stack. JSON members are compared parsed: two ways to write the same
value are no difference. Every difference names step, key and field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import redis

TRACES = Path(__file__).parent / "traces"

# Why a recorded field is not compared.
NOT_APPLICABLE: Mapping[tuple[str, str], str] = {
    ("meta", "version"): "names the client library, and we are another one",
}

# (trace, place of the step) -> why its keys are not compared as recorded.
NOT_COMPARED: Mapping[tuple[str, int], str] = {
    ("scheduler-paused", 2): "BullMQ leaves the job it meant to replace as an orphan; we replace it",
    (
        "scheduler-collision",
        0,
    ): "BullMQ's chain of runs ends without a word; ours takes the next free slot",
    ("v5-legacy-repeat", 0): "made by BullMQ 5; written here by hand, from the record itself",
}
# Traces of which no test loads anything.
NOT_REPLAYED: Mapping[str, str] = {
    "interop-v5-v6-pause": "two other clients lose jobs together; what we do is in test_node_pause.py",
}

_compared: dict[tuple[str, int], bool] = {}

_JSON_FIELDS = frozenset({"data", "opts", "progress", "returnvalue", "parent", "stacktrace"})
_JSON_EVENT_FIELDS = frozenset({"returnvalue", "data"})
_TIME = re.compile(r"T\d*$")
_BARE_TIME = re.compile(r"(?<=:)T\d*(?=[,}])")
_DELAYED_SCORE = re.compile(r"T\d*\*4096(?:\+(\d+))?$")
_PRIORITIZED_SCORE = re.compile(r"(\d+)\*2\^32\+(\d+)$")
_TOKEN = re.compile(r"U(?:UID)?\d+:\d+$")
_FRAMES = re.compile(r"\n.*", re.DOTALL)
_STACKS = re.compile(r"<JSON array of stack strings, (\d+) item\(s\)>")
_EPOCHS = range(1_500_000_000_000, 2_500_000_000_000)

State = dict[str, dict[str, Any]]
Events = dict[str, list[dict[str, str]]]


def load(name: str) -> dict[str, Any]:
    """A trace. A test that loads one has to compare each of its steps, or `NOT_COMPARED` says why not."""
    trace: dict[str, Any] = json.loads((TRACES / f"{name}.json").read_text(encoding="utf-8"))
    for place, step in enumerate(trace["steps"]):
        step["of"] = [name, place]
        if "events" not in step:
            step.setdefault("new_events", {})
        _compared.setdefault((name, place), False)
    return trace


def begin() -> None:
    """A test begins: it has loaded nothing yet."""
    _compared.clear()


def mistakes() -> Iterator[str]:
    """What a test has left out of the traces it loaded, and reasons that are reasons no more."""
    for (name, place), compared in _compared.items():
        listed = (name, place) in NOT_COMPARED
        if not compared and not listed:
            yield f"{name}, step {place}: was loaded and not compared; do, or say why in NOT_COMPARED"
        if compared and listed:
            yield f"{name}, step {place}: is compared, so it is wrong in NOT_COMPARED"


def dump(client: redis.Redis, base: str) -> tuple[State, Events]:
    """Everything of one queue: its keys, and its events without their ids."""
    state: State = {}
    events: Events = {}
    for raw_key in client.scan_iter(match=f"{_escaped(base)}:*", count=1_000):
        key = raw_key.decode()
        kind = client.type(key).decode()
        if kind == "stream":
            events[key] = [_texts(entry) for _, entry in client.xrange(key)]
            continue
        state[key] = {"type": kind, "value": _value(client, key, kind)}
        if client.pttl(key) > 0:
            state[key]["pttl_ms"] = client.pttl(key)
    return state, events


def differences(step: Mapping[str, Any], state: State, events: Events, told_before: int) -> Iterator[str]:
    """One sentence for each difference. Some traces list only new events: `told_before` counts the others."""
    if "of" in step:
        name, place = step["of"]
        _compared[name, place] = True
    where = f"step {step['step']!r}"
    recorded = {key: entry for key, entry in step["keys"].items() if entry["type"] != "stream"}
    for key in sorted(set(recorded) | set(state)):
        if key not in state:
            yield f"{where}, {key}: should be {recorded[key]['value']!r} and is not there"
        elif key not in recorded:
            yield f"{where}, {key}: should not be there and is {state[key]['value']!r}"
        else:
            yield from (f"{where}, {key}{text}" for text in _entry(key, recorded[key], state[key]))
    yield from (f"{where}, {text}" for text in _all_events(step, events, told_before))


def _entry(key: str, recorded: Mapping[str, Any], seen: Mapping[str, Any]) -> Iterator[str]:
    if recorded["type"] != seen["type"]:
        yield f": should be a {recorded['type']} and is a {seen['type']}"
        return
    expires = "pttl_ms" in recorded or "ttl_ms" in recorded
    if expires != ("pttl_ms" in seen):
        yield f": should {'' if expires else 'not '}expire"
    if recorded["type"] == "hash":
        yield from _hash(key, recorded["value"], seen["value"])
    elif recorded["type"] == "zset":
        yield from _zset(recorded["value"], seen["value"])
    elif recorded["type"] == "string":
        if not _same_text(recorded["value"], seen["value"]):
            yield f": should be {recorded['value']!r} and is {seen['value']!r}"
    elif recorded["value"] != seen["value"]:
        yield f": should be {recorded['value']!r} and is {seen['value']!r}"


def _hash(key: str, recorded: Mapping[str, str], seen: Mapping[str, str]) -> Iterator[str]:
    for field in sorted(set(recorded) | set(seen)):
        if (key.rpartition(":")[2], field) in NOT_APPLICABLE:
            continue
        if field not in seen:
            yield f", field {field}: should be {recorded[field]!r} and is not there"
        elif field not in recorded:
            yield f", field {field}: should not be there and is {seen[field]!r}"
        elif not _same_field(field, recorded[field], seen[field], _JSON_FIELDS):
            yield f", field {field}: should be {recorded[field]!r} and is {seen[field]!r}"


def _zset(recorded: list[list[str]], seen: list[list[str]]) -> Iterator[str]:
    if [member for member, _ in recorded] != [member for member, _ in seen]:
        yield f": should be {recorded!r} and is {seen!r}"
        return
    for (member, score), (_, seen_score) in zip(recorded, seen, strict=True):
        if not _same_score(score, seen_score):
            yield f", member {member}: the score should be {score} and is {seen_score}"


def _all_events(step: Mapping[str, Any], events: Events, told_before: int) -> Iterator[str]:
    if "new_events" in step:
        told = {key: entries[told_before:] for key, entries in events.items()}
        recorded = step["new_events"]
    else:
        told, recorded = events, step["events"]
    for key in sorted(set(told) | set(recorded)):
        want = [{k: v for k, v in entry.items() if k != "id"} for entry in recorded.get(key, [])]
        have = told.get(key, [])
        for place in range(max(len(want), len(have))):
            expected = want[place] if place < len(want) else None
            seen = have[place] if place < len(have) else None
            if expected is None or seen is None or not _same_event(expected, seen):
                yield f"{key}, event {place}: should be {expected!r} and is {seen!r}"
                return


def _same_event(recorded: Mapping[str, str], seen: Mapping[str, str]) -> bool:
    return recorded.keys() == seen.keys() and all(
        _same_field(field, recorded[field], seen[field], _JSON_EVENT_FIELDS) for field in recorded
    )


def _same_field(field: str, recorded: str, seen: str, in_json: frozenset[str]) -> bool:
    if field not in in_json:
        return _same_text(recorded, seen)
    if stacks := _STACKS.match(recorded):
        return len(json.loads(seen)) == int(stacks[1])
    return _same_value(json.loads(_BARE_TIME.sub('"T"', recorded)), json.loads(seen))


def _same_value(recorded: Any, seen: Any) -> bool:
    if recorded == "T":
        return seen in _EPOCHS
    if isinstance(recorded, dict):
        return (
            isinstance(seen, dict)
            and recorded.keys() == seen.keys()
            and all(_same_value(recorded[key], seen[key]) for key in recorded)
        )
    if isinstance(recorded, list):
        return (
            isinstance(seen, list)
            and len(recorded) == len(seen)
            and all(_same_value(*both) for both in zip(recorded, seen, strict=True))
        )
    if isinstance(recorded, str) and recorded.endswith("<frames>"):
        return isinstance(seen, str) and _FRAMES.sub("", recorded) == _FRAMES.sub("", seen)
    return bool(recorded == seen) and type(recorded) is type(seen)


def _same_text(recorded: str, seen: str) -> bool:
    if _TIME.match(recorded):
        return seen.isdigit() and int(seen) in _EPOCHS
    if _TOKEN.match(recorded):
        return bool(seen)
    return recorded == seen


def _same_score(recorded: str, seen: str) -> bool:
    score = float(seen)
    if _TIME.match(recorded):
        return int(score) in _EPOCHS
    if delayed := _DELAYED_SCORE.match(recorded):
        due_on, place = divmod(int(score), 4096)
        return due_on in _EPOCHS and place == int(delayed[1] or 0)
    if prioritized := _PRIORITIZED_SCORE.match(recorded):
        return score == int(prioritized[1]) * 2**32 + int(prioritized[2])
    return score == float(recorded)


def _value(client: redis.Redis, key: str, kind: str) -> Any:
    if kind == "hash":
        return _texts(client.hgetall(key))
    if kind == "list":
        return [item.decode() for item in client.lrange(key, 0, -1)]
    if kind == "zset":
        return [
            [member.decode(), repr(score)] for member, score in client.zrange(key, 0, -1, withscores=True)
        ]
    if kind == "set":
        return sorted(member.decode() for member in client.smembers(key))
    return client.get(key).decode()


def _texts(pairs: Mapping[bytes, bytes]) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in pairs.items()}


def _escaped(text: str) -> str:
    return re.sub(r"([\[\]*?\\])", r"\\\1", text)
