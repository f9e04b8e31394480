"""Says to its job what nobody should, and returns how each call ended."""

from __future__ import annotations

import math

from sandbox.processors import processor


def deep(levels):
    value = None
    for _ in range(levels):
        value = [value]
    return value


def circle():
    ring = []
    ring.append(ring)
    return ring


VALUES = {
    "none": None,
    "true": True,
    "nan": math.nan,
    "infinity": -math.inf,
    "list": [],
    "object": object(),
    "bytes": b"\xff",
    "set": {1},
    "half": "half\ud800",
    "zero": "a\0b",
    "empty": "",
    "colon": "a:b",
    "braces": "{a}{b}",
    "megabyte": "n" * 1_000_000,
    "huge": 10**400,
    "too long a number": 10**5000,
    "deep": deep(10_000),
    "circle": circle(),
    "tuple key": {("a",): 1},
    "number key": {1: 2},
}


@processor("work", name="bad")
def bad(job):
    calls = {
        "progress": job.progress,
        "log": job.log,
        "update_data": job.update_data,
        "add.queue": lambda value: job.add(value, "a", {}),
        "add.name": lambda value: job.add("other", value, {}),
        "add.data": lambda value: job.add("other", "a", value),
        "add.delay_ms": lambda value: job.add("other", "a", {}, delay_ms=value),
        "add.job_id": lambda value: job.add("other", "a", {}, job_id=value),
        "add.parent": lambda value: job.add("other", "a", {}, parent=value),
    }
    ended = {}
    for call, say in calls.items():
        for name, value in VALUES.items():
            try:
                say(value)
            except Exception as error:
                ended[f"{call} {name}"] = [type(error).__name__, str(error)]
            else:
                ended[f"{call} {name}"] = None
    job.update_data({"done": True})
    return ended
