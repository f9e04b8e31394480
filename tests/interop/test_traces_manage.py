"""The recorded traces of managing a queue, replayed through our client and compared key by key.

Where we do on purpose what BullMQ does not (docs/explain/wire.md), the recorded step is changed here, by name
of what differs, before it is compared. Draining and obliterating are in test_traces_scheduler.py, as they
meet the jobs of schedulers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from comparing import load
from scene import Scene, completed, failed, retried

from supervisor.client.edit import (
    add_log,
    change_delay,
    change_priority,
    clear_log,
    register,
    set_global_concurrency,
    set_global_rate_limit,
    update_data,
    update_progress,
)
from supervisor.client.getters import counts_by_priority, log_page, meta
from supervisor.client.listen import publish
from supervisor.client.manage import (
    forget_events,
    is_maxed,
    promote_all,
    rate_limit,
    rate_limit_ttl_ms,
    remove_orphaned,
    remove_rate_limit,
    retry_all,
)
from supervisor.errors import JobError, JobNotFound, JobNotInState
from supervisor.protocol.commands.job import RetryJob
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


def test_retry_of_many(scene: Open) -> None:
    step = steps("retryjobs")
    with scene("Q") as play:
        for name, data, options in (("f", 1, {}), ("f", 2, {}), ("fp", 2, {"priority": 9}), ("ok", 3, {})):
            play.queue.add(name, data, **options)
        play.attach()
        play.run(lambda job: completed(job, b'{"r":1}') if job.name == "ok" else failed(job, "boom"))
        play.matches(next(step))

        assert play.queue.run(retry_all()) == 3
        play.matches(_with_its_priority(next(step)))
        assert play.queue.run(retry_all("completed")) == 1
        play.matches(_with_its_priority(next(step)))
        play.run(completed)  # the recorder emptied the queue here
        play.queue.clean()
        play.skip_events()

        play.queue.add("g", 1, attempts=2, priority=4)
        play.run(lambda job: retried(job, "boom") if job.attempts_made == 0 else failed(job, "boom"))
        play.matches(next(step))
        anew = RetryJob(play.keys, "5", reset_attempts_made=True, reset_attempts_started=True)
        play.redis.execute(anew)
        play.matches(next(step))
        with pytest.raises(JobNotInState, match=r"Job 5 is not in the failed state\. reprocessJob"):
            play.queue.retry("5")
        play.matches(next(step))


def _with_its_priority(recorded: dict[str, Any]) -> dict[str, Any]:
    """BullMQ forgets the priority of job 3 and lets it wait with those that have none."""
    keys = recorded["keys"]
    keys["bull:Q:wait"]["value"].remove("3")
    keys["bull:Q:prioritized"] = {"type": "zset", "value": [["3", "9*2^32+1"]]}
    keys["bull:Q:pc"] = {"type": "string", "value": "1"}
    return recorded


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
        _refused(play, next(step), lambda: play.queue.promote("5"))
        play.queue.run(change_delay("3", 10_000))
        play.matches(next(step))
        _refused(play, next(step), lambda: play.queue.run(change_delay("5", 10_000)))
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


def _refused(play: Scene, recorded: dict[str, Any], act: Callable[[], Any]) -> None:
    """With BullMQ's own text, and nothing changes."""
    with pytest.raises(JobError, match=re.escape(recorded["result"]["error"])):
        act()
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
        recorded = next(step)
        found = play.queue.run(counts_by_priority(0, 1, 5))
        assert {str(priority): count for priority, count in found.items()} == recorded["result"]
        play.matches(recorded)
        _refused(play, next(step), lambda: play.queue.run(change_priority("nope", 1)))


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
        run = play.queue.run
        run(register(max_events=50))
        assert run(meta()).max_events == 50
        play.matches(next(step))
        assert not run(is_maxed())
        run(set_global_concurrency(2))
        run(set_global_rate_limit(10, duration_ms=1_000))
        told = run(meta())
        assert (told.concurrency, told.rate_max, told.rate_duration_ms) == (2, 10, 1_000)
        play.matches(next(step))
        run(rate_limit(5_000))
        assert 0 < run(rate_limit_ttl_ms()) <= 5_000
        assert 0 < run(rate_limit_ttl_ms(10)) <= 5_000
        play.matches(next(step))
        run(remove_rate_limit())
        run(set_global_concurrency(None))
        run(set_global_rate_limit(None))
        assert run(rate_limit_ttl_ms()) == 0
        recorded = next(step)
        # BullMQ wakes nobody when a limit goes; we put a marker, so that idle workers look at once.
        recorded["keys"]["bull:Q:marker"] = {"type": "zset", "value": [["0", "0"]]}
        play.matches(recorded)
        _one_job_is_told_things(play, step)
        run(publish("my-event", {"jobId": "7", "custom": "v"}))
        play.matches(next(step))
        recorded = next(step)
        assert run(forget_events(0)) == recorded["result"]
        play.matches(recorded)


def _one_job_is_told_things(play: Scene, step: Iterator[dict[str, Any]]) -> None:
    run = play.queue.run
    play.queue.add("a", {"x": 1}, keep_logs=2)
    run(update_data("1", {"x": 2}))
    run(update_progress("1", 42))
    run(update_progress("1", {"pct": 50}))
    recorded = next(step)
    result = recorded["result"]
    rows = [run(add_log("1", row, keep=2)) for row in ("one", "two", "three")]
    assert rows == [result["l1"], result["l2"], result["l3"]]
    for name, options in (("asc", {}), ("desc", {"newest_first": True}), ("page", {"end": 0})):
        page = run(log_page("1", **options))
        assert {"logs": page.rows, "count": page.count} == result[name]
    play.matches(recorded)
    run(clear_log("1", keep=1))
    play.matches(next(step))
    recorded = next(step)
    for name, act in (
        ("progress", update_progress("nope", 1)),
        ("log", add_log("nope", "row")),
        ("data", update_data("nope", {})),
    ):
        with pytest.raises(JobNotFound, match=recorded["result"][name]["error"]):
            run(act)
    assert play.queue.state("nope") == recorded["result"]["state"]
    play.matches(recorded)


def test_a_removed_job_lets_its_deduplication_id_go(scene: Open) -> None:
    """management.md section 0.2: drain, clean and obliterate do as remove does."""
    with scene("Q") as play:
        for act in (play.queue.drain, lambda: play.queue.clean("waiting")):
            play.queue.add("a", {}, deduplication=Deduplication("D"))
            assert play.raw.exists(play.keys.deduplication("D"))
            act()
            assert not play.raw.exists(play.keys.deduplication("D"))
