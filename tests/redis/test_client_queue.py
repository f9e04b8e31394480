"""Both clients on real servers: adding, looking, waiting, acting, and what is said when it cannot be.

The tests are written with await; for the blocking client `Awaited` puts one before each answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import redis

import supervisor.blocking
import supervisor.client
from supervisor.client.edit import add_log, change_delay, change_priority, set_global_concurrency, update_data
from supervisor.errors import (
    InvalidJob,
    JobError,
    JobFailed,
    JobNotFound,
    JobNotInState,
    RedisRefused,
    RedisUnavailable,
    ResultTimeout,
    UsageError,
)
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob, FinishAndFetch
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.new_job import JobSpec
from supervisor.transport.aio import Redis

NOW = 1_795_000_000_000


class Awaited:
    """The blocking client behind await: each call in a thread of its own."""

    def __init__(self, queue: supervisor.blocking.Queue) -> None:
        self.__queue = queue

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.__queue, name)
        if not callable(member):
            return member
        if inspect.isgeneratorfunction(member):
            return lambda **options: _stepped(member(**options))
        return lambda *args, **options: asyncio.to_thread(member, *args, **options)


async def _stepped(events: Any) -> AsyncIterator[Any]:
    try:
        while True:
            yield await asyncio.to_thread(next, events)
    finally:
        events.close()


@pytest.fixture(params=["asyncio", "blocking"])
async def queue(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Any]:
    if request.param == "asyncio":
        async with supervisor.client.Queue("q", url=redis_url) as made:
            yield made
    else:
        with supervisor.blocking.Queue("q", url=redis_url) as made:
            yield Awaited(made)


class Worker:
    """Makes a worker's calls, one at a time."""

    def __init__(self, connection: Redis, queue: Any) -> None:
        self._redis, self._keys, self._calls = connection, queue.keys, 0

    async def fetch(self) -> FetchedJob:
        (job,) = (await self._exchange(1)).jobs
        return job

    async def complete(self, job: FetchedJob, value: bytes, keep: KeepJobs = KEEP_ALL) -> None:
        await self._exchange(0, Completed(job.id, job.token, value, keep))

    async def fail(self, job: FetchedJob, reason: str) -> None:
        await self._exchange(0, Failed(job.id, job.token, reason, None, KEEP_ALL, 0))

    async def _exchange(self, count: int, *outcomes: Any) -> Any:
        self._calls += 1
        now = NOW + self._calls
        return await self._redis.execute(
            FinishAndFetch(self._keys, f"t:{self._calls}", now, 30_000, count, outcomes)
        )


@pytest.fixture
async def worker(redis_url: str, queue: Any) -> AsyncIterator[Worker]:
    async with await Redis.connect(redis_url) as connection:
        yield Worker(connection, queue)


# --- adding and looking ------------------------------------------------------------------------------


async def test_an_added_job_is_found_again_as_it_was_added(queue: Any):
    added = await queue.add("resize", {"page": 1, "é": [None, 1.5]}, attempts=3, priority=7)
    found = await queue.get(added.id)
    assert added == found
    assert await queue.state(added.id) == "prioritized"


async def test_a_job_that_is_not_there_is_none_and_in_no_state(queue: Any):
    assert await queue.get("none") is None
    assert await queue.state("none") == "unknown"


async def test_thousands_are_added_in_order_in_one_go(queue: Any):
    jobs = await queue.add_bulk([("n", n) for n in range(2_345)])
    assert [job.id for job in jobs] == [str(n) for n in range(1, 2_346)]
    assert (await queue.counts())["waiting"] == 2_345
    assert [job.data for job in await queue.jobs("waiting", 0, 2)] == [0, 1, 2]
    assert [job.data for job in await queue.jobs("waiting", 0, 1, newest_first=True)] == [2_344, 2_343]


async def test_a_state_without_jobs_has_an_empty_list(queue: Any):
    assert await queue.jobs("failed") == []


async def test_a_bulk_add_of_nothing_adds_nothing(queue: Any, raw: redis.Redis):
    assert await queue.add_bulk([]) == []
    assert raw.keys() == []


async def test_nothing_is_sent_when_one_job_of_many_is_wrong(queue: Any, raw: redis.Redis):
    with pytest.raises(InvalidJob):
        await queue.add_bulk([JobSpec("a", 1), JobSpec("b", {1, 2, object()})])
    assert raw.keys() == []


async def test_an_own_id_makes_adding_idempotent(queue: Any):
    first = await queue.add("a", 1, job_id="mine")
    second = await queue.add("a", 2, job_id="mine")
    assert (first.id, second.id) == ("mine", "mine")
    assert (await queue.get("mine")).data == 1


async def test_the_order_of_the_waiting_is_the_order_in_which_they_run(queue: Any, worker: Worker):
    await queue.add("second", 0)
    await queue.add("third", 0)
    await queue.add("first", 0, lifo=True)
    assert [job.name for job in await queue.jobs("waiting")] == ["first", "second", "third"]
    assert (await worker.fetch()).name == "first"


async def test_a_state_that_does_not_exist_is_named(queue: Any):
    with pytest.raises(UsageError, match="there is no state 'wait'; the states are active"):
        await queue.jobs("wait")


async def test_a_job_that_others_broke_is_read_with_its_problems(queue: Any, raw: redis.Redis):
    job = await queue.add("a", 1)
    raw.hset(queue.keys.job(job.id), mapping={"data": "{", "opts": "[", "timestamp": "soon", "colour": "red"})
    found = await queue.get(job.id)
    assert (found.data, found.options, found.timestamp, found.extra) == (None, {}, 0, {"colour": "red"})
    assert len(found.problems) == 2


# --- waiting -----------------------------------------------------------------------------------------


async def test_a_result_is_waited_for(queue: Any, worker: Worker):
    job = await queue.add("a", 1)
    waiting = asyncio.create_task(queue.result(job, timeout_ms=20_000))
    await worker.complete(await worker.fetch(), b'{"ok":true}')
    assert await waiting == {"ok": True}
    assert await queue.result(job.id) == {"ok": True}


async def test_a_failure_is_told_with_its_reason(queue: Any, worker: Worker):
    job = await queue.add("a", 1)
    waiting = asyncio.create_task(queue.result(job, timeout_ms=20_000))
    await worker.fail(await worker.fetch(), "out of ink")
    with pytest.raises(JobFailed, match="out of ink"):
        await waiting
    with pytest.raises(JobFailed, match="out of ink"):
        await queue.result(job)


async def test_the_time_to_wait_is_kept_and_the_job_is_left(queue: Any):
    job = await queue.add("a", 1)
    with pytest.raises(ResultTimeout):
        await queue.result(job, timeout_ms=30)
    assert await queue.state(job.id) == "waiting"


async def test_the_result_of_a_job_that_was_removed_as_it_ended_is_in_its_event(queue: Any, worker: Worker):
    job = await queue.add("a", 1)
    await worker.complete(await worker.fetch(), b'"gone"', KeepJobs(count=0))
    assert await queue.get(job.id) is None
    assert await queue.result(job) == "gone"


async def test_a_job_that_is_not_there_has_no_result(queue: Any):
    with pytest.raises(JobNotFound):
        await queue.result("none")


async def test_a_wait_outlives_the_connection_it_waits_on(queue: Any, redis_url: str, raw: redis.Redis):
    job = await queue.add("a", 1)
    waiting = asyncio.create_task(queue.result(job, timeout_ms=20_000))
    while not (reading := [client for client in raw.client_list() if client["cmd"] == "xread"]):
        await asyncio.sleep(0.005)
    assert [raw.client_kill_filter(_id=client["id"]) for client in reading] == [1]
    async with await Redis.connect(redis_url) as connection:
        worker = Worker(connection, queue)
        await worker.complete(await worker.fetch(), b'"after all"')
    assert await waiting == "after all"


async def test_events_are_told_as_they_happen_and_can_be_taken_up_again(queue: Any, worker: Worker):
    async with contextlib.aclosing(queue.events(since="0-0")) as events:
        job = await queue.add("a", 1)
        first = await anext(events)
        assert (first.name, first.job_id, first.values) == ("added", job.id, {"job_name": "a"})
    await worker.complete(await worker.fetch(), b"[1]")
    async with contextlib.aclosing(queue.events(since=first.id)) as events:
        told = [await anext(events) for _ in range(4)]
    assert [event.name for event in told] == ["waiting", "active", "completed", "drained"]
    assert told[2].values == {"returned": [1], "prev": "active"}


# --- acting ------------------------------------------------------------------------------------------


async def test_a_paused_queue_is_known_to_be(queue: Any):
    assert not await queue.is_paused()
    await queue.pause()
    assert await queue.is_paused()
    await queue.resume()
    assert not await queue.is_paused()


async def test_a_failed_job_is_put_back(queue: Any, worker: Worker):
    job = await queue.add("a", 1)
    with pytest.raises(JobNotInState):
        await queue.retry(job.id)
    await worker.fail(await worker.fetch(), "x")
    await queue.retry(job.id, reset_attempts=True)
    assert await queue.state(job.id) == "waiting"
    assert (await queue.get(job.id)).attempts_made == 0
    await worker.fail(await worker.fetch(), "x")
    assert (await queue.get(job.id)).attempts_started == 2
    await queue.retry(job.id, reset_started=True)
    again = await queue.get(job.id)
    assert (again.attempts_made, again.attempts_started) == (1, 0)
    with pytest.raises(UsageError, match="only a failed or completed job"):
        await queue.retry(job.id, state="active")


async def test_a_running_job_is_not_removed_and_any_other_is(queue: Any, worker: Worker):
    job = await queue.add("a", 1)
    fetched = await worker.fetch()
    with pytest.raises(JobError, match="locked by another worker"):
        await queue.remove(job.id)
    await worker.complete(fetched, b"1")
    await queue.remove(job.id)
    assert await queue.get(job.id) is None
    await queue.remove(job.id)


async def test_a_delayed_job_is_changed_and_promoted(queue: Any):
    job = await queue.add("a", 1, delay_ms=60_000)
    await queue.run(change_delay(job.id, 90_000))
    assert (await queue.get(job.id)).delay_ms == 90_000
    await queue.promote(job.id)
    assert await queue.state(job.id) == "waiting"
    await queue.run(change_priority(job.id, 4))
    assert await queue.state(job.id) == "prioritized"
    with pytest.raises(JobNotInState):
        await queue.promote(job.id)


async def test_data_and_log_of_a_job_are_changed(queue: Any):
    job = await queue.add("a", 1)
    await queue.run(update_data(job.id, {"b": 2}))
    assert (await queue.get(job.id)).data == {"b": 2}
    assert [await queue.run(add_log(job.id, row, keep=2)) for row in "xyz"] == [1, 2, 2]
    assert await queue.logs(job.id) == ["y", "z"]
    with pytest.raises(JobNotFound):
        await queue.run(update_data("none", 1))


@pytest.mark.parametrize(
    "action",
    [
        lambda: update_data("1", float("nan")),
        lambda: change_delay("1", -1),
        lambda: change_priority("1", 0.5),  # type: ignore[arg-type]
        lambda: set_global_concurrency(0),
    ],
)
def test_a_wrong_value_is_refused_before_there_is_an_action(action: Callable[[], Any]):
    with pytest.raises(InvalidJob):
        action()


# --- what goes wrong ---------------------------------------------------------------------------------


async def test_a_key_of_the_wrong_type_is_told_and_adds_nothing(queue: Any, raw: redis.Redis):
    raw.set(queue.keys.wait, "no list")
    with pytest.raises(RedisRefused, match="was not added"):
        await queue.add("a", 1)
    assert raw.keys("*:1") == []


async def test_a_server_that_is_not_there_is_named_in_one_sentence():
    with pytest.raises(RedisUnavailable, match="/nowhere/at/all") as refused:
        await supervisor.client.Queue("q", url="unix:///nowhere/at/all").add("a", 1)
    assert not refused.value.sent
    assert "\n" not in str(refused.value)


def test_a_server_that_is_not_there_is_named_by_the_blocking_client_too():
    with pytest.raises(RedisUnavailable, match="/nowhere/at/all") as refused:
        supervisor.blocking.Queue("q", url="unix:///nowhere/at/all").add("a", 1)
    assert not refused.value.sent
    assert "\n" not in str(refused.value)


async def test_a_shared_connection_is_left_open(redis_url: str):
    async with await Redis.connect(redis_url) as connection:
        async with supervisor.client.Queue("one", redis=connection) as one:
            await one.add("a", 1)
        two = supervisor.client.Queue("two", redis=connection)
        assert (await two.add("a", 1)).id == "1"
