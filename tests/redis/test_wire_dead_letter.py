"""A job that failed for good is copied into another queue, in the call that writes its failure."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import Completed, Failed, FinishAndFetch, Retried, Written
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.keys import QueueKeys

DEAD = QueueKeys("paint-dead")


def take(wire, **parts):
    wire.add(wire.job(**parts))
    (job,) = wire.fetch()
    wire.forget_events()
    return job


def failed(job, reason="boom", stack="at x", keep=KEEP_ALL, attempts=1, **parts):
    return Failed(job.id, job.token, reason, stack, keep, attempts, dead_letter=DEAD, **parts)


def letter(wire, letter_id="1"):
    return json.loads(wire.raw.hget(DEAD.job(letter_id), "data"))


def test_the_copy_is_a_job_of_the_other_queue_and_tells_all_of_the_first(wire):
    job = take(wire, name="resize", data=b'{"a": [ ]}', opts=b'{"attempts":3,"jobId":"x"}', job_id="x")
    wire.raw.hset(wire.queue.job("x"), mapping={"atm": 2, "stacktrace": '["first"]', "ox:dep": "shop"})
    wire.now_ms += 80

    assert wire.exchange([failed(job, attempts=3)]).written == [Written(Code.DONE)]

    stored = wire.hash("1", DEAD)
    assert json.loads(stored.pop("data")) == {
        "queue": "paint",
        "id": "x",
        "name": "resize",
        "data": '{"a": [ ]}',
        "opts": '{"attempts":3,"jobId":"x"}',
        "failedReason": "boom",
        "stacktrace": ["first", "at x"],
        "attemptsMade": 3,
        "timestamp": wire.now_ms - 80,
        "finishedOn": wire.now_ms,
        "ox": {"ox:dep": "shop"},
    }
    assert stored == {
        "name": "resize",
        "opts": '{"attempts":0}',
        "timestamp": str(wire.now_ms),
        "delay": "0",
        "priority": "0",
    }
    assert wire.ids(DEAD.wait) == ["1"]
    assert wire.raw.zrange(DEAD.marker, 0, -1) == [b"0"]
    assert wire.raw.hget(DEAD.meta, "opts.maxLenEvents") == b"10000"
    assert wire.events(DEAD) == [
        {"event": "added", "jobId": "1", "name": "resize"},
        {"event": "waiting", "jobId": "1"},
    ]
    assert wire.ids(wire.queue.failed) == ["x"]


def test_only_a_failure_for_good_is_copied(wire):
    first, second = take(wire), take(wire)

    wire.exchange([Retried(first.id, first.token, "boom", None)])
    wire.exchange([Completed(second.id, second.token, b"1", KEEP_ALL)])

    assert wire.raw.keys("bull:paint-dead:*") == []


def test_without_a_queue_for_them_nothing_is_copied(wire):
    job = take(wire)

    wire.exchange([replace(failed(job), dead_letter=None)])

    assert {key.split(b":")[1] for key in wire.raw.keys("*")} == {b"paint"}


def test_a_job_that_is_removed_as_it_fails_lives_on_in_its_copy(wire):
    job = take(wire, data=b'{"n":1}')

    wire.exchange([failed(job, keep=KeepJobs(count=0))])

    assert wire.raw.exists(wire.queue.job(job.id)) == 0
    assert letter(wire)["data"] == '{"n":1}'
    assert letter(wire)["stacktrace"] == ["at x"]


@pytest.mark.parametrize(
    "data", [b"not json", b'{"a":"\\ud800"}', b'"\x00\x1f\x7f/\\"', b'{"big":12345678901234567890}', b"[]"]
)
def test_data_is_carried_byte_for_byte(wire, data):
    job = take(wire, data=data, opts=b"neither is this")

    wire.exchange([failed(job)])

    assert letter(wire)["data"].encode() == data
    assert letter(wire)["opts"] == "neither is this"


@pytest.mark.parametrize(
    ("stored", "limit", "told"),
    [
        ('["\\ud800"]', None, ['["\\ud800","at x"]']),
        ("rubbish", None, ["at x"]),
        ('[{"a":1},2]', None, ['{"a":1}', "2", "at x"]),
        ('["a"]', 0, []),
    ],
)
def test_the_stack_traces_are_texts_whatever_was_stored(wire, stored, limit, told):
    job = take(wire)
    wire.raw.hset(wire.queue.job(job.id), "stacktrace", stored)

    wire.exchange([failed(job, stack_limit=limit)])

    assert letter(wire)["stacktrace"] == told


def test_the_call_sent_again_makes_no_second_copy(wire):
    job = take(wire)
    call = FinishAndFetch(
        wire.queue, call_token="w:9", now_ms=wire.now_ms, lock_ms=1_000, count=0, outcomes=[failed(job)]
    )

    wire.run(call)
    again = wire.run(call.repetition())

    assert again.written == [Written(Code.DONE, "written")]
    assert wire.ids(DEAD.wait) == ["1"]


def test_a_paused_queue_takes_the_copy_and_nobody_is_woken(wire):
    wire.raw.hset(DEAD.meta, "paused", "1")

    wire.exchange([failed(take(wire))])

    assert wire.ids(DEAD.wait) == ["1"]
    assert wire.raw.exists(DEAD.marker) == 0


def test_an_id_that_is_taken_there_is_passed_over(wire):
    wire.raw.hset(DEAD.job("1"), "name", "somebody's")

    wire.exchange([failed(take(wire))])

    assert wire.ids(DEAD.wait) == ["2"]
    assert wire.hash("1", DEAD) == {"name": "somebody's"}


@pytest.mark.parametrize("part", ["wait", "meta", "events", "id"])
def test_a_queue_that_cannot_take_the_copy_keeps_no_job_from_its_end_but_the_job_is_kept(wire, part):
    wire.raw.delete(f"{DEAD.base}:{part}")
    wire.raw.execute_command(*{
        "wait": ("SET", DEAD.wait, "x"),
        "meta": ("SET", DEAD.meta, "x"),
        "events": ("SET", DEAD.events, "x"),
        "id": ("SET", DEAD.id, "no number"),
    }[part])  # fmt: skip
    job = take(wire)
    before = sorted(wire.raw.keys("bull:paint-dead:*"))

    (written,) = wire.exchange([failed(job, keep=KeepJobs(count=0))]).written

    assert written.code == Code.DONE
    assert written.text
    assert wire.hash(job.id)["failedReason"] == "boom"
    assert wire.ids(wire.queue.failed) == [job.id]
    assert sorted(wire.raw.keys("bull:paint-dead:*")) == before


def test_the_copy_is_written_when_memory_is_short(wire):
    job = take(wire)
    wire.raw.config_set("maxmemory", 1)
    try:
        (written,) = wire.exchange([failed(job)]).written
    finally:
        wire.raw.config_set("maxmemory", 0)

    assert written == Written(Code.DONE)
    assert wire.ids(DEAD.wait) == ["1"]


def test_a_long_prefix_is_no_part_of_the_queues_name(wire):
    wire.queue, dead = QueueKeys("paint", "my:own"), QueueKeys("dead", "my:own")
    job = take(wire)

    wire.exchange([replace(failed(job), dead_letter=dead)])

    assert json.loads(wire.raw.hget(dead.job("1"), "data"))["queue"] == "paint"
