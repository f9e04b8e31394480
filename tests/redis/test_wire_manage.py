"""Many jobs at once, on the wire: in how many slices it may be, and where BullMQ's ways are not ours."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.errors import RedisRefused, UsageError
from supervisor.protocol.commands import manage
from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.commands.limits import GetRateLimitTtl, IsMaxed
from supervisor.protocol.commands.manage import CleanJobs, ObliterateQueue, RetryJobs
from supervisor.protocol.commands.orphans import remove_orphans
from supervisor.protocol.commands.queue import RateLimitQueue, SetGlobalConcurrency, SetGlobalRateLimit
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive_blocking

OLD = 1_700_000_000_000


@pytest.fixture(params=[100, 3], ids=["one-slice", "many-slices"])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    for name in ("REMOVED_AT_ONCE", "MOVED_AT_ONCE"):
        monkeypatch.setattr(manage, name, request.param)
    return int(request.param)


def drive(wire, steps: Any) -> Any:
    return drive_blocking(steps, wire.run)


def scheduled(wire, state: str, place: int | None = None) -> str:
    """The next job of a scheduler, in `state`."""
    job_id = f"repeat:nightly:report:{wire.now_ms}"
    wire.raw.zadd(wire.queue.repeat, {"nightly:report": wire.now_ms})
    wire.raw.hset(wire.queue.job(job_id), mapping={"name": "r", "timestamp": OLD, "rjk": "nightly:report"})
    if state == "wait":
        wire.raw.rpush(wire.queue.wait, job_id)
    else:
        wire.raw.zadd(f"{wire.queue.base}:{state}", {job_id: 1})
    return job_id


def ended(wire, state: str, *job_ids: str) -> None:
    for n, job_id in enumerate(job_ids):
        wire.raw.lrem(wire.queue.wait, 0, job_id)
        wire.raw.zadd(f"{wire.queue.base}:{state}", {job_id: OLD + n})
        wire.raw.hset(wire.queue.job(job_id), mapping={"finishedOn": OLD + n, "failedReason": "boom"})


# --- drain ------------------------------------------------------------------------------------------------


def test_drain_takes_what_waits_and_leaves_the_next_job_of_a_scheduler(wire, slices):
    wire.add(count=10)
    wire.add(*[wire.job(priority=3) for _ in range(4)], wire.job(delay_ms=5_000))
    kept = scheduled(wire, "wait")

    assert drive(wire, manage.drain_queue(wire.queue, wire.now_ms)) == 14

    assert wire.ids(wire.queue.wait) == [kept]
    assert wire.ids(wire.queue.delayed) == ["15"]
    assert not wire.raw.exists(wire.queue.prioritized, *map(wire.queue.job, map(str, range(1, 15))))


def test_a_scheduled_job_keeps_its_place_among_those_that_come_meanwhile(wire, monkeypatch):
    monkeypatch.setattr(manage, "REMOVED_AT_ONCE", 2)
    wire.add(count=4)
    kept = scheduled(wire, "wait")

    def run(command: Any) -> Any:
        reply = wire.run(command)
        wire.add(count=1)
        return reply

    assert drive_blocking(manage.drain_queue(wire.queue, wire.now_ms), run) <= 5
    assert wire.ids(wire.queue.wait)[-1] == kept
    assert not wire.raw.exists(*map(wire.queue.job, "1234"))


def test_drain_takes_what_version_5_put_aside(wire):
    wire.add(count=2)
    wire.raw.rename(wire.queue.wait, wire.queue.paused)

    assert drive(wire, manage.drain_queue(wire.queue, wire.now_ms)) == 2

    assert not wire.raw.exists(wire.queue.paused)


def test_the_parent_in_another_queue_goes_on_and_keeps_its_priority(wire):
    """management.md appendix B: BullMQ's released parents lose priority and delay."""
    other = QueueKeys("other")
    wire.raw.hset(other.job("p"), mapping={"name": "p", "priority": 7, "delay": 0})
    wire.raw.zadd(other.waiting_children, {"p": 1})
    text = b'{"id":"p","queueKey":"bull:other"}'
    wire.add(*[wire.job(parent=ParentRef(other.job("p"), text)) for _ in range(3)])

    assert drive(wire, manage.drain_queue(wire.queue, wire.now_ms)) == 3

    assert wire.ids(other.prioritized) == ["p"]
    assert wire.raw.zcard(other.waiting_children) == 0


def test_the_parent_in_the_same_queue_goes_with_its_last_child(wire):
    wire.raw.hset(wire.queue.job("p"), mapping={"name": "p", "timestamp": OLD})
    wire.raw.zadd(wire.queue.waiting_children, {"p": 1})
    text = b'{"id":"p","queueKey":"bull:paint"}'
    wire.add(*[wire.job(parent=ParentRef(wire.queue.job("p"), text)) for _ in range(3)])

    drive(wire, manage.drain_queue(wire.queue, wire.now_ms))

    assert not wire.raw.exists(wire.queue.job("p"), wire.queue.waiting_children, wire.queue.wait)


def test_a_list_that_is_none_is_told_and_left(wire):
    wire.raw.set(wire.queue.wait, "x")
    wire.raw.delete(wire.queue.wait)
    wire.raw.zadd(wire.queue.wait, {"x": 1})
    with pytest.raises(RedisRefused, match="is a zset, not a list"):
        wire.run(manage.DrainQueue(wire.queue, "wait", 5, 0, wire.now_ms))
    assert wire.raw.zcard(wire.queue.wait) == 1


# --- clean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["waiting", "delayed", "prioritized"])
def test_clean_looks_past_what_is_young_or_scheduled(wire, slices, state):
    options = {"waiting": {}, "delayed": {"delay_ms": 9_000}, "prioritized": {"priority": 2}}[state]
    wire.add(*[wire.job(timestamp=OLD if n % 3 else wire.now_ms, **options) for n in range(12)])
    key = wire.queue.wait if state == "waiting" else f"{wire.queue.base}:{state}"
    kept = scheduled(wire, "wait" if state == "waiting" else state)
    before = wire.ids(key)

    removed = drive(wire, manage.clean_jobs(wire.queue, state, wire.now_ms, grace_ms=60_000))

    young = {str(n + 1) for n in range(12) if n % 3 == 0}
    assert sorted(removed, key=int) == [str(n + 1) for n in range(12) if n % 3]
    assert wire.ids(key) == [job_id for job_id in before if job_id in young | {kept}]
    assert sum(int(event["count"]) for event in wire.events() if event["event"] == "cleaned") == 8


def test_clean_takes_no_more_than_the_limit_though_what_is_young_comes_first(wire, slices):
    wire.add(*[wire.job(timestamp=wire.now_ms if n < 4 else OLD) for n in range(10)])

    removed = drive(wire, manage.clean_jobs(wire.queue, "waiting", wire.now_ms, grace_ms=60_000, limit=4))

    assert sorted(removed) == ["5", "6", "7", "8"]
    assert wire.ids(wire.queue.wait) == ["10", "9", "4", "3", "2", "1"]


def test_clean_goes_on_where_it_was_though_workers_took_jobs_meanwhile(wire):
    """Nothing is passed over: the place is a job, not a number."""
    wire.add(*[wire.job(timestamp=wire.now_ms if n < 6 else OLD) for n in range(9)])
    first = wire.run(CleanJobs(wire.queue, "wait", OLD, wire.now_ms, most=3, count=6))
    assert (first.stayed, first.last) == (6, b"6")
    wire.fetch(4)

    rest = wire.run(
        CleanJobs(wire.queue, "wait", OLD, wire.now_ms, most=9, count=9, stayed=first.stayed, last=first.last)
    )

    assert rest.removed == ("7", "8", "9")
    assert wire.ids(wire.queue.wait) == ["6", "5"]


@pytest.mark.parametrize("state", ["completed", "failed", "waiting-children"])
def test_clean_of_the_ended_takes_the_oldest_first(wire, slices, state):
    wire.add(count=8)
    ended(wire, state, *map(str, range(1, 9)))

    assert drive(wire, manage.clean_jobs(wire.queue, state, OLD + 4)) == ["1", "2", "3", "4", "5"]
    assert wire.ids(f"{wire.queue.base}:{state}") == ["6", "7", "8"]


def test_clean_of_active_jobs_spares_those_that_are_held(wire, slices):
    wire.add(*[wire.job(timestamp=OLD) for _ in range(5)])
    wire.fetch(4)
    for job_id in ("1", "3"):
        wire.raw.delete(wire.queue.lock(job_id))

    assert sorted(drive(wire, manage.clean_jobs(wire.queue, "active", wire.now_ms))) == ["1", "3"]
    assert sorted(wire.ids(wire.queue.active)) == ["2", "4"]


def test_an_id_without_a_job_is_old_and_what_is_no_hash_stays(wire):
    wire.raw.rpush(wire.queue.wait, "ghost", "odd")
    wire.raw.set(wire.queue.job("odd"), "text")

    assert drive(wire, manage.clean_jobs(wire.queue, "waiting", OLD)) == ["ghost"]
    assert wire.ids(wire.queue.wait) == ["odd"]


def test_nothing_to_clean_is_told_once(wire, slices):
    wire.add(count=7)

    assert drive(wire, manage.clean_jobs(wire.queue, "waiting", OLD)) == []
    assert [e["count"] for e in wire.events() if e["event"] == "cleaned"] == ["0"]


# --- obliterate --------------------------------------------------------------------------------------------


def test_obliterate_leaves_nothing(wire, slices):
    """management.md appendix B: BullMQ leaves the limiter and what waits for children."""
    wire.add(count=9)
    ended(wire, "completed", "1", "2")
    ended(wire, "failed", "3")
    ended(wire, "waiting-children", "4", "5")
    wire.add(wire.job(delay_ms=5), wire.job(priority=1))
    scheduled(wire, "delayed")
    wire.run(RateLimitQueue(wire.queue, 5_000))

    drive(wire, manage.obliterate_queue(wire.queue, wire.now_ms))

    assert wire.raw.keys("bull:paint:*") == []


def test_obliterate_refuses_running_jobs_and_a_queue_that_goes_on(wire):
    wire.add(count=2)
    wire.fetch()
    before = wire.ids(wire.queue.wait)
    with pytest.raises(UsageError, match=r"^Cannot obliterate queue with active jobs$"):
        drive(wire, manage.obliterate_queue(wire.queue, wire.now_ms))
    assert wire.ids(wire.queue.wait) == before
    wire.raw.hdel(wire.queue.meta, "paused")
    with pytest.raises(UsageError, match=r"^Cannot obliterate non-paused queue$"):
        wire.run(ObliterateQueue(wire.queue, True, wire.now_ms))
    assert wire.ids(wire.queue.wait) == before

    drive(wire, manage.obliterate_queue(wire.queue, wire.now_ms, force=True))
    assert wire.raw.keys("bull:paint:*") == []


# --- retry and promote of many -----------------------------------------------------------------------------


def test_retry_of_many_keeps_priorities_and_wakes_a_worker(wire, slices):
    wire.add(*[wire.job(priority=n % 2 * 5) for n in range(7)])
    wire.raw.delete(wire.queue.prioritized)
    ended(wire, "failed", *"1234567")
    wire.raw.delete(wire.queue.marker)

    assert drive(wire, manage.retry_jobs(wire.queue, "failed", wire.now_ms)) == 7

    assert wire.ids(wire.queue.wait) == ["7", "5", "3", "1"]
    assert wire.ids(wire.queue.prioritized) == ["2", "4", "6"]
    assert wire.markers() == {"0": 0}
    assert "failedReason" not in wire.hash("1") and "finishedOn" not in wire.hash("1")
    assert [e.get("prev") for e in wire.events() if e["event"] == "waiting"][-7:] == ["failed"] * 7


def test_retry_of_many_stops_at_the_moment_and_at_the_limit(wire, slices):
    wire.add(count=6)
    ended(wire, "failed", *"123456")

    assert drive(wire, manage.retry_jobs(wire.queue, "failed", OLD + 4, limit=4)) == 4
    assert wire.ids(wire.queue.failed) == ["5", "6"]
    assert drive(wire, manage.retry_jobs(wire.queue, "failed", OLD + 4)) == 1
    assert wire.ids(wire.queue.failed) == ["6"]


def test_an_id_without_a_job_is_dropped_and_not_run(wire, slices):
    wire.add(count=4)
    ended(wire, "failed", *"1234")
    wire.raw.delete(wire.queue.job("2"))

    assert drive(wire, manage.retry_jobs(wire.queue, "failed", wire.now_ms)) == 3
    assert wire.ids(wire.queue.wait) == ["4", "3", "1"]
    assert wire.ids(wire.queue.failed) == []


def test_one_guilty_job_stops_the_retry_and_loses_nothing(wire):
    wire.add(count=2)
    ended(wire, "failed", "1", "2")
    wire.raw.delete(wire.queue.job("2"))
    wire.raw.set(wire.queue.job("2"), "text")

    with pytest.raises(RedisRefused, match="bull:paint:2 is not a hash"):
        wire.run(RetryJobs(wire.queue, "failed", wire.now_ms, 9))
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.ids(wire.queue.failed) == ["2"]


def test_promote_of_many_keeps_priorities_and_forgets_the_delay(wire, slices):
    wire.add(*[wire.job(delay_ms=5_000 + n, priority=n % 2 * 5) for n in range(6)])

    assert drive(wire, manage.promote_jobs(wire.queue, limit=5)) == 5

    assert wire.ids(wire.queue.wait) == ["5", "3", "1"]
    assert wire.ids(wire.queue.prioritized) == ["2", "4"]
    assert wire.ids(wire.queue.delayed) == ["6"]
    assert wire.hash("1")["delay"] == "0"
    assert wire.markers()["0"] == 0


# --- orphans, limits ----------------------------------------------------------------------------------------


def test_orphans_go_and_everything_that_is_no_job_stays(wire):
    wire.add(wire.job(), wire.job(delay_ms=5), wire.job(priority=1), wire.job(job_id="a:b:c"))
    ended(wire, "completed", "1")
    scheduler = f"{wire.queue.base}:repeat:every:5"
    wire.raw.zadd(wire.queue.repeat, {"every:5": wire.now_ms})
    wire.raw.hset(scheduler, mapping={"name": "n", "every": 5, "ic": 1})
    for name in ("metrics:completed", "metrics:failed", "dn:D"):
        wire.raw.hset(f"{wire.queue.base}:{name}", "count", 3)
    wire.raw.set(wire.queue.deduplication("D"), "1")
    wire.raw.set(f"{wire.queue.base}:ox:note", "ours")
    wire.raw.hset(wire.queue.job("held"), "name", "n")
    wire.raw.set(wire.queue.lock("held"), "t")
    before = set(wire.raw.keys("*"))
    for orphan in ("77", "x:y:z", f"repeat:gone:{OLD}"):
        wire.raw.hset(wire.queue.job(orphan), mapping={"name": "n", "timestamp": OLD})
        wire.raw.rpush(wire.queue.logs(orphan), "row")
    wire.raw.rpush(wire.queue.logs("78"), "row")

    assert drive(wire, remove_orphans(wire.queue)) == 4
    assert set(wire.raw.keys("*")) == before


def test_orphans_stop_at_the_limit(wire):
    for n in range(5):
        wire.raw.hset(wire.queue.job(f"o{n}"), "name", "n")

    assert drive(wire, remove_orphans(wire.queue, limit=2)) == 2
    assert len(wire.raw.keys("*")) == 3


def test_a_queue_is_maxed_when_its_own_concurrency_is_reached(wire):
    wire.add(count=2)
    assert not wire.run(IsMaxed(wire.queue))
    wire.run(SetGlobalConcurrency(wire.queue, 1))
    assert not wire.run(IsMaxed(wire.queue))
    wire.fetch()
    assert wire.run(IsMaxed(wire.queue))


def test_the_rate_limit_is_told_by_whose_maximum_counts(wire):
    assert wire.run(GetRateLimitTtl(wire.queue)) == 0
    wire.raw.set(wire.queue.limiter, 3, px=5_000)
    assert 0 < wire.run(GetRateLimitTtl(wire.queue)) <= 5_000
    assert wire.run(GetRateLimitTtl(wire.queue, 4)) == 0
    assert 0 < wire.run(GetRateLimitTtl(wire.queue, 3)) <= 5_000
    wire.run(SetGlobalRateLimit(wire.queue, 4, 1_000))
    assert wire.run(GetRateLimitTtl(wire.queue)) == 0
