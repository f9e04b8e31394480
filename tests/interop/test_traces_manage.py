"""The recorded traces of managing a queue, replayed through our client and compared key by key.

Where we do on purpose what BullMQ does not (docs/explain/wire.md), the recorded step is changed here, by name
of what differs, before it is compared. The job schedulers of drain and obliterate are written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from comparing import load
from scene import Scene, completed, failed, retried

from supervisor.client.edit import (
    change_delay,
    change_priority,
    clear_log,
    set_global_concurrency,
    set_global_rate_limit,
)
from supervisor.client.manage import (
    forget_events,
    is_maxed,
    obliterate,
    promote_all,
    rate_limit,
    rate_limit_ttl_ms,
    remove_orphaned,
    remove_rate_limit,
    retry_all,
)
from supervisor.errors import JobNotFound, JobNotInState, UsageError
from supervisor.protocol.commands.work import FetchedJob, Outcome
from supervisor.protocol.deduplication import Deduplication

Open = Callable[[str], AbstractContextManager[Scene]]


@pytest.fixture
def scene(redis_url: str, raw: redis.Redis) -> Open:
    def open_scene(name: str) -> AbstractContextManager[Scene]:
        return Scene(redis_url, raw, name).opened()

    return open_scene


def steps(name: str) -> Iterator[dict[str, Any]]:
    return iter(load(name)["steps"])


def by_name(job: FetchedJob) -> Outcome:
    return failed(job, "boom") if job.name == "f" else completed(job, b"1")


def restore(play: Scene, step: dict[str, Any], names: dict[str, str]) -> None:
    """Write what is recorded under the keys that begin with these words; `names` are the times in them."""
    for key, entry in step["keys"].items():
        if entry["type"] == "stream":
            continue
        for word, now in names.items():
            key = key.replace(word, now)
        text = json.dumps(entry["value"])
        for word, now in names.items():
            text = text.replace(word, now)
        value = json.loads(text)
        if entry["type"] == "hash":
            play.raw.hset(key, mapping=value)
        elif entry["type"] == "zset":
            play.raw.zadd(key, {member: _score(score) for member, score in value})
        elif entry["type"] == "list":
            play.raw.rpush(key, *value)
        elif entry["type"] == "string":
            play.raw.set(key, value)


def _score(text: str) -> float:
    base, _, factor = text.partition("*")
    return float(base) * float(factor or 1)


def ids(play: Scene, key: str) -> list[str]:
    kind = play.raw.type(key)
    found = play.raw.lrange(key, 0, -1) if kind == b"list" else play.raw.zrange(key, 0, -1)
    return [member.decode() for member in found]


def test_clean(scene: Open) -> None:
    step = steps("clean")
    with scene("Q") as play:
        for n in range(3):
            play.queue.add("ok", {"i": n})
        play.queue.add("f", {})
        play.attach()
        play.run(by_name)
        for n in range(3):
            play.queue.add("w", {"i": n})
        play.queue.add("d", {}, delay_ms=60_000)
        play.queue.add("p", {}, priority=1)
        play.matches(next(step))
        for state, options in (
            ("completed", {"grace_ms": 60_000}),
            ("completed", {"limit": 2}),
            ("completed", {}),
            ("failed", {}),
            ("waiting", {"limit": 1}),
            ("waiting", {}),
            ("delayed", {}),
            ("prioritized", {}),
        ):
            recorded = next(step)
            removed = play.queue.clean(state, **options)
            assert sorted(removed) == sorted(recorded["result"]), recorded["step"]
            play.matches(recorded)


def test_drain(scene: Open) -> None:
    step = steps("drain")
    with scene("Q") as play:
        recorded = next(step)
        now = play.clock()
        times = {f"T{n}": str(now + 60_000 * n) for n in (8, 7, 5, 3)}
        restore(play, recorded, {**times, "T": str(now)})
        waiting, delayed = f"repeat:s:{times['T3']}", f"repeat:c:{times['T8']}"
        assert ids(play, play.keys.wait) == [waiting, "2", "1"]

        assert play.queue.drain() == 3
        # BullMQ leaves the id of a removed job here, and the scheduler's job in no list.
        assert next(step)["keys"]["bull:Q:wait"]["value"] == ["1"]
        assert ids(play, play.keys.wait) == [waiting]
        assert ids(play, play.keys.delayed) == ["4", delayed]
        assert not play.raw.exists(play.keys.prioritized, *map(play.keys.job, "123"))

        assert play.queue.drain(delayed=True) == 1
        assert ids(play, play.keys.wait) == [waiting]
        assert ids(play, play.keys.delayed) == [delayed]
        for left in ("1", waiting, delayed, "4"):
            assert play.raw.exists(play.keys.job(left)) == (left.startswith("repeat:"))
        assert ids(play, play.keys.repeat) == ["s", "c"]
        assert not play.raw.exists(play.keys.events)


def test_obliterate(scene: Open) -> None:
    step = steps("obliterate")
    with scene("Q") as play:
        recorded = next(step)
        times = {f"T{n}": str(play.clock() + 60_000 * n) for n in (12, 10)}
        restore(play, recorded, {**times, "T": str(play.clock())})
        recorded = next(step)
        with pytest.raises(UsageError, match=recorded["result"]["error"]):
            play.queue.run(obliterate())
        assert play.queue.is_paused()
        assert play.raw.exists(play.keys.job("2"), play.keys.wait, play.keys.repeat) == 3
        play.queue.run(obliterate(force=True))
        assert not next(step)["keys"]
        assert play.raw.keys("bull:Q:*") == []


def test_retry_of_many(scene: Open) -> None:
    step = steps("retryjobs")
    with scene("Q") as play:
        _three_failed_and_one_completed(play, next(step))

        assert play.queue.run(retry_all()) == 3
        next(step)
        # BullMQ forgets the priority.
        assert ids(play, play.keys.wait) == ["2", "1"]
        assert ids(play, play.keys.prioritized) == ["3"]

        assert play.queue.run(retry_all("completed")) == 1
        next(step)
        assert ids(play, play.keys.wait) == ["4", "2", "1"]
        assert not play.raw.exists(play.keys.failed, play.keys.completed)

        play.queue.run(obliterate())
        play.queue.resume()
        play.queue.add("g", {}, attempts=2, priority=4)
        play.run(lambda job: retried(job, "boom") if job.attempts_made == 0 else failed(job, "boom"))
        next(step)
        play.queue.retry("5" if play.raw.exists(play.keys.job("5")) else "1", reset_attempts=True)
        assert [place for place in next(step)["keys"] if "prioritized" in place]
        assert play.queue.counts()["prioritized"] == 1
        with pytest.raises(JobNotInState, match=r"Job 1 is not in the failed state\. reprocessJob"):
            play.queue.retry("1")


def _three_failed_and_one_completed(play: Scene, recorded: dict[str, Any]) -> None:
    play.queue.add("f", {})
    play.queue.add("f", {})
    play.queue.add("f", {}, priority=9)
    play.queue.add("ok", {})
    play.attach()
    play.run(by_name)
    assert play.queue.counts() == dict.fromkeys(play.queue.counts(), 0) | {"failed": 3, "completed": 1}
    assert [member for member, _ in recorded["keys"]["bull:Q:failed"]["value"]] == ["1", "2", "3"]


def test_promote_and_change_of_delay(scene: Open) -> None:
    step = steps("promote")
    with scene("Q") as play:
        recorded = next(step)
        for n, name in enumerate("abcd", start=1):
            options = recorded["keys"][f"bull:Q:{n}"]["value"]
            play.queue.add(
                name,
                json.loads(options["data"]),
                delay_ms=json.loads(options["opts"])["delay"],
                **({"priority": int(options["priority"])} if options["priority"] != "0" else {}),
            )
        play.queue.add("w", json.loads(recorded["keys"]["bull:Q:5"]["value"]["data"]))
        play.matches(recorded)
        play.queue.promote("1")
        play.matches(next(step))
        play.queue.promote("2")
        play.matches(next(step))
        with pytest.raises(JobNotInState, match=next(step)["result"]["error"]):
            play.queue.promote("5")
        play.queue.run(change_delay("3", 10_000))
        play.matches(next(step))
        with pytest.raises(JobNotInState, match=next(step)["result"]["error"]):
            play.queue.run(change_delay("5", 10_000))
        assert play.queue.run(promote_all()) == 2
        recorded = next(step)
        # BullMQ forgets the priority of 4 and keeps the delays.
        keys = recorded["keys"]
        keys["bull:Q:wait"]["value"].remove("4")
        keys["bull:Q:prioritized"]["value"].append(["4", "4*2^32+2"])
        keys["bull:Q:prioritized"]["value"][0][1] = "3*2^32+1"
        keys["bull:Q:pc"]["value"] = "2"
        for job_id in "34":
            keys[f"bull:Q:{job_id}"]["value"]["delay"] = "0"
        play.matches(recorded)


def test_change_of_priority(scene: Open) -> None:
    step = steps("changepriority")
    with scene("Q") as play:
        recorded = next(step)
        for n, name in enumerate("abcd", start=1):
            stored = recorded["keys"][f"bull:Q:{n}"]["value"]
            options = json.loads(stored["opts"])
            play.queue.add(
                name,
                json.loads(stored["data"]),
                **({"priority": options["priority"]} if "priority" in options else {}),
                **({"delay_ms": options["delay"]} if "delay" in options else {}),
            )
        play.matches(recorded)
        for job_id, priority, lifo in (
            ("1", 5, False),
            ("3", 5, True),
            ("2", 0, False),
            ("1", 0, True),
            ("4", 7, False),
        ):
            play.queue.run(change_priority(job_id, priority, lifo=lifo))
            play.matches(next(step))
        next(step)
        with pytest.raises(JobNotFound, match=next(step)["result"]["error"]):
            play.queue.run(change_priority("nope", 1))


def test_orphans(scene: Open) -> None:
    step = steps("orphans")
    with scene("Q") as play:
        play.queue.add("a", 1)
        recorded = next(step)
        for name in ("99", "99:logs", "dn:zz", "metrics:completed", "metrics:failed", "repeat:gone:1"):
            entry = recorded["keys"][f"bull:Q:{name}"]
            if entry["type"] == "hash":
                play.raw.hset(f"bull:Q:{name}", mapping=entry["value"])
            else:
                play.raw.rpush(f"bull:Q:{name}", *entry["value"])
        play.matches(recorded)

        assert play.queue.run(remove_orphaned()) == 1
        recorded = next(step)
        assert recorded["result"] == 2
        # BullMQ takes the metrics for a job of that name.
        recorded["keys"]["bull:Q:metrics:failed"] = {"type": "hash", "value": {"count": "3"}}
        play.matches(recorded)


def test_limits_and_events(scene: Open) -> None:
    step = steps("control")
    with scene("Q") as play:
        assert not play.queue.run(is_maxed())
        next(step)
        next(step)
        play.queue.run(set_global_concurrency(2))
        play.queue.run(set_global_rate_limit(10, duration_ms=1_000))
        play.queue.run(rate_limit(5_000))
        recorded = next(step)
        assert recorded["keys"]["bull:Q:limiter"]["value"] == play.raw.get(play.keys.limiter).decode()
        assert 0 < play.queue.run(rate_limit_ttl_ms()) <= 5_000
        assert 0 < play.queue.run(rate_limit_ttl_ms(10)) <= 5_000
        play.queue.run(remove_rate_limit())
        play.queue.run(set_global_concurrency(None))
        play.queue.run(set_global_rate_limit(None))
        next(step)
        assert play.queue.run(rate_limit_ttl_ms()) == 0
        assert play.raw.hkeys(play.keys.meta) == []
        play.queue.add("a", {})
        play.raw.rpush(play.keys.logs("1"), "two", "three")
        next(step)
        play.queue.run(clear_log("1", keep=1))
        assert ids(play, play.keys.logs("1")) == next(step)["keys"]["bull:Q:1:logs"]["value"] == ["three"]
        play.queue.run(clear_log("1"))
        assert not play.raw.exists(play.keys.logs("1"))
        play.raw.xadd(play.keys.events, {"event": "my-event"})
        assert play.queue.run(forget_events(0)) == 3
        assert play.raw.xlen(play.keys.events) == 0


def test_a_removed_job_lets_its_deduplication_id_go(scene: Open) -> None:
    """management.md section 0.2: drain, clean and obliterate do as remove does."""
    with scene("Q") as play:
        for act in (play.queue.drain, lambda: play.queue.clean("waiting")):
            play.queue.add("a", {}, deduplication=Deduplication("D"))
            assert play.raw.exists(play.keys.deduplication("D"))
            act()
            assert not play.raw.exists(play.keys.deduplication("D"))
