"""What dashboards ask of a queue: counts, ranges, logs, connections, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from supervisor.blocking import Queue
from supervisor.client import getters
from supervisor.client.edit import add_log
from supervisor.client.queue import Queue as AsyncQueue
from supervisor.errors import InvalidJob, UsageError
from supervisor.protocol.commands.work import Completed
from supervisor.protocol.job_options import KeepJobs


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("paint", url=redis_url) as made:
        yield made


def fill(queue: Queue) -> None:
    """Jobs 1 to 4 wait, 5 and 6 have priority 10 and 1, 7 and 8 are due in 90 and 60 s."""
    queue.add_bulk([("j", {})] * 4)
    queue.add_bulk([("j", {}, {"priority": 10}), ("j", {}, {"priority": 1})])
    queue.add_bulk([("j", {}, {"delay_ms": 90_000}), ("j", {}, {"delay_ms": 60_000})])


def test_counts_of_some_states_come_in_the_order_asked(queue):
    fill(queue)
    assert list(queue.run(getters.counts("waiting", "delayed")).items()) == [("waiting", 4), ("delayed", 2)]
    assert queue.run(getters.counts())["prioritized"] == 2
    assert queue.run(getters.count("waiting", "prioritized")) == 6
    assert queue.run(getters.count()) == 8


def test_waiting_counts_what_bullmq_5_put_aside(queue, raw):
    fill(queue)
    raw.lpush(queue.keys.paused, "91", "92")
    assert queue.run(getters.counts("waiting")) == {"waiting": 6}


def test_priorities_are_counted_one_by_one(queue):
    fill(queue)
    queue.add("j", {}, priority=10)
    assert queue.run(getters.counts_by_priority(0, 1, 10, 11, 1)) == {0: 4, 1: 1, 10: 2, 11: 0}
    assert queue.run(getters.counts_by_priority()) == {}
    with pytest.raises(InvalidJob):
        getters.counts_by_priority(-1)


def test_delayed_jobs_are_counted_by_when_they_are_due(queue):
    job = queue.add("j", {}, delay_ms=5_000)
    due_on = job.timestamp + 5_000
    assert queue.run(getters.count_due_before(due_on)) == 0
    assert queue.run(getters.count_due_before(due_on + 1)) == 1


def test_jobs_of_several_states_come_state_by_state_in_either_order(queue):
    fill(queue)
    ids = [job.id for job in queue.run(getters.jobs("delayed", "waiting", end=1))]
    assert ids == ["8", "7", "1", "2"]
    ids = [job.id for job in queue.run(getters.jobs("delayed", "waiting", end=1, newest_first=True))]
    assert ids == ["7", "8", "4", "3"]


def test_an_id_without_a_job_gives_its_place_to_the_next(queue, raw):
    fill(queue)
    raw.delete(queue.keys.job("1"), queue.keys.job("3"))
    assert [job.id for job in queue.run(getters.jobs("waiting", end=1))] == ["2", "4"]
    assert queue.run(getters.ids("waiting", end=1)) == ["1", "2"]


def test_an_unknown_state_or_place_is_refused_before_anything_is_sent():
    with pytest.raises(UsageError, match="no state 'wating'; the states are active"):
        getters.counts("wating")
    with pytest.raises(UsageError, match="start is a whole number"):
        getters.ids("waiting", start="0")  # type: ignore[arg-type]


def test_a_log_is_read_page_by_page_from_either_end(queue):
    job = queue.add("j", {})
    for number in range(5):
        queue.run(add_log(job.id, f"row {number}"))
    page = queue.run(getters.log_page(job.id, 1, 2))
    assert (page.rows, page.count) == (["row 1", "row 2"], 5)
    assert queue.run(getters.log_page(job.id, 0, 1, newest_first=True)).rows == ["row 4", "row 3"]
    assert queue.run(getters.log_page(job.id, newest_first=True)).rows[-1] == "row 0"
    assert queue.run(getters.log_page(job.id, 7, 9, newest_first=True)).rows == []
    assert queue.run(getters.log_page("none")).count == 0


def test_workers_and_listeners_are_found_by_the_names_of_their_connections(queue, redis_server):
    options = {"unix_socket_path": redis_server.socket}
    names = [
        queue.keys.client_name(""),
        queue.keys.client_name(":w:one"),
        queue.keys.client_name(":qe"),
        queue.keys.client_name("x"),
    ]
    clients = [redis.Redis(client_name=name, **options) for name in names]
    try:
        for client in clients:
            client.ping()
        found = queue.run(getters.workers())
        assert sorted(worker.name for worker in found) == ["", "one"]
        assert {worker.client_name for worker in found} == set(names[:2])
        assert found[0].facts["cmd"]
        assert [each.client_name for each in queue.run(getters.listeners())] == [names[2]]
    finally:
        for client in clients:
            client.close()


def test_what_a_queue_tells_of_itself_is_typed(queue, raw):
    raw.hset(queue.keys.meta, mapping={"paused": 1, "concurrency": 3, "version": "bullmq:6.7.0", "mine": "x"})
    meta = queue.run(getters.meta())
    assert (meta.paused, meta.concurrency, meta.version, meta.rate_max) == (True, 3, "bullmq:6.7.0", None)
    assert meta.rest == {"mine": "x"}


def end_one(wire: Any) -> None:
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.exchange([Completed(job.id, job.token, b"1", KeepJobs(count=-1))], metrics=100)


def test_metrics_tell_the_minutes_newest_first_and_in_pages(wire: Any, queue):
    assert queue.run(getters.metrics("completed")).points == []
    for minutes in (0, 1, 3):
        wire.now_ms += minutes * 60_000
        end_one(wire)
    told = queue.run(getters.metrics("completed"))
    assert (told.count, told.points, told.minutes) == (3, [0, 0, 1, 1], 4)
    assert told.counted_on == wire.now_ms
    page = queue.run(getters.metrics("completed", 2, 2))
    assert (page.points, page.minutes) == ([1], 4)
    with pytest.raises(UsageError, match="not of 'waiting'"):
        getters.metrics("waiting")


def test_the_export_for_prometheus_has_the_names_of_bullmq(wire: Any, queue):
    end_one(wire)
    fill(queue)
    text = queue.run(getters.prometheus({"env": 'a"b'}))
    assert 'bullmq_job_count{queue="paint", state="waiting", env="a\\"b"} 4' in text
    assert text.endswith('bullmq_job_failed_total{queue="paint", env="a\\"b"} 0')
    assert 'bullmq_job_completed_total{queue="paint", env="a\\"b"} 1\n' in text
    with pytest.raises(UsageError, match="'a b' cannot be the name of a label"):
        queue.run(getters.prometheus({"a b": "c"}))


async def test_the_asyncio_client_takes_the_same_actions(redis_url: str):
    async with AsyncQueue("paint", url=redis_url) as queue:
        await queue.add("j", {})
        assert await queue.run(getters.counts("waiting")) == {"waiting": 1}
        assert [job.id for job in await queue.run(getters.jobs("waiting"))] == ["1"]
