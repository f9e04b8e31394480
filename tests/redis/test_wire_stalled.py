"""Locks that are renewed, and the stalled check in its two passes (trace 05)."""

from __future__ import annotations

import pytest

from supervisor.protocol.commands.work import ExtendLocks, Lease, RecoverStalled

INTERVAL_MS = 30_000


def check(wire, max_stalled=1):
    """One check, as if the interval were over."""
    wire.raw.delete(wire.queue.stalled_check)
    return wire.run(RecoverStalled(wire.queue, wire.now_ms, INTERVAL_MS, max_stalled))


def abandoned(wire, count=1, **parts):
    """Active jobs whose worker died."""
    wire.add(*(wire.job(**parts) for _ in range(count)))
    jobs = wire.fetch(count)
    for job in jobs:
        wire.raw.delete(wire.queue.lock(job.id))
    wire.forget_events()
    return jobs


def test_locks_of_our_token_are_renewed_and_the_others_told(wire):
    wire.add(count=3)
    jobs = wire.fetch(3, lock_ms=5_000)
    wire.raw.set(wire.queue.lock("2"), "other")
    wire.raw.delete(wire.queue.lock("3"))
    wire.raw.sadd(wire.queue.stalled, "1", "2", "3")

    lost = wire.run(ExtendLocks(wire.queue, [Lease(job.id, job.token) for job in jobs], 30_000))

    assert lost == {"2", "3"}
    assert wire.raw.pttl(wire.queue.lock("1")) > 5_000
    assert wire.raw.get(wire.queue.lock("2")) == b"other"
    assert wire.raw.smembers(wire.queue.stalled) == {b"2", b"3"}


def test_a_corrupt_stalled_key_costs_no_lock(wire):
    wire.add(count=1)
    (job,) = wire.fetch(lock_ms=5_000)
    wire.raw.set(wire.queue.stalled, "x")

    assert wire.run(ExtendLocks(wire.queue, [Lease(job.id, job.token)], 30_000)) == frozenset()
    assert wire.raw.pttl(wire.queue.lock("1")) > 5_000


def test_a_job_without_a_lock_is_suspected_first_and_put_back_then(wire):
    abandoned(wire)

    assert check(wire) == []
    assert wire.raw.smembers(wire.queue.stalled) == {b"1"}
    assert check(wire) == ["1"]

    assert wire.hash("1")["stc"] == "1"
    assert "defa" not in wire.hash("1")
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.raw.exists(wire.queue.active, wire.queue.stalled) == 0
    assert "0" in wire.markers()
    assert wire.events() == [
        {"event": "waiting", "jobId": "1", "prev": "active"},
        {"event": "stalled", "jobId": "1"},
    ]


def test_within_the_interval_nothing_is_checked(wire):
    abandoned(wire)
    check(wire)

    assert wire.run(RecoverStalled(wire.queue, wire.now_ms, INTERVAL_MS, 1)) == []
    assert 0 < wire.raw.pttl(wire.queue.stalled_check) <= INTERVAL_MS
    assert wire.ids(wire.queue.active) == ["1"]


def test_a_job_that_stalls_too_often_is_marked_to_be_failed(wire):
    abandoned(wire)
    for _ in range(2):
        check(wire)
        check(wire)
        (job,) = wire.fetch()
        wire.raw.delete(wire.queue.lock("1"))

    assert job.stalled_count == 2
    assert job.deferred == "job stalled more than allowable limit"


@pytest.mark.parametrize("kind", ["hash", "entry"])
def test_the_job_of_a_living_scheduler_may_stall_for_ever(wire, kind):
    abandoned(wire, job_id="repeat:s:1")
    wire.raw.hset(wire.queue.job("repeat:s:1"), "rjk", "s")
    if kind == "hash":
        wire.raw.hset("bull:paint:repeat:s", "ic", 1)
    else:
        wire.raw.zadd(wire.queue.repeat, {"s": 1})

    check(wire, max_stalled=0)
    check(wire, max_stalled=0)

    assert wire.hash("repeat:s:1")["stc"] == "1"
    assert "defa" not in wire.hash("repeat:s:1")


def test_a_job_whose_lock_lives_or_that_has_moved_on_is_left_alone(wire):
    jobs = abandoned(wire, 2)
    check(wire)
    wire.raw.set(wire.queue.lock(jobs[0].id), "somebody")
    wire.raw.lrem(wire.queue.active, 0, jobs[1].id)

    assert check(wire) == []
    assert "stc" not in wire.hash("2")


def test_a_suspect_without_a_hash_is_taken_off_and_no_hash_is_made_for_it(wire):
    wire.raw.lpush(wire.queue.active, "ghost")

    check(wire)
    assert check(wire) == []

    assert wire.raw.exists(wire.queue.job("ghost"), wire.queue.active, wire.queue.wait) == 0


def test_a_corrupt_stalled_key_is_deleted_and_the_check_goes_on(wire):
    abandoned(wire)
    wire.raw.set(wire.queue.stalled, "x")

    assert check(wire) == []
    assert wire.raw.smembers(wire.queue.stalled) == {b"1"}
    assert check(wire) == ["1"]


def test_a_paused_queue_gets_its_stalled_jobs_back_without_a_marker(wire):
    abandoned(wire)
    wire.raw.hset(wire.queue.meta, "paused", 1)
    wire.raw.delete(wire.queue.marker)

    check(wire)
    check(wire)

    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.markers() == {}


def test_when_memory_is_full_stalled_jobs_are_put_back_all_the_same(wire):
    abandoned(wire)
    check(wire)
    wire.raw.config_set("maxmemory", 1)

    recovered = check(wire)

    wire.raw.config_set("maxmemory", 0)
    assert recovered == ["1"]


def test_thousands_of_active_jobs_are_suspected_in_one_check(wire):
    wire.raw.lpush(wire.queue.active, *(f"j{n}" for n in range(9_001)))

    check(wire)

    assert wire.raw.scard(wire.queue.stalled) == 9_001
