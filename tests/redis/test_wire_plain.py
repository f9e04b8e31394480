"""The call that most are has a way of its own through the script: it does what the careful way does.

Queues of all kinds are drawn, with calls for them; each call runs twice on the same keys, by the script as it
is and by its careful way alone. Replies and all keys are alike afterwards.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest
import redis

from supervisor.lua import source
from supervisor.protocol.commands.work import Completed, Failed, FinishAndFetch, Limiter
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

WHOLE = source(FinishAndFetch.script)
CHOICE = "return plain(now_text) or careful(now_text)\n"
CAREFUL = WHOLE.replace(CHOICE, "return careful(now_text)\n")
PLAIN = WHOLE.replace(CHOICE, 'return plain(now_text) or { err = "NOT plain" }\n')
SEED = 20_261_123
CASES = 300
BASE = "bull:paint:"
NOT_DUE = 1_900_000_000_000 * 4096


def drawn(rng: random.Random) -> tuple[list[tuple[Any, ...]], FinishAndFetch]:
    """Requests that make a queue, and a call for it. Half of them are plain, or nearly so."""
    odd = rng.choice([0.0, 0.0, 0.03, 0.15])

    def oddly() -> bool:
        return rng.random() < odd

    meta: list[Any] = ["opts.maxLenEvents", 10_000]
    for name, value in (("paused", 1), ("concurrency", 3), ("max", 2), ("duration", 1_000)):
        if oddly():
            meta += [name, value]
    if oddly():
        meta = ["opts.maxLenEvents", rng.choice(["20", "x"])]
    made: list[tuple[Any, ...]] = [("HSET", BASE + "meta", *meta)] if not oddly() else []
    job = 0

    def add(*more: Any, **changes: Any) -> str:
        nonlocal job
        job += 1
        stored = {
            "name": "n",
            "data": "{}",
            "opts": "{}",
            "timestamp": 1,
            "delay": 0,
            "priority": 0,
        } | changes
        if not oddly():
            parts = [part for pair in stored.items() for part in pair]
            made.append(("HSET", f"{BASE}{job}", *parts, *more))
        elif rng.random() < 0.5:
            made.append(("SET", f"{BASE}{job}", "no hash"))
        return str(job)

    for _ in range(rng.randrange(5)):
        again = ("ats", 1, "atm", 1) if oddly() else ()
        made.append(("LPUSH", BASE + "wait", rng.choice(["0:17", "gone"]) if oddly() else add(*again)))
    outcomes: list[Any] = []
    for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
        more = ("deid", "d") if oddly() else ("atm", rng.choice([0, 2])) if rng.random() < 0.3 else ()
        job_id = add("ats", 1, "processedOn", 5, *more)
        if not oddly():
            made.append(("LPUSH", BASE + "active", job_id))
        if not oddly():
            made.append(("SET", f"{BASE}{job_id}:lock", "t" if not oddly() else "another", "PX", 60_000))
        if more[:1] == ("deid",):
            made.append(("SET", BASE + "de:d", job_id))
        if oddly():
            made.append(("SADD", f"{BASE}{job_id}:dependencies", "bull:other:1"))
        used = b'{"cpu":1}' if rng.random() < 0.4 else b""
        outcomes.append(
            Failed(job_id, "t", "boom", "s", KEEP_ALL, 1)
            if oddly()
            else Completed(job_id, "t", b'"done"', KEEP_ALL, used=used)
        )
    if rng.random() < 0.3:
        made.append(("SADD", BASE + "stalled", "1", "99"))
    if rng.random() < 0.3:
        made.append(("SET", BASE + "pc", 7))
    if rng.random() < 0.3:
        made.append(("ZADD", BASE + "delayed", NOT_DUE, "later"))
    for name, request in (
        ("delayed", ("ZADD", BASE + "delayed", rng.choice([0, NOT_DUE]), add())),
        ("prioritized", ("ZADD", BASE + "prioritized", 1, add())),
        ("ox:cancel", ("HSET", BASE + "ox:cancel", "1", "{}")),
        *(
            (name, ("SET", BASE + name, "other"))
            for name in ("events", "completed", "marker", "active", "wait")
        ),
    ):
        if oddly():
            made.append(("DEL", BASE + name))
            made.append(request)
    call = FinishAndFetch(
        queue=QueueKeys("paint"),
        call_token="mine:1",
        now_ms=1_800_000_000_000,
        lock_ms=30_000,
        count=rng.choice([0, 1, 1, 2, 5]),
        outcomes=outcomes,
        limiter=Limiter(2, 1_000) if oddly() else None,
        worker_name="w" if rng.random() < 0.5 else "",
        metrics=5 if oddly() else 0,
        again=oddly(),
    )
    return made, call


def kept(raw: Any) -> dict[bytes, Any]:
    """All keys: their values, and whether they end. The events without the time in their ids."""
    found: dict[bytes, Any] = {}
    for key in raw.keys("*"):
        kind = raw.type(key)
        read: dict[bytes, Any] = {
            b"hash": lambda key=key: raw.hgetall(key),
            b"list": lambda key=key: raw.lrange(key, 0, -1),
            b"set": lambda key=key: raw.smembers(key),
            b"zset": lambda key=key: raw.zrange(key, 0, -1, withscores=True),
            b"string": lambda key=key: raw.get(key),
            b"stream": lambda key=key: [fields for _, fields in raw.xrange(key)],
        }
        found[key] = kind, raw.ttl(key) > 0, read[kind if isinstance(kind, bytes) else kind.encode()]()
    return found


def run(wire: Any, text: str, made: list[tuple[Any, ...]], call: FinishAndFetch) -> tuple[Any, Any]:
    wire.raw.flushall()
    for request in made:
        with contextlib.suppress(redis.ResponseError):  # of a key that is of another type by now
            wire.request(*request)
    try:
        reply = wire.request("EVAL", text, 1, *call.keys(), *call.args())
    except redis.ResponseError as error:
        reply = str(error)
    return reply, kept(wire.raw)


@pytest.mark.parametrize("part", range(5))
def test_the_plain_way_leaves_what_the_careful_way_leaves(wire: Any, part: int) -> None:
    plain = 0
    for case in range(part, CASES, 5):
        made, call = drawn(random.Random(SEED + case))
        as_it_is = run(wire, WHOLE, made, call)
        assert as_it_is == run(wire, CAREFUL, made, call), (case, made, call)
        plain += run(wire, PLAIN, made, call) == as_it_is
    assert CASES / 5 * 0.3 < plain < CASES / 5 * 0.95  # both ways were seen


def test_what_is_compared_is_the_script() -> None:
    assert CHOICE in WHOLE
