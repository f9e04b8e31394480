"""What must hold of a queue's keys after each operation, whoever performed it. Reads all, writes nothing.

Each rule is a function of a `Snapshot` that yields one sentence for each breach. `idle_until` is the moment
at which a worker that waits on the marker looks again of its own accord: what it knows of the next due job,
or 0 when it only waits for the rate to allow the next one. What is ready before the marker must tell.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

LISTS = ("wait", "paused", "active")
ZSETS = ("delayed", "prioritized", "waiting-children", "completed", "failed")
PARTS = frozenset({*LISTS, *ZSETS, "id", "pc", "marker", "meta", "events", "stalled", "stalled-check"}) | {
    "limiter",
    "repeat",
}
SIDES = ("lock", "logs", "dependencies", "processed", "failed", "unsuccessful")
META = frozenset({"opts.maxLenEvents", "version", "paused", "concurrency", "max", "duration"})

# The last event that tells where a job is, to the places where it then is.
TELLS = {
    "waiting": {"wait", "prioritized"},
    "delayed": {"delayed"},
    "active": {"active"},
    "completed": {"completed"},
    "failed": {"failed"},
    "waiting-children": {"waiting-children"},
}
READERS = {
    "string": lambda pipe, key: pipe.get(key),
    "list": lambda pipe, key: pipe.lrange(key, 0, -1),
    "set": lambda pipe, key: pipe.smembers(key),
    "zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    "hash": lambda pipe, key: pipe.hgetall(key),
    "stream": lambda pipe, key: pipe.xrange(key),
}


@dataclass
class Snapshot:
    """All keys of one queue, without its prefix. `where`: id to its places, with repetitions."""

    base: str
    keys: dict[str, Any]
    ttl_ms: dict[str, int]
    where: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    last_told: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place in (*LISTS, *ZSETS):
            for member in self.keys.get(place, ()):
                self.where.setdefault(member if place in LISTS else member[0], []).append(place)
        for name, value in self.keys.items():
            if isinstance(value, dict) and _is_job(name, value):
                self.jobs[name] = value
        for entry in self.keys.get("events", ()):
            if entry["event"] in TELLS:
                self.last_told[entry["jobId"]] = (entry["event"], entry)

    def members(self, place: str) -> list[str]:
        return [job_id for job_id, places in self.where.items() if place in places]

    def state(self, job_id: str) -> str | None:
        return next(iter(self.where.get(job_id, ())), None)

    @property
    def held(self) -> bool:
        """Paused, or as many active as may be."""
        meta = self.keys.get("meta", {})
        most = meta.get("concurrency")
        return "paused" in meta or (most is not None and len(self.keys.get("active", ())) >= int(most))

    @property
    def takeable(self) -> bool:
        return bool(self.keys.get("wait") or self.keys.get("prioritized")) and not self.held

    @property
    def first_due_on(self) -> int | None:
        delayed = self.keys.get("delayed")
        return math.floor(delayed[0][1] / 4096) if delayed else None

    @property
    def markers(self) -> dict[str, float]:
        return dict(self.keys.get("marker", ()))


def _is_job(name: str, value: dict[str, str]) -> bool:
    if name in PARTS or name.startswith(("dn:", "metrics:")) or name.endswith((":processed", ":failed")):
        return False
    return not (name.startswith("repeat:") and "ic" in value)


def take(client: redis.Redis, base: str) -> Snapshot:
    names = sorted(client.scan_iter(match=f"{base}:*", count=10_000))
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.type(name)
        pipe.pttl(name)
    answers = pipe.execute()
    kinds = [kind.decode() for kind in answers[::2]]
    for name, kind in zip(names, kinds, strict=True):
        READERS.get(kind, lambda pipe, key: pipe.get(key))(pipe, name)
    values = pipe.execute()
    short = [name.decode()[len(base) + 1 :] for name in names]
    return Snapshot(
        base,
        {name: _texts(kind, value) for name, kind, value in zip(short, kinds, values, strict=True)},
        dict(zip(short, answers[1::2], strict=True)),
    )


def _texts(kind: str, value: Any) -> Any:
    if kind == "hash":
        return {key.decode(): text.decode() for key, text in value.items()}
    if kind == "stream":
        return [{key.decode(): text.decode() for key, text in entry.items()} for _, entry in value]
    if kind == "zset":
        return [(member.decode(), score) for member, score in value]
    if kind in ("list", "set"):
        return [member.decode() for member in value]
    return value.decode()


# --- the rules ------------------------------------------------------------------------------------------


def one_state(now: Snapshot) -> Iterator[str]:
    for job_id, places in now.where.items():
        if len(places) > 1:
            yield f"{job_id} stands in {' and '.join(places)}"
        if job_id not in now.jobs:
            yield f"{job_id} stands in {places[0]} and has no hash"
    for job_id in now.jobs.keys() - now.where.keys():
        yield f"{job_id} has a hash and no state"


def whole_hashes(now: Snapshot) -> Iterator[str]:
    for job_id, fields in now.jobs.items():
        state = now.state(job_id)
        if missing := {"name", "data", "opts", "timestamp", "delay", "priority"} - fields.keys():
            yield f"{job_id} lacks {sorted(missing)}"
            continue
        if ("finishedOn" in fields) != (state in ("completed", "failed")):
            yield f"{job_id} is {state} and {'has' if 'finishedOn' in fields else 'lacks'} finishedOn"
        wanted = {"completed": "returnvalue", "failed": "failedReason"}.get(state or "", "name")
        if wanted not in fields:
            yield f"{job_id} is {state} without {wanted}"
        if state in ("wait", "prioritized") and fields["delay"] != "0":
            yield f"{job_id} waits with a delay of {fields['delay']}"
        if state == "active" and "processedOn" not in fields:
            yield f"{job_id} is active without processedOn"
        # What comes back from a lost worker, or from its last child, goes to the front of all.
        came_back = now.last_told.get(job_id, ("", {}))[1].get("prev") in ("active", "waiting-children")
        if (state == "wait" and fields["priority"] != "0" and not came_back) or (
            state == "prioritized" and fields["priority"] == "0"
        ):
            yield f"{job_id} is in {state} with priority {fields['priority']}"
        for name in ("data", "opts"):
            json.loads(fields[name])


def side_keys(now: Snapshot) -> Iterator[str]:
    for name in now.keys:
        job_id, _, side = name.rpartition(":")
        if side not in SIDES or job_id in ("", "metrics") or name in now.jobs:
            continue
        if job_id not in now.jobs:
            yield f"{name} is there without its job"
        elif side == "lock" and now.state(job_id) != "active":
            yield f"{job_id} is {now.state(job_id)} and locked"


def scores(now: Snapshot) -> Iterator[str]:
    for job_id, score in now.keys.get("prioritized", ()):
        if int(score) >> 32 != int(now.jobs.get(job_id, {}).get("priority", -1)):
            yield f"{job_id} stands at {score}, which is not its priority"
    for job_id, score in now.keys.get("delayed", ()):
        event, fields = now.last_told.get(job_id, ("", {}))
        if event == "delayed" and int(score) // 4096 != int(fields["delay"]):
            yield f"{job_id} is due on {int(score) // 4096} and was told to be due on {fields['delay']}"
    for state in ("completed", "failed"):
        for job_id, score in now.keys.get(state, ()):
            if str(int(score)) != now.jobs.get(job_id, {}).get("finishedOn"):
                yield f"{job_id} stands in {state} at {score}, which is not its finishedOn"


def told(now: Snapshot) -> Iterator[str]:
    for job_id in now.jobs:
        event = now.last_told.get(job_id, ("nothing", {}))[0]
        if now.state(job_id) not in TELLS.get(event, ()):
            yield f"{job_id} is in {now.state(job_id)} and the last that was told of it is {event}"


def markers(now: Snapshot, idle_until: float) -> Iterator[str]:
    found = now.markers
    if now.takeable and "0" not in found and idle_until:
        yield "a job may be taken and there is no base marker"
    if "paused" in now.keys.get("meta", {}) and "0" in found:
        yield "the queue is paused and has a base marker"
    due_on = now.first_due_on
    if due_on is None or now.held or "0" in found:
        return
    known = min(found.get("1", math.inf), idle_until)
    if math.floor(known if known < math.inf else due_on + 1) > due_on:
        yield f"a job is due on {due_on} and a worker that waits will look on {known}"


def families(now: Snapshot) -> Iterator[str]:
    for name, value in now.keys.items():
        parent, _, side = name.rpartition(":")
        if side != "dependencies":
            continue
        for child_key in value:
            child = child_key.removeprefix(now.base + ":")
            if child not in now.jobs:
                yield f"{parent} waits for {child}, which is not there"
            elif now.jobs[child].get("parentKey") != f"{now.base}:{parent}":
                yield f"{parent} waits for {child}, whose parent is {now.jobs[child].get('parentKey')}"
            elif now.state(child) == "completed":
                yield f"{parent} waits for {child}, which has completed"
    for parent in now.members("waiting-children"):
        if not now.keys.get(f"{parent}:dependencies"):
            yield f"{parent} waits for children and has none pending"


def deduplication(now: Snapshot) -> Iterator[str]:
    for name, value in now.keys.items():
        if name.startswith("de:") and now.ttl_ms[name] == -1:
            if value not in now.jobs:
                yield f"{name} names {value}, which is not there, and has no end"
            elif now.state(value) in ("completed", "failed"):
                yield f"{name} names {value}, which has {now.state(value)}, and has no end"
            elif now.jobs[value].get("deid") != name[3:]:
                yield f"{name} names {value}, which is of {now.jobs[value].get('deid')}"


def own_keys(now: Snapshot) -> Iterator[str]:
    meta = now.keys.get("meta", {})
    if unknown := meta.keys() - META:
        yield f"meta has {sorted(unknown)}"
    if ("max" in meta) != ("duration" in meta):
        yield "meta has a rate of which half is missing"
    if "paused" in now.keys:
        yield "there is a list `paused`, which nobody writes any more"
    highest = max((int(job_id) for job_id in now.jobs if job_id.isdigit()), default=0)
    if int(now.keys.get("id", 0)) < highest:
        yield f"the counter says {now.keys.get('id', 0)} and there is a job {highest}"
    for scheduler_id, due_on in now.keys.get("repeat", ()):
        if f"repeat:{scheduler_id}" not in now.keys:
            yield f"scheduler {scheduler_id} has no hash"
        pending = f"repeat:{scheduler_id}:{int(due_on)}"
        running = any(f"repeat:{scheduler_id}:" in job_id for job_id in now.where)
        if pending not in now.jobs and running:
            yield f"scheduler {scheduler_id} has no pending run {pending}"


RULES = (one_state, whole_hashes, side_keys, scores, told, families, deduplication, own_keys)


def breaches(now: Snapshot, idle_until: float) -> list[str]:
    """Every breach of every rule, as `<rule>: <sentence>`."""
    found = [f"{rule.__name__}: {text}" for rule in RULES for text in rule(now)]
    return found + [f"markers: {text}" for text in markers(now, idle_until)]
