"""Corrupt keys and full memory in the middle of a batch of 16: the guilty job alone is reported."""

from __future__ import annotations

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import Completed, Failed, Limiter, Retried, Written
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.keys import QueueKeys

FLOW = QueueKeys("flow")
GUILTY = 7  # its place in the batch


def batch(wire, count=16):
    wire.add(count=count + 4)
    jobs = wire.fetch(count)
    wire.forget_events()
    return jobs


def with_parent(wire, job):
    parent = '{"id":"P","queueKey":"bull:flow","fpof":true}'
    wire.raw.hset(wire.queue.job(job.id), mapping={"parentKey": "bull:flow:P", "parent": parent})
    wire.raw.hset(FLOW.job("P"), "name", "parent")
    wire.raw.zadd(FLOW.waiting_children, {"P": 1})
    wire.raw.sadd(FLOW.job("P") + ":dependencies", wire.queue.job(job.id))


def completed(job):
    return Completed(job.id, job.token, b"1", KEEP_ALL)


def failed(job, **parts):
    return Failed(job.id, job.token, "boom", "s", KEEP_ALL, 1, **parts)


def retried(job):
    return Retried(job.id, job.token, "boom", "s", 100)


PARENT_KEYS = {
    "the parent": FLOW.job("P"),
    "its dependencies": FLOW.job("P") + ":dependencies",
    "its processed": FLOW.job("P") + ":processed",
    "its unsuccessful": FLOW.job("P") + ":unsuccessful",
    "its failed": FLOW.job("P") + ":failed",
    "waiting-children": FLOW.waiting_children,
    "its wait": FLOW.wait,
    "its events": FLOW.events,
    "its meta": FLOW.meta,
    "its prioritized": FLOW.prioritized,
    "its delayed": FLOW.delayed,
    "its marker": FLOW.marker,
}


@pytest.mark.parametrize("outcome", [completed, failed])
@pytest.mark.parametrize("key", PARENT_KEYS.values(), ids=PARENT_KEYS.keys())
def test_a_corrupt_parent_key_is_told_of_one_job_and_fifteen_are_done(wire, key, outcome):
    jobs = batch(wire)
    guilty = jobs[GUILTY]
    with_parent(wire, guilty)
    wire.raw.delete(key)
    wire.raw.set(key, "x")
    before = wire.hash(guilty.id)

    exchange = wire.exchange([outcome(job) for job in jobs], count=2)

    codes = [result.code for result in exchange.written]
    assert codes == [Code.GUILTY if place == GUILTY else Code.DONE for place in range(16)]
    assert key in exchange.written[GUILTY].text
    assert wire.hash(guilty.id) == before
    assert guilty.id in wire.ids(wire.queue.active)
    assert wire.raw.get(wire.queue.lock(guilty.id)) == guilty.token.encode()
    assert len(exchange.jobs) == 2
    assert wire.raw.zcard(wire.queue.completed) + wire.raw.zcard(wire.queue.failed) == 15


def test_a_job_with_a_corrupt_parent_can_be_failed_without_touching_it(wire):
    (job,) = batch(wire, 1)
    with_parent(wire, job)
    wire.raw.delete(FLOW.job("P"))
    wire.raw.set(FLOW.job("P"), "x")

    assert wire.exchange([failed(job, spare_parent=True)]).written == [Written(Code.DONE)]

    assert wire.ids(wire.queue.failed) == [job.id]
    assert wire.raw.scard(FLOW.job("P") + ":dependencies") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"id":7,"queueKey":"bull:flow"}', '"P"'])
def test_a_parent_field_that_cannot_be_understood_is_told(wire, text):
    jobs = batch(wire, 2)
    wire.raw.hset(wire.queue.job(jobs[0].id), "parent", text)

    written = wire.exchange([completed(job) for job in jobs]).written

    assert written == [
        Written(Code.GUILTY, "the job's parent field cannot be understood"),
        Written(Code.DONE),
    ]


@pytest.mark.parametrize("outcome", [completed, failed, retried])
def test_a_corrupt_stalled_key_hurts_no_job(wire, outcome):
    jobs = batch(wire)
    wire.raw.set(wire.queue.stalled, "x")

    exchange = wire.exchange([outcome(job) for job in jobs], count=2)

    assert exchange.written == [Written(Code.DONE)] * 16
    assert len(exchange.jobs) == 2
    assert exchange.fetch_error is None


def test_a_hash_of_another_type_is_told_of_its_job_alone(wire):
    jobs = batch(wire)
    wire.raw.delete(wire.queue.job(jobs[GUILTY].id))
    wire.raw.set(wire.queue.job(jobs[GUILTY].id), "x")

    written = wire.exchange([completed(job) for job in jobs]).written

    assert [place for place, result in enumerate(written) if result.code == Code.GUILTY] == [GUILTY]
    assert "WRONGTYPE" in written[GUILTY].text
    assert wire.raw.zcard(wire.queue.completed) == 15


@pytest.mark.parametrize("outcome", [completed, failed, retried])
def test_when_memory_is_full_outcomes_are_written_all_the_same(wire, outcome):
    jobs = batch(wire)
    wire.raw.config_set("maxmemory", 1)

    exchange = wire.exchange([outcome(job) for job in jobs], count=2)

    wire.raw.config_set("maxmemory", 0)
    assert exchange.written == [Written(Code.DONE)] * 16
    assert len(exchange.jobs) == 2


def test_when_memory_is_full_a_fetch_alone_says_so_and_takes_nothing(wire):
    wire.add(count=2)
    wire.raw.config_set("maxmemory", 1)

    exchange = wire.exchange(count=2)

    wire.raw.config_set("maxmemory", 0)
    assert "OOM" in exchange.fetch_error
    assert exchange.jobs == []
    assert wire.ids(wire.queue.wait) == ["2", "1"]


def test_a_corrupt_key_of_the_queue_is_told_of_each_job_and_none_is_half_written(wire):
    jobs = batch(wire, 3)
    wire.raw.set(wire.queue.completed, "x")

    exchange = wire.exchange([completed(jobs[0]), failed(jobs[1]), completed(jobs[2])])

    assert [result.code for result in exchange.written] == [Code.GUILTY, Code.DONE, Code.GUILTY]
    assert sorted(wire.ids(wire.queue.active)) == [jobs[0].id, jobs[2].id]
    assert "returnvalue" not in wire.hash(jobs[0].id)


@pytest.mark.parametrize("outcome", [completed, failed, retried])
def test_corrupt_events_are_told_before_anything_is_written(wire, outcome):
    jobs = batch(wire, 2)
    wire.raw.delete(wire.queue.events)
    wire.raw.set(wire.queue.events, "x")
    before = wire.hash(jobs[0].id)

    written = wire.exchange([outcome(job) for job in jobs]).written

    assert [result.code for result in written] == [Code.GUILTY] * 2
    assert wire.queue.events in written[0].text
    assert wire.hash(jobs[0].id) == before


def test_corrupt_metrics_hurt_no_job(wire):
    (job,) = batch(wire, 1)
    wire.raw.set(wire.queue.metrics("completed"), "x")

    assert wire.exchange([completed(job)], metrics=5).written == [Written(Code.DONE)]
    assert wire.ids(wire.queue.completed) == [job.id]


def test_a_corrupt_deduplication_key_hurts_no_job(wire):
    (job,) = batch(wire, 1)
    wire.raw.hset(wire.queue.job(job.id), "deid", "d")
    wire.raw.hset("bull:paint:de:d", "x", "y")
    wire.raw.set("bull:paint:dn:d", "x")

    assert wire.exchange([completed(job)]).written == [Written(Code.DONE)]


def test_old_jobs_that_are_trimmed_may_be_as_corrupt_as_they_like(wire):
    jobs = batch(wire, 3)
    wire.raw.zadd(wire.queue.completed, {"old": 1, "older": 0})
    wire.raw.set(wire.queue.job("old"), "x")
    wire.raw.hset(wire.queue.job("older"), mapping={"parent": "{", "parentKey": "k"})

    trimming = [Completed(job.id, job.token, b"1", KeepJobs(count=2)) for job in jobs]
    assert wire.exchange(trimming).written == [Written(Code.DONE)] * 3

    assert wire.ids(wire.queue.completed) == [job.id for job in jobs[1:]]
    assert wire.raw.exists(wire.queue.job("old"), wire.queue.job("older")) == 0


# --- what nobody foresaw -----------------------------------------------------------------------------


def test_an_error_in_the_middle_leaves_the_job_active_under_its_lock(wire):
    """I4: half a job is nobody's; what could not be written can be tried again."""
    jobs = batch(wire, 3)
    wire.request("ACL", "SETUSER", "default", "-zadd")
    try:
        exchange = wire.exchange([completed(jobs[0]), failed(jobs[1])])
    finally:
        wire.request("ACL", "SETUSER", "default", "+@all")

    assert [result.code for result in exchange.written] == [Code.GUILTY, Code.GUILTY]
    assert sorted(wire.ids(wire.queue.active)) == sorted(job.id for job in jobs)
    assert wire.raw.pttl(wire.queue.lock(jobs[0].id)) > 0
    again = wire.exchange([completed(jobs[0]), failed(jobs[1])])
    assert again.written == [Written(Code.DONE)] * 2
    assert wire.hash(jobs[0].id)["atm"] == "1"


def test_a_corrupt_meta_lets_jobs_end_and_none_begin(wire):
    jobs = batch(wire, 2)
    wire.raw.delete(wire.queue.meta)
    wire.raw.set(wire.queue.meta, "x")

    exchange = wire.exchange([completed(jobs[0]), retried(jobs[1])], count=2)

    assert exchange.written == [Written(Code.DONE)] * 2
    assert exchange.fetch_error == "the key bull:paint:meta is not a hash"
    (result,) = wire.add(count=1)
    assert result.text == "the key bull:paint:meta is not a hash"


@pytest.mark.parametrize("value", ["many", "-5", ""])
def test_nonsense_for_the_event_limit_hurts_no_job(wire, value):
    (job,) = batch(wire, 1)
    wire.raw.hset(wire.queue.meta, "opts.maxLenEvents", value)

    assert wire.exchange([completed(job)]).written == [Written(Code.DONE)]
    assert wire.raw.hget(wire.queue.meta, "opts.maxLenEvents") == value.encode()


def test_a_corrupt_priority_counter_begins_anew(wire):
    wire.add(wire.job(priority=3))
    (job,) = wire.fetch()
    wire.raw.delete(wire.queue.pc)
    wire.raw.hset(wire.queue.pc, "x", "y")

    assert wire.exchange([Retried(job.id, job.token, "boom", None)]).written == [Written(Code.DONE)]
    assert wire.raw.zscore(wire.queue.prioritized, job.id) == 3 * 2**32 + 1


def test_a_corrupt_list_of_bullmq_5_loses_no_job_that_is_due(wire):
    wire.add(wire.job(delay_ms=5))
    wire.raw.hset(wire.queue.meta, "paused", 1)
    wire.raw.set(wire.queue.paused, "x")
    wire.now_ms += 5

    assert wire.queue.paused in wire.exchange(count=1).fetch_error
    assert wire.ids(wire.queue.delayed) == ["1"]


@pytest.mark.parametrize("duration", ["1e30", "nan", "soon"])
def test_a_rate_whose_duration_redis_would_refuse_is_no_limit(wire, duration):
    wire.add(count=2)
    wire.raw.hset(wire.queue.meta, mapping={"max": 1, "duration": duration})

    assert len(wire.fetch(2)) == 2


@pytest.mark.parametrize("value", ["many", "1.5", "-1", "9" * 19])
def test_a_limiter_that_cannot_be_counted_is_told_before_any_job_is_taken(wire, value):
    wire.add(count=1)
    wire.raw.set(wire.queue.limiter, value)

    exchange = wire.exchange(count=1, limiter=Limiter(10**18, 100))

    assert exchange.fetch_error == "the key bull:paint:limiter is not a number that Redis can count"
    assert wire.ids(wire.queue.wait) == ["1"]


def test_an_old_stack_trace_that_cannot_be_written_again_is_left_out(wire):
    (job,) = batch(wire, 1)
    wire.raw.hset(wire.queue.job(job.id), "stacktrace", '["a",1e999]')

    wire.exchange([Retried(job.id, job.token, "boom", "b", stack_limit=3)])

    assert wire.hash(job.id)["stacktrace"] == '["a","b"]'
