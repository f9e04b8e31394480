"""The recorded traces of deduplication, replayed through our client and compared key by key after each step.

v5-dedup-events is that client's own `debounced` event, which 6 no longer emits and we never do; the rest of
it is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from comparing import load
from scene import Scene, completed

from supervisor.client.manage import deduplication_owner, remove_deduplication
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


def returns_n(job: FetchedJob) -> Outcome:
    return completed(job, job.data.partition(b":")[2].rstrip(b"}"))


def test_simple(scene: Open) -> None:
    step = steps("dedup-simple")
    with scene("Q") as play:
        same = Deduplication("D")
        assert play.queue.add("a", {"n": 1}, deduplication=same).id == "1"
        play.matches(next(step))
        assert play.queue.add("a", {"n": 2}, deduplication=same).id == "1"
        assert play.queue.run(deduplication_owner("D")) == "1"
        play.matches(next(step))
        play.attach()
        play.run(returns_n)
        play.matches(next(step))
        assert play.queue.add("a", {"n": 3}, deduplication=same).id == "3"
        play.matches(next(step))
        assert play.queue.run(remove_deduplication("D", job_id="3"))
        play.matches(next(step))
        assert play.queue.add("a", {"n": 4}, deduplication=same).id == "4"
        play.matches(next(step))
        assert not play.queue.run(remove_deduplication("D", job_id="3"))
        assert play.queue.run(remove_deduplication("D"))
        play.matches(next(step))
        play.queue.add("a", {"n": 5}, deduplication=same)
        play.matches(next(step))
        play.queue.remove("5")
        play.matches(next(step))
        stale = Deduplication("S")
        play.queue.add("a", {"n": 6}, deduplication=stale)
        play.raw.delete(play.keys.job("6"))
        assert play.queue.add("a", {"n": 7}, deduplication=stale).id == "7"
        play.matches(next(step))


def test_throttle_and_extend(scene: Open) -> None:
    step = steps("dedup-throttle")
    with scene("Q") as play:
        throttle = Deduplication("D", ttl_ms=3_000)
        play.queue.add("a", {"n": 1}, deduplication=throttle)
        play.matches(next(step))
        play.queue.add("a", {"n": 2}, deduplication=throttle)
        play.matches(next(step))
        play.attach()
        play.run(returns_n)
        play.matches(next(step))
        assert play.queue.add("a", {"n": 3}, deduplication=throttle).id == "1"
        play.matches(next(step))
        play.raw.delete(play.keys.deduplication("D"))  # as when its time is over
        assert play.queue.add("a", {"n": 4}, deduplication=throttle).id == "4"
        play.matches(next(step))
        extend = Deduplication("E", ttl_ms=2_000, extend=True)
        play.queue.add("a", {"n": 5}, deduplication=extend)
        play.matches(next(step))
        play.raw.pexpire(play.keys.deduplication("E"), 1_000)
        assert play.queue.add("a", {"n": 6}, deduplication=extend).id == "5"
        assert play.raw.pttl(play.keys.deduplication("E")) > 1_500
        play.matches(next(step))


def test_replace_and_reschedule(scene: Open) -> None:
    step = steps("dedup-replace")
    with scene("Q") as play:
        replace = Deduplication("D", ttl_ms=5_000, extend=True, replace=True)
        play.queue.add("a", {"n": 1}, delay_ms=60_000, deduplication=replace)
        play.matches(next(step))
        assert play.queue.add("a", {"n": 2}, delay_ms=60_000, deduplication=replace).id == "2"
        play.matches(next(step))
        play.queue.add("w", {"n": 1}, deduplication=Deduplication("W", replace=True))
        assert play.queue.add("w", {"n": 2}, deduplication=Deduplication("W", replace=True)).id == "3"
        recorded = next(step)
        # BullMQ drops this one without an event; we tell it as we tell every other.
        recorded["new_events"]["bull:Q:events"].append(
            {"event": "deduplicated", "jobId": "3", "deduplicationId": "W", "deduplicatedJobId": "4"}
        )
        play.matches(recorded)
        play.queue.add("r", {"n": 1}, delay_ms=60_000, deduplication=Deduplication("R", reschedule=True))
        later = play.queue.add(
            "r", {"n": 2}, delay_ms=90_000, deduplication=Deduplication("R", reschedule=True)
        )
        assert later.id == "5"
        play.matches(next(step))


def test_keep_last_if_active(scene: Open) -> None:
    step = steps("dedup-keeplastifactive")
    with scene("Q") as play:
        last = Deduplication("D", keep_last_if_active=True)
        play.attach()
        play.queue.add("a", {"n": 1}, deduplication=last)
        job = play.fetch()
        play.matches(next(step))
        play.queue.add("a", {"n": 2}, deduplication=last)
        play.matches(next(step))
        play.queue.add("a", {"n": 3}, deduplication=last)
        play.matches(next(step))
        (job,) = play.exchange(returns_n(job)).jobs
        assert job.id == "3"
        play.matches(next(step))
        play.exchange(returns_n(job))
        play.idle()
        play.matches(next(step))


def test_v5_emits_one_event_more(scene: Open) -> None:
    (step,) = steps("v5-dedup-events")
    told = step["new_events"]["bull:Q:events"]
    assert told[2]["event"] == "debounced"
    del told[2]
    with scene("Q") as play:
        for n in (1, 2):
            play.queue.add("a", {"n": n}, deduplication={"id": "D"})
        step["keys"]["bull:Q:1"]["value"]["data"] = '{"n":1}'
        play.matches(step)
