"""`max_waiting`: a producer is refused when too many jobs wait, before anything is written."""

from __future__ import annotations

import pytest

from supervisor.blocking import Queue
from supervisor.client.queue import Queue as AsyncQueue
from supervisor.errors import InvalidJob, QueueFull


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
