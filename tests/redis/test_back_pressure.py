"""`max_waiting`: a producer is refused when too many jobs wait, before anything is written."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from supervisor.blocking import Queue
from supervisor.client.queue import Queue as AsyncQueue
from supervisor.errors import InvalidJob, QueueFull
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import AddJobs, Room


def test_no_job_is_added_to_a_queue_that_is_full(redis_url, raw):
    with Queue("paint", url=redis_url, max_waiting=2) as queue:
        queue.add("j", {})
        queue.add("j", {}, priority=1)
        before = {key: raw.dump(key) for key in raw.keys("*")}
        with pytest.raises(
            QueueFull, match="2 jobs wait in paint, and max_waiting is 2: the job was not added"
        ) as told:
            queue.add("j", {})
        assert (told.value.waiting, told.value.max_waiting) == (2, 2)
        assert {key: raw.dump(key) for key in raw.keys("*")} == before


def test_a_bulk_is_added_as_a_whole_or_not_at_all(redis_url):
    with Queue("paint", url=redis_url, max_waiting=3) as queue:
        queue.add_bulk([("j", {})] * 2)
        with pytest.raises(QueueFull, match="the 2 jobs were not added"):
            queue.add_bulk([("j", {})] * 2)
        queue.add_bulk([("j", {})])
        queue.add_bulk([])
        assert queue.counts()["waiting"] == 3


def test_room_is_there_again_when_jobs_were_taken(redis_url, wire):
    with Queue("paint", url=redis_url, max_waiting=1) as queue:
        queue.add("j", {})
        wire.fetch()
        queue.add("j", {})


async def test_the_asyncio_client_is_refused_too(redis_url):
    async with AsyncQueue("paint", url=redis_url, max_waiting=0) as queue:
        with pytest.raises(QueueFull):
            await queue.add("j", {})
        with pytest.raises(QueueFull):
            await queue.add_bulk([("j", {})])


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "3"])
def test_a_bound_that_is_no_number_of_jobs_is_refused(redis_url, wrong):
    with pytest.raises(InvalidJob, match="max_waiting"):
        Queue("paint", url=redis_url, max_waiting=wrong)


def test_many_producers_at_one_moment_do_not_pass_the_bound(redis_url, raw):
    def produce(number: int) -> int:
        added = 0
        with Queue("paint", url=redis_url, max_waiting=500) as queue:
            for turn in range(40):
                with contextlib.suppress(QueueFull):
                    if (number + turn) % 4 == 0:
                        added += len(queue.add_bulk([("j", {}, {"priority": turn % 2})] * 130))
                    else:
                        queue.add("j", {})
                        added += 1
        return added

    with ThreadPoolExecutor(12) as producers:
        added = sum(producers.map(produce, range(12)))
    # Whether bulks fit is chance; in the end single jobs fill what is left.
    assert added == raw.llen("bull:paint:wait") + raw.zcard("bull:paint:prioritized") <= 500
    assert added > 370
    assert not raw.exists("bull:paint:ox:room")


def test_room_that_a_bulk_was_promised_is_nobody_elses(redis_url, wire):
    half = [wire.job() for _ in range(3)]
    wire.run(AddJobs(wire.queue, half, room=Room(7, 6, "a")))
    assert [one.code for one in wire.run(AddJobs(wire.queue, half[:2], room=Room(7, 2)))] == [Code.FULL] * 2
    assert wire.run(AddJobs(wire.queue, half[:1], room=Room(7, 1))) == ["4"]
    assert wire.run(AddJobs(wire.queue, half, room=Room(7, 0, "a"))) == ["5", "6", "7"]
    assert not wire.raw.exists(wire.queue.base + ":ox:room")
    # and the calls of a bulk whose first was refused are refused too, however much room there is then
    assert [one.code for one in wire.run(AddJobs(wire.queue, half, room=Room(7, 6, "b")))] == [Code.FULL] * 3
    wire.fetch(7)
    assert [one.code for one in wire.run(AddJobs(wire.queue, half, room=Room(7, 0, "b")))] == [Code.FULL] * 3


def test_a_promise_of_a_producer_that_is_gone_is_forgotten(redis_url, wire):
    room_key = wire.queue.base + ":ox:room"
    wire.run(AddJobs(wire.queue, [wire.job()], room=Room(5, 5, "gone")))
    assert 0 < wire.raw.ttl(room_key) <= 60
    wire.raw.hset(room_key, "gone", "4 1000")  # as it is a minute later
    assert wire.run(AddJobs(wire.queue, [wire.job()] * 4, room=Room(5, 4))) == ["2", "3", "4", "5"]
    assert not wire.raw.exists(room_key)


def test_a_bulk_of_many_calls_is_refused_as_a_whole(redis_url, raw):
    with Queue("paint", url=redis_url, max_waiting=349) as queue:
        before = {key: raw.dump(key) for key in raw.keys("*")}
        with pytest.raises(QueueFull, match="the 350 jobs were not added"):
            queue.add_bulk([("j", {})] * 350)
        assert {key: raw.dump(key) for key in raw.keys("*")} == before
        assert len(queue.add_bulk([("j", {})] * 349)) == 349
        assert raw.keys("*ox*") == []
