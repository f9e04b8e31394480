"""What each outcome does to the keys, as recorded in traces 01, 02, 15, 16, 22 and 24."""

from __future__ import annotations

import json

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import (
    Completed,
    Failed,
    HandedBack,
    Postponed,
    RateLimited,
    Retried,
    Written,
)
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs


def completed(job, value=b"null", keep=KEEP_ALL):
    return Completed(job.id, job.token, value, keep)


def failed(job, reason="boom", stack=None, keep=KEEP_ALL, attempts=1, **parts):
    return Failed(job.id, job.token, reason, stack, keep, attempts, **parts)


def take(wire, count=1, **parts):
    wire.add(*(wire.job(**parts) for _ in range(count)))
    jobs = wire.fetch(count)
    wire.forget_events()
    return jobs


# --- completed and failed -------------------------------------------------------------------------


def test_a_completed_job_is_written_as_bullmq_writes_it(wire):
    (job,) = take(wire)
    wire.now_ms += 80

    assert wire.exchange([completed(job, b'{"ok":true}')], count=1).written == [Written(Code.DONE)]

    assert wire.hash("1") == {
        "name": "j",
        "data": "{}",
        "opts": '{"attempts":0}',
        "timestamp": str(wire.now_ms - 80),
        "delay": "0",
        "priority": "0",
        "processedOn": str(wire.now_ms - 80),
        "ats": "1",
        "atm": "1",
        "returnvalue": '{"ok":true}',
        "finishedOn": str(wire.now_ms),
    }
    assert wire.raw.zscore(wire.queue.completed, "1") == wire.now_ms
    assert wire.raw.exists(wire.queue.lock("1"), wire.queue.active) == 0
    assert wire.events() == [
        {"event": "completed", "jobId": "1", "returnvalue": '{"ok":true}', "prev": "active"},
        {"event": "drained"},
    ]


def test_a_result_arrives_byte_for_byte(wire):
    (job,) = take(wire)

    wire.exchange([completed(job, b'"\x00\xff"')])

    assert wire.raw.hget(wire.queue.job("1"), "returnvalue") == b'"\x00\xff"'


def test_a_job_that_failed_for_good_is_written_as_bullmq_writes_it(wire):
    (job,) = take(wire)
    wire.raw.hset(wire.queue.job("1"), "defa", "stalled")

    wire.exchange([failed(job, "boom", 'Error: "boom"\n  at x')])

    stored = wire.hash("1")
    assert (stored["failedReason"], stored["atm"], stored["finishedOn"]) == ("boom", "1", str(wire.now_ms))
    assert json.loads(stored["stacktrace"]) == ['Error: "boom"\n  at x']
    assert "defa" not in stored
    assert wire.ids(wire.queue.failed) == ["1"]
    assert wire.events() == [
        {"event": "failed", "jobId": "1", "failedReason": "boom", "prev": "active"},
        {"event": "retries-exhausted", "jobId": "1", "attemptsMade": "1"},
        {"event": "drained"},
    ]


def test_an_unrecoverable_failure_before_the_last_attempt_exhausts_nothing(wire):
    (job,) = take(wire)

    wire.exchange([failed(job, attempts=5)])

    assert [event["event"] for event in wire.events()] == ["failed", "drained"]


def test_a_reason_that_utf8_cannot_say_is_written_all_the_same(wire):
    (job,) = take(wire)

    wire.exchange([failed(job, "no file \udcff", "at \udcff")])

    assert wire.hash("1")["failedReason"] == "no file \\udcff"
    assert json.loads(wire.hash("1")["stacktrace"]) == ["at \udcff"]


@pytest.mark.parametrize(
    ("stored", "stack", "limit", "expected"),
    [
        (None, None, None, "[]"),
        (None, "b", None, '["b"]'),
        ("[]", "b", None, '["b"]'),
        ("{}", "b", None, '["b"]'),
        ('["a"]', None, None, '["a"]'),
        ('["a"]', "b", None, '["a","b"]'),
        ('["x","a"]', "b", 2, '["a","b"]'),
        ('["x","a"]', "b", 5, '["x","a","b"]'),
        ('["a"]', "b", 0, "[]"),
        ('["a"]', None, 1, '["a"]'),
        ("nonsense", "b", None, '["b"]'),
        ('["broken', "b", 3, '["b"]'),
    ],
)
def test_stack_traces_are_one_json_array_whatever_was_stored(wire, stored, stack, limit, expected):
    (job,) = take(wire)
    if stored is not None:
        wire.raw.hset(wire.queue.job("1"), "stacktrace", stored)

    wire.exchange([Retried(job.id, job.token, "r", stack, stack_limit=limit)])

    assert wire.hash("1")["stacktrace"] == expected


# --- retries and the ways back --------------------------------------------------------------------


def test_a_retry_with_a_delay_waits_in_delayed_and_counts(wire):
    (job,) = take(wire)

    exchange = wire.exchange([Retried(job.id, job.token, "boom", "s", 400)], count=1)

    due = wire.now_ms + 400
    assert exchange.next_due_ms == due
    assert wire.raw.zscore(wire.queue.delayed, "1") == due * 4096
    stored = wire.hash("1")
    assert (stored["atm"], stored["delay"], stored["failedReason"]) == ("1", "400", "boom")
    assert wire.markers()["1"] == due
    assert wire.events() == [{"event": "delayed", "jobId": "1", "delay": str(due)}]


def test_a_retry_at_once_waits_behind_those_that_are_due(wire):
    wire.add(wire.job("delayed", delay_ms=10))
    (job,) = take(wire)
    wire.now_ms += 10

    wire.exchange([Retried(job.id, job.token, "boom", None)])

    assert wire.ids(wire.queue.wait) == ["2", "1"]
    assert wire.hash("2")["atm"] == "1"
    assert wire.events()[-1] == {"event": "waiting", "jobId": "2", "prev": "active"}
    assert "0" in wire.markers()


def test_a_retry_keeps_priority_and_lifo(wire):
    (job,) = take(wire, priority=9)
    wire.exchange([Retried(job.id, job.token, "boom", None)])
    assert wire.raw.zscore(wire.queue.prioritized, "1") == 9 * 2**32 + 2

    wire.add(wire.job("other"))
    wire.add(wire.job("lifo", lifo=True))
    (lifo,) = wire.fetch()
    wire.exchange([Retried(lifo.id, lifo.token, "boom", None, lifo=True)])
    assert wire.ids(wire.queue.wait) == ["2", "3"]


def test_a_postponed_job_counts_no_attempt(wire):
    (job,) = take(wire)

    wire.exchange([Postponed(job.id, job.token, 200)])

    assert "atm" not in wire.hash("1")
    assert wire.hash("1")["delay"] == "200"
    assert wire.events() == [{"event": "delayed", "jobId": "1", "delay": str(wire.now_ms + 200)}]


def test_a_rate_limited_job_is_next_and_the_limiter_holds(wire):
    (job,) = take(wire)
    wire.add(count=1)
    wire.forget_events()

    exchange = wire.exchange([RateLimited(job.id, job.token, 250)], count=1)

    assert exchange.jobs == []
    assert 0 < exchange.limited_ms <= 250
    assert wire.ids(wire.queue.wait) == ["2", "1"]
    assert wire.raw.get(wire.queue.limiter) == b"9007199254740991"
    assert "atm" not in wire.hash("1")
    assert wire.events() == [{"event": "waiting", "jobId": "1", "prev": "active"}]


def test_a_job_handed_back_is_next_with_its_attempt_not_burnt(wire):
    """I9: a job cut off by a stop is at the head of its queue, `ats` as before, no `processedOn`."""
    jobs = take(wire, 2)
    wire.raw.delete(wire.queue.marker)

    wire.exchange([HandedBack(job.id, job.token) for job in jobs])

    assert wire.ids(wire.queue.wait) == ["1", "2"]
    assert wire.hash("1")["ats"] == "0"
    assert "processedOn" not in wire.hash("1")
    assert wire.markers() == {"0": 0}
    assert wire.raw.exists(wire.queue.lock("1")) == 0


def test_a_prioritized_job_handed_back_is_the_first_of_its_priority(wire):
    """I9: and does not overtake a lower number."""
    wire.add(wire.job(priority=5), wire.job(priority=5), wire.job(priority=1))
    first, second = wire.fetch(2)
    assert (first.id, second.id) == ("3", "1")

    wire.exchange([HandedBack(second.id, second.token)])

    assert wire.raw.zscore(wire.queue.prioritized, "1") == 5 * 2**32
    assert [job.id for job in wire.fetch(2)] == ["1", "2"]


@pytest.mark.parametrize("field", ["paused", "concurrency"])
def test_handing_back_wakes_nobody_while_nothing_may_be_fetched(wire, field):
    """I9: no base marker while paused or maxed."""
    jobs = take(wire, 2)
    wire.raw.hset(wire.queue.meta, field, 1)
    wire.raw.delete(wire.queue.marker)

    wire.exchange([HandedBack(jobs[0].id, jobs[0].token)])

    assert wire.markers() == {}


# --- refusals ---------------------------------------------------------------------------------------


def test_an_outcome_is_written_only_with_the_token_of_the_lock(wire):
    """I4: every write carries the token and the script checks it."""
    jobs = take(wire, 4)
    wire.raw.delete(wire.queue.lock("1"))
    wire.raw.set(wire.queue.lock("2"), "other")
    wire.raw.delete(wire.queue.job("3"))

    written = wire.exchange([completed(job) for job in jobs]).written

    assert [result.code for result in written] == [Code.NO_LOCK, Code.OTHER_LOCK, Code.NO_JOB, Code.DONE]
    assert "returnvalue" not in wire.hash("1")
    assert wire.raw.get(wire.queue.lock("2")) == b"other"
    assert wire.ids(wire.queue.active) == ["3", "2", "1"]


def test_a_job_that_is_not_active_is_not_finished(wire):
    (job,) = take(wire)
    wire.raw.delete(wire.queue.active)

    assert wire.exchange([failed(job)]).written == [Written(Code.NOT_IN_STATE)]
    assert "failedReason" not in wire.hash("1")


def test_a_parent_with_children_is_not_completed(wire):
    jobs = take(wire, 2)
    wire.raw.sadd(wire.queue.job("1") + ":dependencies", "bull:x:1")
    wire.raw.zadd(wire.queue.job("2") + ":unsuccessful", {"bull:x:1": 1})

    written = wire.exchange([completed(job) for job in jobs]).written

    assert [result.code for result in written] == [Code.PENDING_CHILDREN, Code.FAILED_CHILDREN]
    assert wire.raw.exists(wire.queue.lock("1"), wire.queue.lock("2")) == 2


def test_one_job_cannot_end_twice_in_one_call(wire):
    (job,) = take(wire)

    written = wire.exchange([completed(job), failed(job)]).written

    assert [result.code for result in written] == [Code.DONE, Code.NOT_IN_STATE]
    assert "failedReason" not in wire.hash("1")


# --- drained ----------------------------------------------------------------------------------------


def test_drained_is_told_once_after_the_last(wire):
    jobs = take(wire, 3)

    wire.exchange([completed(job) for job in jobs[:2]], count=2)
    assert "drained" not in [event["event"] for event in wire.events()]
    wire.exchange([completed(jobs[2])], count=2)

    assert [event["event"] for event in wire.events()].count("drained") == 1
    assert wire.events()[-1] == {"event": "drained"}


def test_drained_is_not_told_while_delayed_jobs_exist_and_a_fetch_was_asked(wire):
    wire.add(wire.job(delay_ms=1_000))
    jobs = take(wire, 2)

    wire.exchange([completed(jobs[0])], count=1)
    wire.exchange([completed(jobs[1])], count=1)
    assert "drained" not in [event["event"] for event in wire.events()]


def test_drained_is_told_when_no_fetch_was_asked(wire):
    wire.add(wire.job(delay_ms=1_000))
    (job,) = take(wire)

    wire.exchange([completed(job)])

    assert wire.events()[-1] == {"event": "drained"}


# --- keepJobs, metrics, deduplication ------------------------------------------------------------------


def finish_all(wire, count, keep, kind=completed):
    for _ in range(count):
        wire.now_ms += 1_000
        wire.add(count=1)
        (job,) = wire.fetch()
        wire.exchange([kind(job, keep=keep)])


def test_count_0_removes_the_job_itself_with_its_log(wire):
    (job,) = take(wire)
    wire.raw.rpush(wire.queue.logs("1"), "row")

    wire.exchange([completed(job, keep=KeepJobs(count=0))])

    assert wire.raw.exists(wire.queue.job("1"), wire.queue.logs("1"), wire.queue.completed) == 0
    assert wire.events()[0]["event"] == "completed"


def test_count_n_keeps_the_n_newest(wire):
    wire.raw.rpush(wire.queue.logs("1"), "row")

    finish_all(wire, 4, KeepJobs(count=2))

    assert wire.ids(wire.queue.completed) == ["3", "4"]
    assert wire.raw.exists(wire.queue.job("1"), wire.queue.job("2"), wire.queue.logs("1")) == 0
    assert wire.raw.exists(wire.queue.job("3")) == 1


def test_age_removes_what_finished_long_ago(wire):
    finish_all(wire, 3, KEEP_ALL, failed)
    finish_all(wire, 1, KeepJobs(age_s=2), failed)

    assert wire.ids(wire.queue.failed) == ["3", "4"]


def test_age_and_count_work_together_and_limit_bounds_the_age(wire):
    finish_all(wire, 5, KEEP_ALL)
    finish_all(wire, 1, KeepJobs(age_s=1, limit=2))
    assert wire.ids(wire.queue.completed) == ["1", "2", "3", "6"]

    finish_all(wire, 1, KeepJobs(age_s=60, count=1))
    assert wire.ids(wire.queue.completed) == ["7"]


def test_age_0_takes_the_job_that_is_finishing(wire):
    finish_all(wire, 1, KeepJobs(age_s=0))

    assert wire.raw.exists(wire.queue.completed, wire.queue.job("1")) == 0


def test_a_negative_count_keeps_all(wire):
    finish_all(wire, 3, KeepJobs(count=-1))

    assert wire.raw.zcard(wire.queue.completed) == 3


def test_metrics_count_jobs_by_the_minute(wire):
    def finish(times):
        for _ in range(times):
            wire.add(count=1)
            (job,) = wire.fetch()
            wire.exchange([completed(job)], metrics=4)

    finish(5)
    assert wire.raw.hget(wire.queue.metrics("completed"), "count") == b"5"
    assert wire.raw.exists(wire.queue.metrics("completed") + ":data") == 0
    wire.now_ms += 60_000
    finish(1)
    wire.now_ms += 3 * 60_000
    finish(1)

    data = wire.queue.metrics("completed") + ":data"
    assert wire.ids(data) == ["0", "0", "1", "5"]
    wire.now_ms += 60_000
    finish(1)
    assert wire.ids(data) == ["1", "0", "0", "1"]


def test_the_event_stream_is_trimmed_about_to_its_limit(wire):
    wire.raw.hset(wire.queue.meta, "opts.maxLenEvents", 100)
    (job,) = take(wire)
    for _ in range(1_000):
        wire.raw.xadd(wire.queue.events, {"event": "x"})

    wire.exchange([completed(job)])

    assert wire.raw.xlen(wire.queue.events) < 300


def test_a_deduplication_id_without_an_end_is_freed_by_its_owner(wire):
    jobs = take(wire, 3)
    for job, owner, ttl in zip(jobs, ("1", "other", "3"), (None, None, 60_000), strict=True):
        wire.raw.hset(wire.queue.job(job.id), "deid", f"d{job.id}")
        wire.raw.set(f"bull:paint:de:d{job.id}", owner, px=ttl)

    wire.exchange([completed(job) for job in jobs])

    assert wire.raw.exists("bull:paint:de:d1") == 0
    assert wire.raw.exists("bull:paint:de:d2", "bull:paint:de:d3") == 2


def test_the_job_held_back_by_keep_last_if_active_starts_when_its_owner_ends(wire):
    (job,) = take(wire)
    wire.raw.hset(wire.queue.job("1"), "deid", "d")
    wire.raw.set("bull:paint:de:d", "1")
    held = {"name": "next", "data": "[1]", "opts": '{"attempts":2,"priority":0}', "jid": "2"}
    wire.raw.hset("bull:paint:dn:d", mapping=held)

    (following,) = wire.exchange([completed(job)], count=1).jobs

    assert (following.id, following.name, following.data) == ("2", "next", b"[1]")
    assert wire.raw.get("bull:paint:de:d") == b"2"
    assert wire.raw.exists("bull:paint:dn:d") == 0
    assert [event["event"] for event in wire.events()] == ["added", "waiting", "completed", "active"]


@pytest.mark.parametrize("priority", [0, 4])
def test_a_job_put_back_for_the_rate_is_told_to_who_waits(wire, priority):
    (job,) = take(wire, priority=priority)
    wire.raw.delete(wire.queue.marker)  # an idle worker waits on it

    wire.exchange([RateLimited(job.id, job.token)])

    assert wire.markers() == {"0": 0}
