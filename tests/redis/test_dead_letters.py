"""Dead letters read and replayed: nothing is lost, nothing is run twice."""

from __future__ import annotations

import json

import pytest

from supervisor import blocking
from supervisor.client import Queue
from supervisor.client.dead_letter import DeadLetter, Replayed, dead_letter, dead_letters, replay, replay_all
from supervisor.errors import JobError, JobNotFound, UsageError
from supervisor.protocol.commands.dead_letter import ReplayDeadLetters, replay_letters
from supervisor.protocol.commands.job import RetryJob
from supervisor.protocol.commands.work import Failed
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive_blocking

DEAD = QueueKeys("paint-dead")
GONE = KeepJobs(count=0)


@pytest.fixture
def dead(redis_url, raw):
    with blocking.Queue("paint-dead", url=redis_url) as queue:
        yield queue


def fail(wire, keep=KEEP_ALL, **parts):
    """A job that failed for good and left a letter; its id."""
    wire.add(wire.job(**parts))
    (job,) = wire.fetch()
    wire.exchange([Failed(job.id, job.token, "boom", "at x", keep, 1, dead_letter=DEAD)])
    wire.forget_events()
    return job.id


def everything(raw):
    """All keys; of a hash its fields, whose order in a dump may change by itself."""
    return {
        key: raw.hgetall(key) if raw.type(key) == b"hash" else raw.dump(key) for key in sorted(raw.keys())
    }


def again(wire, letter_id="1", to=None):
    (result,) = wire.run(ReplayDeadLetters(DEAD, wire.now_ms, to, [letter_id]))
    return result


# --- reading --------------------------------------------------------------------------------------


def test_a_letter_is_read_as_a_record(wire, dead):
    fail(wire, name="resize", data=b'{"n":1}', opts=b'{"attempts":2}', job_id="x")

    (letter,) = dead.run(dead_letters())

    assert letter == dead.run(dead_letter("1"))
    assert letter == DeadLetter(
        id="1", queue="paint", job_id="x", name="resize", data={"n": 1}, options={"attempts": 2},
        failed_reason="boom", stacktrace=("at x",), attempts_made=1, timestamp=wire.now_ms,
        finished_on=wire.now_ms,
    )  # fmt: skip
    assert dead.run(dead_letter("no")) is None


def test_broken_texts_are_named_and_any_other_job_is_no_letter(wire, dead):
    fail(wire, data=b"{broken", opts=b"{broken")
    fail(wire, data=b'"\xff"')
    dead.add("somebody's", {"queue": "paint"})

    broken, bent, other = dead.run(dead_letters())

    assert (broken.data, broken.options) == (None, None)
    assert [problem.partition(" cannot")[0] for problem in broken.problems] == ["its options", "its data"]
    assert bent.data == "\N{REPLACEMENT CHARACTER}"
    assert (other.id, other.queue, other.problems) == ("3", "", ("it is no dead letter",))


# --- replaying one --------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "priority"), [(None, 0), ("mine", 0), (None, 5)])
def test_a_job_that_is_still_failed_is_put_back_with_fresh_attempts(wire, given, priority):
    job_id = fail(wire, job_id=given, priority=priority, data=b'{"n": 1}')
    wire.raw.hset(wire.queue.job(job_id), "stc", 2)

    assert again(wire) == Replayed("1", "paint", job_id)

    stored = wire.hash(job_id)
    assert stored["data"] == '{"n": 1}'
    assert stored.keys().isdisjoint({"atm", "ats", "stc", "failedReason", "finishedOn"})
    assert wire.ids(wire.queue.prioritized if priority else wire.queue.wait) == [job_id]
    assert wire.raw.exists(wire.queue.failed, DEAD.wait, DEAD.job("1")) == 0
    assert wire.events() == [{"event": "waiting", "jobId": job_id, "prev": "failed"}]
    assert wire.events(DEAD)[-1] == {"event": "removed", "jobId": "1", "prev": "wait"}
    assert wire.markers() == {"0": 0.0}


def test_a_job_that_is_gone_is_added_anew_byte_for_byte(wire):
    data = b'{"a": [ ], "big": 12345678901234567890, "s": "\\ud800\xff"}'
    opts = b'{"attempts":3,"priority":7,"jobId":"mine","delay":5000}'
    fail(wire, GONE, name="resize", data=data, opts=opts, job_id="mine", delay_ms=0)
    wire.now_ms += 500

    assert again(wire) == Replayed("1", "paint", "mine")

    assert wire.raw.hgetall(wire.queue.job("mine")) == {
        b"name": b"resize",
        b"data": data,
        b"opts": opts,
        b"timestamp": str(wire.now_ms).encode(),
        b"delay": b"0",
        b"priority": b"7",
    }
    assert wire.ids(wire.queue.prioritized) == ["mine"]
    assert wire.events() == [
        {"event": "added", "jobId": "mine", "name": "resize"},
        {"event": "waiting", "jobId": "mine"},
    ]
    assert wire.raw.exists(DEAD.wait, DEAD.job("1")) == 0


def test_a_number_is_not_used_a_second_time(wire):
    fail(wire, GONE)

    assert again(wire).job_id == "2"
    assert wire.fetch()[0].id == "2"


def test_a_number_that_another_job_has_by_now_is_left_to_it(wire):
    fail(wire, GONE)
    wire.raw.delete(wire.queue.id)
    wire.now_ms += 1
    assert wire.add(wire.job("other")) == ["1"]

    assert again(wire).job_id == "2"
    assert wire.hash("1")["name"] == "other"


def test_a_job_that_was_put_back_by_hand_is_not_run_twice(wire):
    job_id = fail(wire)
    wire.run(RetryJob(wire.queue, job_id, "failed"))

    assert again(wire) == Replayed("1", "", "", "the job itself is no longer failed")
    assert wire.ids(wire.queue.wait) == [job_id]
    assert wire.ids(DEAD.wait) == ["1"]


def test_an_id_that_another_job_has_is_told_and_nothing_is_swallowed(wire):
    fail(wire, GONE, job_id="mine")
    wire.now_ms += 1
    wire.add(wire.job("other", job_id="mine"))

    assert again(wire).why == "another job has the id mine there"
    assert wire.hash("mine")["name"] == "other"
    assert wire.ids(DEAD.wait) == ["1"]


def test_another_queue_gets_a_job_of_its_own_and_the_failed_one_stays(wire):
    job_id = fail(wire)
    other = QueueKeys("repair")

    assert again(wire, to="repair") == Replayed("1", "repair", "1")

    assert wire.ids(other.wait) == ["1"]
    assert wire.ids(wire.queue.failed) == [job_id]
    assert wire.raw.hget(other.meta, "opts.maxLenEvents") == b"10000"
    assert again(wire, to="repair").why == "there is no such letter"


def test_the_queue_of_letters_is_no_place_for_their_jobs(wire):
    fail(wire)

    assert again(wire, to="paint-dead").why == "its job is one of this very queue"


@pytest.mark.parametrize("place", ["failed", "completed", "delayed", "prioritized", "paused"])
def test_a_letter_is_found_wherever_it_stands(wire, place):
    job_id = fail(wire)
    wire.raw.delete(DEAD.wait)
    key = f"{DEAD.base}:{place}"
    wire.raw.lpush(key, "1") if place == "paused" else wire.raw.zadd(key, {"1": 5})

    assert again(wire).job_id == job_id
    assert wire.raw.exists(key) == 0


def test_a_letter_that_a_worker_has_is_left_to_it(wire):
    fail(wire)
    wire.raw.lmove(DEAD.wait, DEAD.active)

    assert again(wire).why == "a worker has taken it"
    assert wire.ids(DEAD.active) == ["1"]


@pytest.mark.parametrize(
    "data",
    ["{", "[]", "5", '{"queue":"paint"}', '{"queue":"a:b","id":"1","name":"n","data":"{}","opts":"{}"}',
     '{"queue":"paint","id":5,"name":"n","data":"{}","opts":"{}"}'],
)  # fmt: skip
def test_a_job_that_is_no_letter_is_left_as_it_is(wire, data):
    fail(wire)
    wire.raw.hset(DEAD.job("1"), "data", data)

    assert again(wire).why == "it is no dead letter"
    assert wire.ids(DEAD.wait) == ["1"]


@pytest.mark.parametrize("part", ["wait", "events", "id"])
def test_a_queue_that_cannot_take_the_job_leaves_all_as_it_was(wire, part):
    fail(wire, GONE)
    wire.raw.delete(f"{wire.queue.base}:{part}")
    wire.raw.zadd(f"{wire.queue.base}:{part}", {"x": 1})
    before = everything(wire.raw)

    assert f"bull:paint:{part} is a zset" in again(wire).why
    assert everything(wire.raw) == before


def test_a_job_of_a_flow_is_waited_for_once_more(wire):
    wire.add(wire.job("parent", job_id="p"))
    link = {"parent_key": "bull:paint:p", "parent": '{"id":"p","queueKey":"bull:paint","idof":true}'}
    wire.fetch()
    job_id = fail(wire)
    wire.raw.hset(wire.queue.job(job_id), mapping={"parentKey": link["parent_key"], "parent": link["parent"]})
    wire.raw.hset("bull:paint:p:failed", wire.queue.job(job_id), "boom")

    assert again(wire).done

    assert wire.raw.smembers("bull:paint:p:dependencies") == {wire.queue.job(job_id).encode()}


# --- replaying all --------------------------------------------------------------------------------


def test_all_go_oldest_first_and_what_is_left_for_a_reason_is_looked_at_once(wire, dead):
    first, _, third = fail(wire), fail(wire, GONE), fail(wire)
    wire.run(RetryJob(wire.queue, first, "failed"))

    results = dead.run(replay_all())

    assert [(each.letter_id, each.done) for each in results] == [("1", False), ("2", True), ("3", True)]
    assert wire.ids(DEAD.wait) == ["1"]
    assert wire.ids(wire.queue.wait)[::-1] == [first, results[1].job_id, third]


def test_a_limit_takes_the_oldest(wire, dead):
    for _ in range(5):
        fail(wire)

    assert [each.letter_id for each in dead.run(replay_all(limit=2))] == ["1", "2"]
    assert wire.ids(DEAD.wait) == ["5", "4", "3"]


def test_what_bullmq_5_put_aside_is_replayed_too(wire, dead):
    fail(wire)
    wire.raw.rename(DEAD.wait, DEAD.paused)

    assert [each.done for each in dead.run(replay_all())] == [True]


def test_large_letters_make_small_slices(wire):
    for _ in range(4):
        fail(wire, data=json.dumps("x" * 200_000).encode())

    slice_ = wire.run(ReplayDeadLetters(DEAD, wire.now_ms, place="wait", count=4))

    assert len(slice_) == 2
    assert all(each.done for each in drive_blocking(replay_letters(DEAD, wire.now_ms), wire.run))
    assert wire.raw.llen(wire.queue.wait) == 4


# --- both clients, and what they refuse -----------------------------------------------------------


async def test_both_clients_replay(wire, dead, redis_url):
    job_id, gone = fail(wire), fail(wire, GONE)

    async with Queue("paint-dead", url=redis_url) as queue:
        assert len(await queue.run(dead_letters())) == 2
        assert await queue.run(replay("1")) == Replayed("1", "paint", job_id)
        with pytest.raises(JobNotFound, match="dead letter 1 of paint-dead is not replayed: there is no"):
            await queue.run(replay("1"))
    assert dead.run(replay("2")).job_id != gone
    fail(wire)
    wire.raw.hset(DEAD.job("3"), "data", "5")
    with pytest.raises(JobError, match="it is no dead letter"):
        dead.run(replay("3"))


def test_bad_values_are_refused_before_anything_is_sent():
    for refused in (lambda: replay("1", to="a:b"), lambda: replay_all(to=""), lambda: replay_all(limit=0)):
        with pytest.raises((UsageError, JobError)):
            refused()
