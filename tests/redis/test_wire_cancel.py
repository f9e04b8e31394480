"""Cancelling on the wire: what becomes of a job in each state, and what is kept for its worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.errors import JobError, JobNotFound, JobNotInState, RedisRefused
from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.commands.cancel import (
    ASKED,
    FAILED_BY_IT,
    KEPT_MS,
    CancelJob,
    EnforceCancel,
    GetCancelRequests,
    new_request,
    read_request,
)
from supervisor.protocol.commands.work import Completed, Failed, Retried
from supervisor.protocol.job_options import KeepJobs

SENTENCE = "cancelled by ann@desk: wrong size"
ALL = KeepJobs(count=-1)


def cancel(wire: Any, job_id: str = "1", reason: str = "wrong size", by: str = "ann@desk") -> int:
    return wire.run(CancelJob(wire.queue, job_id, new_request(reason, by, wire.now_ms), wire.now_ms))


def enforce(wire: Any, job_id: str = "1") -> int:
    found = wire.run(GetCancelRequests(wire.queue, [job_id]))
    return wire.run(EnforceCancel(wire.queue, job_id, found[job_id], wire.now_ms))


def requested(wire: Any, *job_ids: str, reason: str = "wrong size") -> None:
    """As a program of somebody else's does it."""
    for job_id in job_ids:
        wire.raw.hset(wire.queue.cancel, job_id, json.dumps({"reason": reason, "by": "ann@desk", "on": 1}))


@pytest.mark.parametrize(
    ("parts", "state"),
    [({}, "waiting"), ({"delay_ms": 60_000}, "delayed"), ({"priority": 3}, "prioritized")],
)
def test_a_job_that_does_not_run_fails_at_once_and_is_in_no_other_place(wire, parts, state):
    wire.add(wire.job(**parts), wire.job())
    wire.forget_events()

    assert cancel(wire) == FAILED_BY_IT

    assert wire.ids(wire.queue.failed) == ["1"]
    job = wire.hash("1")
    assert (job["failedReason"], job["finishedOn"], job["stacktrace"]) == (SENTENCE, str(wire.now_ms), "[]")
    assert job["atm"] == "0"  # it was never tried
    assert wire.events() == [{"event": "failed", "jobId": "1", "failedReason": SENTENCE, "prev": state}]
    assert [job.id for job in wire.fetch(5)] == ["2"]
    assert not wire.raw.exists(wire.queue.cancel)


def test_a_job_of_a_paused_queue_is_cancelled_where_bullmq_5_keeps_it(wire):
    wire.add(count=2)
    wire.raw.rename(wire.queue.wait, wire.queue.paused)
    wire.raw.hset(wire.queue.meta, "paused", 1)

    assert cancel(wire) == FAILED_BY_IT
    assert wire.ids(wire.queue.paused) == ["2"]


def test_of_one_that_runs_the_request_is_kept_for_a_day_and_told(wire):
    wire.add(count=1)
    wire.fetch()
    listener = wire.raw.pubsub()
    listener.subscribe(wire.queue.cancel)
    listener.get_message(timeout=5)

    assert cancel(wire) == ASKED

    assert listener.get_message(timeout=5)["data"] == b"1"
    listener.close()
    assert KEPT_MS - 10_000 < wire.raw.pttl(wire.queue.cancel) <= KEPT_MS
    request = wire.run(GetCancelRequests(wire.queue))["1"]
    assert (request.by, request.reason, request.on) == ("ann@desk", "wrong size", wire.now_ms)
    assert wire.ids(wire.queue.active) == ["1"]


@pytest.mark.parametrize("end", ["completed", "failed"])
def test_the_request_goes_with_the_job_so_that_its_next_life_is_not_hit(wire, end):
    wire.add(count=2)
    first, second = wire.fetch(2)
    cancel(wire, first.id)
    cancel(wire, second.id)
    done = (
        Completed(first.id, first.token, b"1", ALL)
        if end == "completed"
        else Failed(first.id, first.token, "no", None, ALL, 1)
    )
    wire.exchange([done])

    assert list(wire.run(GetCancelRequests(wire.queue))) == [second.id]


def test_a_job_that_goes_back_to_wait_keeps_its_request_until_a_master_acts_on_it(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    cancel(wire)
    wire.exchange([Retried(job.id, job.token, "no", None, 0)])

    assert enforce(wire) == FAILED_BY_IT
    assert wire.ids(wire.queue.failed) == ["1"]
    assert wire.hash("1")["atm"] == "1"
    assert not wire.raw.exists(wire.queue.cancel)


def test_the_stack_traces_of_earlier_attempts_stay(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.exchange([Retried(job.id, job.token, "no", "boom", 60_000)])

    cancel(wire)
    assert wire.hash("1")["stacktrace"] == '["boom"]'


def test_a_master_that_acts_on_a_request_that_has_changed_does_nothing(wire):
    wire.add(count=1)
    requested(wire, "1")
    old = wire.run(GetCancelRequests(wire.queue, ["1"]))["1"]
    requested(wire, "1", reason="another")

    assert wire.run(EnforceCancel(wire.queue, "1", old, wire.now_ms)) == 0
    assert wire.ids(wire.queue.wait) == ["1"]


def test_a_master_leaves_what_another_runs_and_tells_nobody_again(wire):
    wire.add(count=1)
    wire.fetch()
    requested(wire, "1")
    before = wire.raw.hgetall(wire.queue.cancel)

    assert enforce(wire) == ASKED
    assert wire.raw.hgetall(wire.queue.cancel) == before
    assert wire.raw.pttl(wire.queue.cancel) == -1


def test_requests_for_what_has_ended_or_never_was_are_forgotten(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.exchange([Completed(job.id, job.token, b"1", ALL)])
    requested(wire, "1", "17")

    assert enforce(wire, "1") == -3
    assert enforce(wire, "17") == -1
    assert not wire.raw.exists(wire.queue.cancel)


def test_what_cannot_be_cancelled_says_so_and_changes_nothing(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.exchange([Completed(job.id, job.token, b"1", ALL)])
    next_run = f"repeat:nightly:{wire.now_ms}"
    wire.raw.zadd(wire.queue.repeat, {"nightly": wire.now_ms})
    wire.raw.hset(wire.queue.job(next_run), mapping={"name": "r", "timestamp": 1, "rjk": "nightly"})
    wire.raw.zadd(wire.queue.delayed, {next_run: 1})

    with pytest.raises(JobNotInState, match="Job 1 is not in the"):
        cancel(wire)
    with pytest.raises(JobNotFound, match="Missing key for job 17"):
        cancel(wire, "17")
    with pytest.raises(JobError, match="next run of a job scheduler"):
        cancel(wire, next_run)
    assert wire.ids(wire.queue.delayed) == [next_run]
    assert not wire.raw.exists(wire.queue.cancel)


def test_a_key_of_another_type_is_named_and_nothing_is_changed(wire):
    wire.add(count=1)
    wire.raw.set(wire.queue.failed, "a text")

    with pytest.raises(RedisRefused, match="bull:paint:failed is a string, not a zset"):
        cancel(wire)
    assert wire.ids(wire.queue.wait) == ["1"]


def family(wire: Any, policy: str = "") -> None:
    """The parent `P`, which waits for its only child, job 1."""
    wire.raw.hset(wire.queue.job("P"), mapping={"name": "p", "data": "{}", "delay": 0, "priority": 0})
    wire.raw.zadd(wire.queue.waiting_children, {"P": wire.now_ms})
    flag = f',"{policy}":true' if policy else ""
    text = f'{{"id":"P","queueKey":"bull:paint"{flag}}}'.encode()
    wire.add(wire.job(parent=ParentRef(wire.queue.job("P"), text)))


@pytest.mark.parametrize("policy", ["fpof", "cpof", "idof", "rdof", ""])
def test_a_parent_is_told_by_the_childs_policy(wire, policy):
    family(wire, policy)

    cancel(wire)

    assert wire.ids(wire.queue.wait) == (["P"] if policy else [])
    assert wire.ids(wire.queue.waiting_children) == ([] if policy else ["P"])
    assert wire.hash("P").get("defa") == ("child bull:paint:1 failed" if policy == "fpof" else None)


def test_a_parent_that_waits_for_children_can_be_cancelled_and_its_children_end_as_they_will(wire):
    family(wire)

    assert cancel(wire, "P") == FAILED_BY_IT
    (child,) = wire.fetch()
    wire.exchange([Completed(child.id, child.token, b"1", ALL)])

    assert wire.ids(wire.queue.failed) == ["P"]
    assert wire.ids(wire.queue.completed) == ["1"]
    assert wire.ids(wire.queue.wait) == []


def test_a_job_that_does_not_stay_when_it_has_failed_is_gone(wire):
    wire.add(wire.job(opts=b'{"removeOnFail":true}'), wire.job(opts=b'{"removeOnFail":1}'), wire.job())
    for job_id in ("1", "3", "2"):
        cancel(wire, job_id)
        wire.now_ms += 1

    assert not wire.raw.exists(wire.queue.job("1"))
    assert wire.ids(wire.queue.failed) == ["2"]


def test_a_deduplication_id_is_let_go(wire):
    wire.add(count=1)
    wire.raw.hset(wire.queue.job("1"), "deid", "report")
    wire.raw.set(wire.queue.deduplication("report"), "1")

    cancel(wire)
    assert not wire.raw.exists(wire.queue.deduplication("report"))


# --- what others may write ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b'{"reason":"too  late\\n","by":"node"}', "cancelled by node: too late"),
        (b'{"by":"node"}', "cancelled by node"),
        (b'{"reason":"too late"}', "cancelled: too late"),
        (b"too late", "cancelled: too late"),
        (b'"too late"', "cancelled: too late"),
        (b"", "cancelled"),
        (b"17", "cancelled"),
        (b'{"reason":17,"by":[],"on":"x"}', "cancelled"),
        (b"\xff", "cancelled: \\xff"),
        (b"[" * 5_000, "cancelled: " + "[" * 997 + "..."),
    ],
)
def test_whatever_a_request_is_its_sentence_can_be_read(text, sentence):
    assert read_request(text).sentence == sentence
