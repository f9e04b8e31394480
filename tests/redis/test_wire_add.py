"""Adding jobs: keys, scores and events as recorded in traces 01, 03, 04, 08, 14 and bulk."""

from __future__ import annotations

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import AddJobs, NotAdded, ParentRef, Room
from supervisor.protocol.keys import QueueKeys

PARENT_QUEUE = QueueKeys("flow")


def parent_ref(job_id: str = "P", policy: str = "") -> ParentRef:
    flag = f',"{policy}":true' if policy else ""
    return ParentRef(PARENT_QUEUE.job(job_id), f'{{"id":"{job_id}","queueKey":"bull:flow"{flag}}}'.encode())


def test_a_plain_job_is_stored_as_bullmq_stores_it(wire):
    ids = wire.add(wire.job("paint", data=b'{"colour":"red"}'))

    assert ids == ["1"]
    assert wire.hash("1") == {
        "name": "paint",
        "data": '{"colour":"red"}',
        "opts": '{"attempts":0}',
        "timestamp": str(wire.now_ms),
        "delay": "0",
        "priority": "0",
    }
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.markers() == {"0": 0}
    assert wire.raw.get(wire.queue.id) == b"1"
    assert wire.raw.hgetall(wire.queue.meta) == {b"opts.maxLenEvents": b"10000"}
    assert wire.events() == [
        {"event": "added", "jobId": "1", "name": "paint"},
        {"event": "waiting", "jobId": "1"},
    ]


def test_data_arrives_byte_for_byte(wire):
    data = b'"\x00\xff\xfe\r\n'

    wire.add(wire.job(data=data))

    assert wire.fetch()[0].data == data


def test_two_jobs_due_in_the_same_millisecond_keep_their_order(wire):
    wire.add(wire.job(delay_ms=600), wire.job(delay_ms=600, priority=5))

    due = wire.now_ms + 600
    assert wire.raw.zrange(wire.queue.delayed, 0, -1, withscores=True) == [
        (b"1", due * 4096),
        (b"2", due * 4096 + 1),
    ]
    assert wire.markers() == {"1": due}
    assert wire.events()[1] == {"event": "delayed", "jobId": "1", "delay": str(due)}
    assert wire.hash("2")["delay"] == "600"


def test_priorities_run_lowest_first_and_in_order_within_one(wire):
    wire.add(*(wire.job(priority=priority) for priority in (5, 1, 5, 0, 2_097_151)))

    assert wire.raw.zrange(wire.queue.prioritized, 0, -1, withscores=True) == [
        (b"2", 1 * 2**32 + 2),
        (b"1", 5 * 2**32 + 1),
        (b"3", 5 * 2**32 + 3),
        (b"5", 2_097_151 * 2**32 + 4),
    ]
    assert [job.id for job in wire.fetch(5)] == ["4", "2", "1", "3", "5"]


def test_the_priority_counter_wraps(wire):
    wire.raw.set(wire.queue.pc, 2**32 - 1)

    wire.add(wire.job(priority=3))

    assert wire.raw.zscore(wire.queue.prioritized, "1") == 3 * 2**32


def test_lifo_runs_before_what_waits(wire):
    wire.add(wire.job("a"), wire.job("b"), wire.job("c", lifo=True))

    assert [job.name for job in wire.fetch(3)] == ["c", "a", "b"]


def test_an_id_that_is_there_adds_nothing_but_is_told(wire):
    wire.add(wire.job("first", job_id="mine"))

    assert wire.add(wire.job("second", job_id="mine")) == ["mine"]
    assert wire.hash("mine")["name"] == "first"
    assert wire.raw.get(wire.queue.id) == b"2"
    assert wire.events()[-1] == {"event": "duplicated", "jobId": "mine"}


def test_a_paused_queue_takes_jobs_and_wakes_nobody(wire):
    wire.raw.hset(wire.queue.meta, "paused", 1)

    wire.add(wire.job(), wire.job(priority=3), wire.job(delay_ms=50_000))

    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.markers() == {"1": wire.now_ms + 50_000}


def test_beside_a_paused_bullmq_5_we_push_where_its_resume_looks(wire):
    wire.raw.hset(wire.queue.meta, "paused", 1)
    wire.raw.lpush(wire.queue.paused, "old")

    wire.add(wire.job(), wire.job(lifo=True))

    assert wire.ids(wire.queue.paused) == ["1", "old", "2"]
    assert wire.raw.exists(wire.queue.wait) == 0


def test_a_queue_at_its_concurrency_wakes_nobody(wire):
    wire.raw.hset(wire.queue.meta, "concurrency", 1)
    wire.raw.lpush(wire.queue.active, "other")

    wire.add(count=1)

    assert wire.markers() == {}


def test_a_child_is_entered_with_its_parent(wire):
    wire.raw.hset(PARENT_QUEUE.job("P"), "name", "p")

    wire.add(wire.job(parent=parent_ref(policy="fpof")))

    assert wire.hash("1")["parentKey"] == "bull:flow:P"
    assert wire.hash("1")["parent"] == '{"id":"P","queueKey":"bull:flow","fpof":true}'
    assert wire.raw.smembers(PARENT_QUEUE.job("P") + ":dependencies") == {b"bull:paint:1"}


def test_a_child_without_its_parent_is_refused_alone(wire):
    assert wire.add(wire.job(), wire.job(parent=parent_ref()), wire.job()) == [
        "1",
        NotAdded(Code.NO_PARENT),
        "2",
    ]


def test_a_completed_job_can_become_the_child_of_a_new_parent_and_releases_it(wire):
    wire.raw.hset(PARENT_QUEUE.job("P"), "name", "p")
    wire.raw.zadd(PARENT_QUEUE.waiting_children, {"P": 1})
    wire.add(wire.job(job_id="c"))
    wire.raw.delete(wire.queue.wait)
    wire.raw.zadd(wire.queue.completed, {"c": 1})
    wire.raw.hset(wire.queue.job("c"), "returnvalue", "7")

    assert wire.add(wire.job(job_id="c", parent=parent_ref())) == ["c"]

    assert wire.raw.hgetall(PARENT_QUEUE.job("P") + ":processed") == {b"bull:paint:c": b"7"}
    assert wire.ids(PARENT_QUEUE.wait) == ["P"]
    assert wire.hash("c")["parentKey"] == "bull:flow:P"


def test_a_child_is_not_taken_from_a_parent_that_lives(wire):
    for parent in ("P", "Q"):
        wire.raw.hset(PARENT_QUEUE.job(parent), "name", "p")
    wire.add(wire.job(job_id="c", parent=parent_ref("P")))

    assert wire.add(wire.job(job_id="c", parent=parent_ref("Q"))) == [NotAdded(Code.OTHER_PARENT)]
    assert wire.hash("c")["parentKey"] == "bull:flow:P"

    wire.raw.delete(PARENT_QUEUE.job("P"))
    assert wire.add(wire.job(job_id="c", parent=parent_ref("Q"))) == ["c"]
    assert wire.hash("c")["parentKey"] == "bull:flow:Q"


def test_a_hundred_jobs_are_one_call_and_one_marker(wire):
    ids = wire.add(count=100)

    assert ids == [str(number) for number in range(1, 101)]
    assert wire.ids(wire.queue.wait)[::-1] == ids
    assert wire.raw.zcard(wire.queue.marker) == 1


def stored(wire):
    events = [tuple(event.items()) for event in wire.events()]
    keys = sorted(wire.raw.scan_iter("bull:paint:*"))
    return events, {key: wire.raw.dump(key) for key in keys if not key.endswith(b":events")}


@pytest.mark.parametrize("concurrency", [None, 1])
@pytest.mark.parametrize("count", [1, 7])
def test_what_is_done_at_once_for_jobs_that_just_wait_is_what_is_done_for_each(wire, count, concurrency):
    if concurrency:
        wire.raw.lpush(wire.queue.active, "other")
        wire.raw.hset(wire.queue.meta, "concurrency", concurrency)
    jobs = [wire.job(f"{number}", data=b"%d" % number) for number in range(count)]
    before = {key: wire.raw.dump(key) for key in wire.raw.scan_iter("bull:paint:*")}

    at_once = wire.run(AddJobs(wire.queue, jobs)), stored(wire)
    wire.raw.flushdb()
    for key, dumped in before.items():
        wire.raw.restore(key, 0, dumped)
    one_by_one = wire.run(AddJobs(wire.queue, jobs, room=Room(count, count))), stored(wire)

    assert at_once == one_by_one


def test_a_counted_id_that_is_taken_is_that_of_the_job_which_was_there(wire):
    wire.raw.hset(wire.queue.job("2"), "name", "first")

    assert wire.add(count=3) == ["1", "2", "3"]
    assert wire.ids(wire.queue.wait)[::-1] == ["1", "3"]
    assert wire.raw.hgetall(wire.queue.job("2")) == {b"name": b"first"}
    assert wire.raw.get(wire.queue.id) == b"3"
    assert {"event": "duplicated", "jobId": "2"} in wire.events()


def test_a_count_that_is_none_is_told_and_nothing_is_stored(wire):
    wire.raw.set(wire.queue.id, "many")

    results = wire.add(count=2)

    assert [result.code for result in results] == [Code.GUILTY, Code.GUILTY]
    assert "not an integer" in results[0].text
    assert wire.raw.keys("bull:paint:*") == [b"bull:paint:id"]


def test_a_call_of_many_jobs_keeps_about_as_many_events_as_are_wanted(wire):
    for _ in range(20):
        wire.run(AddJobs(wire.queue, [wire.job()] * 100, max_events=100))

    assert 100 <= wire.raw.xlen(wire.queue.events) < 100 + 2 * 200


@pytest.mark.parametrize(
    ("attribute", "parts"), [("wait", {}), ("delayed", {"delay_ms": 5}), ("prioritized", {"priority": 1})]
)
def test_a_key_of_another_type_is_named_and_nothing_is_half_stored(wire, attribute, parts):
    wire.raw.set(getattr(wire.queue, attribute), "x")

    (result,) = wire.add(wire.job(**parts))

    assert result.code == Code.GUILTY
    assert f"bull:paint:{attribute}" in result.text
    assert wire.raw.exists(wire.queue.job("1")) == 0


def test_when_memory_is_full_nothing_is_stored_and_redis_says_so(wire):
    wire.raw.config_set("maxmemory", 1)

    results = wire.add(count=2)

    wire.raw.config_set("maxmemory", 0)
    assert [result.code for result in results] == [Code.GUILTY, Code.GUILTY]
    assert "OOM" in results[0].text
    assert wire.raw.dbsize() == 0


def test_the_event_limit_of_the_call_is_used_where_the_queue_says_nothing(wire):
    wire.run(AddJobs(wire.queue, [wire.job()], max_events=500))

    assert wire.raw.hget(wire.queue.meta, "opts.maxLenEvents") == b"500"


def test_the_list_of_bullmq_5_gets_nothing_while_the_queue_is_not_paused(wire):
    wire.raw.lpush(wire.queue.paused, "old")

    wire.add(count=1)

    assert wire.ids(wire.queue.wait) == ["1"]


def test_more_jobs_than_places_in_one_millisecond_stay_in_that_millisecond(wire):
    due = wire.now_ms + 600
    wire.raw.zadd(wire.queue.delayed, {"last": due * 4096 + 4095})

    wire.add(wire.job(delay_ms=600))

    assert wire.raw.zscore(wire.queue.delayed, "1") == due * 4096 + 4095
