"""A fetch that stands at the server behind the pop of the marker, against real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import redis
from redis_stand_ins import fake_redis, private_server, until

from supervisor.blocking import Queue
from supervisor.errors import NotRepeatable, RedisRefused, RedisUnavailable
from supervisor.protocol.commands.work import Exchange, FinishAndFetch
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.aio import Redis
from supervisor.transport.marker import Behind, MarkerWaiter

LONG_S = 60.0
KEYS = QueueKeys("work", "bull")


class Fetch(Behind[Exchange]):
    """For one job; `times` are those at which the server is said to have its clock."""

    def __init__(self, token: str = "me:1", *, ahead_us: int = 0) -> None:
        self.told: list[Exchange] = []
        self.server_us = 0
        super().__init__(lambda server_us: self._made(token, ahead_us, server_us), self.told.append)

    def _made(self, token: str, ahead_us: int, server_us: int) -> FinishAndFetch:
        self.server_us = server_us
        return FinishAndFetch(KEYS, token, 0, 30_000, 1, ahead_us=ahead_us)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with await Redis.connect(redis_url) as client:
        await client.execute(FinishAndFetch(KEYS, "first", 0, 30_000, 1))  # its script is known now
        yield client


@pytest.fixture
async def waiter(redis_url: str, client: Redis) -> AsyncIterator[MarkerWaiter]:
    waiter = MarkerWaiter(Address.parse(redis_url))
    yield waiter
    await waiter.close()


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("work", url=redis_url) as queue:
        yield queue


def blocked(raw: redis.Redis) -> bool:
    return raw.info("clients")["blocked_clients"] == 1


async def standing(waiter: MarkerWaiter, raw: redis.Redis) -> tuple[Fetch, asyncio.Future[float | None]]:
    """A fetch that stands at the server, and the wait for it."""
    fetch = Fetch()
    waiting = asyncio.ensure_future(waiter.wait(KEYS.marker, LONG_S, fetch))
    await until(lambda: blocked(raw))
    return fetch, waiting


async def test_the_job_is_there_with_its_marker(waiter: MarkerWaiter, queue: Queue, raw: redis.Redis) -> None:
    fetch, waiting = await standing(waiter, raw)
    added = queue.add("any", None)

    assert await waiting == 0.0
    assert fetch.result is not None and fetch.told == [fetch.result] and fetch.lost_on is None
    assert [job.id for job in fetch.result.jobs] == [added.id]


async def test_it_runs_as_well_when_no_marker_came(waiter: MarkerWaiter) -> None:
    fetch = Fetch()
    assert await waiter.wait(KEYS.marker, 0.05, fetch) is None
    assert fetch.result is not None and fetch.result.jobs == []


async def test_it_knows_the_time_at_which_it_runs_and_not_that_of_its_sending(
    waiter: MarkerWaiter, queue: Queue, raw: redis.Redis
) -> None:
    """By the server's clock and our difference to it; a delayed job is due by the same."""
    hour_ms = 3_600_000
    fetch = Fetch(ahead_us=hour_ms * 1000)
    delayed = queue.add("any", None, delay_ms=hour_ms + 200)
    raw.delete(KEYS.marker)
    sent_at = time.time()
    assert await waiter.wait(KEYS.marker, 0.25, fetch) is None

    assert fetch.result is not None and [job.id for job in fetch.result.jobs] == [delayed.id]
    began_on = int(raw.hget(KEYS.job(delayed.id), "processedOn"))
    assert sent_at * 1000 + hour_ms + 200 <= began_on <= time.time() * 1000 + hour_ms
    assert abs(fetch.server_us - sent_at * 1e6) < 5e6


async def test_a_script_that_the_server_does_not_know_has_not_run(
    waiter: MarkerWaiter, queue: Queue, raw: redis.Redis
) -> None:
    raw.script_flush()
    queue.add("any", None)
    fetch = Fetch()
    assert await waiter.wait(KEYS.marker, LONG_S, fetch) == 0.0
    assert (fetch.result, fetch.lost_on, fetch.told) == (None, None, [])


async def test_an_error_of_the_pop_hides_nothing_of_what_ran_behind_it(
    waiter: MarkerWaiter, raw: redis.Redis
) -> None:
    raw.set(KEYS.marker, "no sorted set")
    fetch = Fetch()
    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await waiter.wait(KEYS.marker, LONG_S, fetch)
    assert fetch.result is not None and fetch.told == [fetch.result]


async def test_who_may_not_ask_the_time_sends_none(redis_url: str, client: Redis, raw: redis.Redis) -> None:
    raw.execute_command("ACL", "SETUSER", "bob", "on", ">se/cret", "~*", "+@all", "-time")
    waiter = MarkerWaiter(Address.parse(redis_url.replace("unix://", "unix://bob:se%2Fcret@")))
    try:
        fetch = Fetch()
        raw.zadd(KEYS.marker, {"0": 0})
        assert await waiter.wait(KEYS.marker, LONG_S, fetch) == 0.0
        assert (fetch.command, fetch.result, fetch.lost_on) == (None, None, None)
    finally:
        await waiter.close()
        raw.execute_command("ACL", "DELUSER", "bob")


async def test_one_that_is_had_back_does_not_run_any_more(
    waiter: MarkerWaiter, client: Redis, queue: Queue, raw: redis.Redis
) -> None:
    """Lost replies: its connection is ended before it is asked what it brought."""
    fetch, waiting = await standing(waiter, raw)
    waiter.interrupt()
    waiter.interrupt()  # which may be said twice
    assert await waiting is None
    assert fetch.lost_on is not None and isinstance(fetch.command, FinishAndFetch)

    told = await client.submit_lost(_asking(fetch.command), fetch.lost_on)
    queue.add("any", None)
    assert told.jobs == [] and raw.llen(KEYS.wait) == 1
    assert not blocked(raw)


async def test_of_one_that_had_run_already_the_job_is_found(
    waiter: MarkerWaiter, client: Redis, queue: Queue, raw: redis.Redis
) -> None:
    """Lost replies: the server was quicker than who wanted it back."""
    fetch, waiting = await standing(waiter, raw)
    added = queue.add("any", None)  # the reply is in our socket, unread: this turn of the loop is not over
    assert raw.llen(KEYS.active) == 1
    waiter.interrupt()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if fetch.result is None:
        assert fetch.lost_on is not None and isinstance(fetch.command, FinishAndFetch)
        fetch.result = await client.submit_lost(_asking(fetch.command), fetch.lost_on)
    assert [job.id for job in fetch.result.jobs] == [added.id]
    assert raw.hget(KEYS.job(added.id), "ats") == b"1"


async def test_a_connection_that_breaks_takes_one_along_and_the_wait_says_so(
    waiter: MarkerWaiter, client: Redis, raw: redis.Redis
) -> None:
    fetch, waiting = await standing(waiter, raw)
    [ours] = [each for each in raw.client_list() if each["cmd"].startswith("bzpopmin")]
    raw.client_kill_filter(_id=ours["id"])
    assert await waiting is None
    assert fetch.lost_on is not None and fetch.lost_on.client_id == int(ours["id"])
    assert isinstance(fetch.command, FinishAndFetch)
    assert (await client.submit_lost(_asking(fetch.command), fetch.lost_on)).jobs == []


async def test_who_may_not_end_connections_does_not_ask_again(
    redis_url: str, client: Redis, raw: redis.Redis
) -> None:
    raw.execute_command("ACL", "SETUSER", "bob", "on", ">se/cret", "~*", "+@all", "-client|kill")
    url = redis_url.replace("unix://", "unix://bob:se%2Fcret@")
    waiter = MarkerWaiter(Address.parse(url))
    try:
        async with await Redis.connect(url) as bob:
            fetch = Fetch()
            waiting = asyncio.ensure_future(waiter.wait(KEYS.marker, LONG_S, fetch))
            await until(lambda: blocked(raw))
            waiter.interrupt()
            await waiting
            assert fetch.lost_on is not None and isinstance(fetch.command, FinishAndFetch)
            with pytest.raises(NotRepeatable, match="CLIENT KILL"):
                await bob.submit_lost(_asking(fetch.command), fetch.lost_on)
    finally:
        await waiter.close()
        raw.execute_command("ACL", "DELUSER", "bob")


async def test_a_call_that_is_given_up_waits_for_nobody() -> None:
    """A stop's patience is over while Redis is away."""
    with private_server() as server:
        async with await Redis.connect(server.url) as client:
            waiter = MarkerWaiter(Address.parse(server.url))
            fetch = Fetch()
            waiting = asyncio.ensure_future(waiter.wait(KEYS.marker, LONG_S, fetch))
            await until(lambda: fetch.command is not None)
            server.stop()
            assert await waiting is None
            assert fetch.lost_on is not None and isinstance(fetch.command, FinishAndFetch)
            with pytest.raises(RedisUnavailable, match="gave up"):
                await client.submit_lost(_asking(fetch.command), fetch.lost_on, give_up=lambda: True)
            await waiter.close()


async def test_it_is_asked_for_when_redis_is_back() -> None:
    """The server fell silent with the call; the kill must not be taken for done before it was heard."""
    with private_server() as server:
        async with await Redis.connect(server.url, reply_timeout_s=0.2) as client:
            waiter = MarkerWaiter(Address.parse(server.url))
            fetch = Fetch()
            waiting = asyncio.ensure_future(waiter.wait(KEYS.marker, LONG_S, fetch))
            await until(lambda: fetch.command is not None)
            server.freeze()
            waiter.interrupt()
            await waiting
            assert fetch.lost_on is not None and isinstance(fetch.command, FinishAndFetch)
            asked = client.submit_lost(_asking(fetch.command), fetch.lost_on)
            await until(lambda: client.reconnects or not client.connected)
            server.thaw()
            assert (await asked).jobs == []
            assert all(int(each["id"]) != fetch.lost_on.client_id for each in server.client().client_list())
            await waiter.close()


@pytest.mark.parametrize("run_id", ["", "first"])
async def test_who_cannot_know_whether_it_is_the_same_server_asks_for_nothing(run_id: str) -> None:
    """A number says nothing of a connection that was opened later, on another server perhaps."""
    on: dict[str, bytes | None] = {"TIME": b"*2\r\n$1\r\n1\r\n$1\r\n0", "BZPOPMIN": b"*-1", "EVALSHA": None}
    async with fake_redis(lambda guest, line: b"-ERR not asked for\r\n", on) as fake:
        fake.run_id = run_id
        async with await Redis.connect(fake.url) as client:
            waiter = MarkerWaiter(Address.parse(fake.url))
            fetch = Fetch()
            waiting = asyncio.ensure_future(waiter.wait(KEYS.marker, LONG_S, fetch))
            await until(lambda: fake.asked("EVALSHA"))
            waiter.interrupt()
            assert await waiting is None
            assert fetch.result is None and fetch.lost_on is not None, "the pop alone was answered"
            assert isinstance(fetch.command, FinishAndFetch)
            on["EVALSHA"] = b"*8\r\n*0\r\n*0\r\n*0\r\n*0\r\n:0\r\n:0\r\n:0\r\n$0\r\n"
            asked = client.submit_lost(_asking(fetch.command), fetch.lost_on)
            if run_id:
                assert (await asked).jobs == []
                assert [line[-1] for _, line in fake.asked("CLIENT KILL")] == [b"8"]
            else:
                with pytest.raises(NotRepeatable):
                    await asked
                assert not fake.asked("CLIENT KILL")
            await waiter.close()


def _asking(command: FinishAndFetch) -> FinishAndFetch:
    now_ms = int(time.time() * 1000)
    return FinishAndFetch(command.queue, command.call_token, now_ms, command.lock_ms, 0)
