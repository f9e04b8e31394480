"""The asyncio client against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis
from redis_stand_ins import Broken, Count, Read, Slow, private_server, source, until

from supervisor.errors import NotRepeatable, RedisRefused, RedisUnavailable
from supervisor.transport.aio import Redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with await Redis.connect(redis_url, sources=source, client_name="oxherd-test") as client:
        yield client


@pytest.fixture
def bob(raw: redis.Redis, redis_url: str) -> Iterator[str]:
    """The URL of a user with a password who may do everything but CLIENT KILL."""
    raw.execute_command("ACL", "SETUSER", "bob", "on", ">se/cret", "~*", "+@all", "-client|kill")
    yield redis_url.replace("unix://", "unix://bob:se%2Fcret@")
    raw.execute_command("ACL", "DELUSER", "bob")


async def test_calls_run_in_the_order_in_which_they_were_submitted(client: Redis) -> None:
    calls = [client.submit(Count(by=1)) for _ in range(200)]

    assert await asyncio.gather(*calls) == list(range(1, 201))


@pytest.mark.parametrize("command", [Count(), Broken()])
async def test_whoever_is_in_a_hurry_is_told_once_however_it_ends(client: Redis, command: Any) -> None:
    told: list[asyncio.Future[Any]] = []
    call = client.submit_repeatable(command, then=told.append)
    await asyncio.wait([call])
    await client.execute(Count("after"))

    assert told == [call]


async def test_whoever_is_in_a_hurry_waits_for_no_turn_of_the_loop(client: Redis) -> None:
    """Neither to be sent nor to be told."""
    await client.execute(Count())
    happened: list[str] = []

    def said(what: str) -> None:
        asyncio.get_running_loop().call_soon(happened.append, f"the turn after {what}")

    link = client._session.opened.link
    heard = link.buffer_updated

    def hear(count: int) -> None:
        said("the reply came")
        heard(count)

    link.buffer_updated = hear
    said("it was submitted")
    call = client.submit_repeatable(Count(), then=lambda call: happened.append(f"told {call.result()}"))
    assert link._in_flight and not link._outbox, "it is on its way"
    await call
    assert happened == ["the turn after it was submitted", "told 2", "the turn after the reply came"]


async def test_whoever_is_in_a_hurry_is_told_after_those_who_came_before(client: Redis) -> None:
    """Both replies are read in one turn: what was put back as stalled was told of after it had failed."""
    await client.execute(Count())
    told: list[int] = []

    async def patient() -> None:
        told.append(await client.execute(Count()))

    async with asyncio.TaskGroup() as waiting:
        waiting.create_task(patient())
        await asyncio.sleep(0)
        for _ in range(2):
            client.submit_repeatable(Count(), then=lambda call: told.append(call.result()))
        waiting.create_task(patient())
    assert told == [2, 3, 4, 5]


async def test_ten_thousand_commands_are_one_pipeline(client: Redis, raw: redis.Redis) -> None:
    results = await client.execute_many([Count() for _ in range(10_000)])

    assert results == list(range(1, 10_001))
    assert raw.get("n") == b"10000"


async def test_a_large_argument_and_a_large_reply_go_through(client: Redis) -> None:
    text = b"x" * 20_000_000

    assert await client.execute(Read([("SET", "big", text), ("GET", "big")])) == [b"OK", text]


async def test_the_server_and_our_name_there_are_known(client: Redis, raw: redis.Redis) -> None:
    ours = [line for line in raw.client_list() if line["name"] == "oxherd-test"]

    assert [int(line["id"]) for line in ours] == [client.client_id]
    assert client.server.version >= (7, 0)
    assert client.server.maxmemory_policy == "noeviction"
    assert client.server.is_valkey == ("valkey_version" in raw.info("server"))


async def test_a_flushed_script_is_loaded_again(client: Redis, raw: redis.Redis) -> None:
    await client.execute(Count())
    raw.script_flush()

    assert await asyncio.gather(*(client.execute(Count()) for _ in range(5))) == [2, 3, 4, 5, 6]
    raw.script_flush()
    assert await client.execute_repeatable(Count()) == 7


async def test_a_script_that_does_not_compile_says_why(client: Redis) -> None:
    with pytest.raises(RedisRefused, match="compiling script"):
        await client.execute(Broken())


async def test_lost_replies_a_slow_script_runs_once_for_each_call(redis_url: str, raw: redis.Redis) -> None:
    """redis-py by itself was measured to run such a script eleven times."""
    async with await Redis.connect(redis_url, sources=source, reply_timeout_s=0.1) as client:
        with pytest.raises(RedisUnavailable) as caught:
            await client.execute(Slow("slow", 400))
        assert caught.value.sent is True

        assert await client.execute(Count("after"), patience_s=20) == 1
        assert raw.get("slow") == b"1"


async def test_a_connection_that_somebody_kills_is_replaced(client: Redis, raw: redis.Redis) -> None:
    old_id = client.client_id
    raw.client_kill_filter(_id=str(old_id))
    await until(lambda: client.reconnects == 1)

    assert await client.execute(Count()) == 1
    assert client.client_id != old_id


async def test_lost_replies_nothing_is_repeated_for_a_user_who_may_not_kill(
    bob: str, raw: redis.Redis
) -> None:
    async with await Redis.connect(bob, sources=source, reply_timeout_s=0.1) as client:
        with pytest.raises(NotRepeatable, match="CLIENT KILL"):
            await client.execute_repeatable(Slow("slow", 400))

        assert await client.execute_repeatable(Count("after")) == 1
        assert raw.get("slow") == b"1"


async def test_a_wrong_password_is_a_sentence(bob: str) -> None:
    with pytest.raises(RedisUnavailable, match="refused the user or the password") as caught:
        await Redis.connect(bob.replace("se%2Fcret", "hushhush"), sources=source, retry_for_s=60)

    assert "hushhush" not in str(caught.value)


async def test_a_database_of_its_own(redis_url: str, raw: redis.Redis) -> None:
    async with await Redis.connect(f"{redis_url}?db=5", sources=source) as client:
        await client.execute(Count())

        assert raw.get("n") is None
        assert raw.info("keyspace")["db5"]["keys"] == 1


async def test_a_blocking_read_lets_other_calls_pass(client: Redis, raw: redis.Redis) -> None:
    read = Read([("XREAD", "BLOCK", 10_000, "STREAMS", "s", "$")])
    reading = asyncio.ensure_future(client.read_blocking(read, 10.0))
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)

    assert await client.execute(Count()) == 1
    raw.xadd("s", {"a": "b"})
    assert (await reading)[0][0][0] == b"s"
    assert await client.read_blocking(Read([("XREAD", "BLOCK", 1, "STREAMS", "s", "$")]), 0.001) == [None]


async def test_a_blocking_read_that_is_cancelled_leaves_no_reply_for_the_next(
    client: Redis, raw: redis.Redis
) -> None:
    reading = asyncio.ensure_future(
        client.read_blocking(Read([("XREAD", "BLOCK", 10_000, "STREAMS", "s", "$")]), 10.0)
    )
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    raw.xadd("s", {"a": "b"})

    assert await client.read_blocking(Read([("PING",)]), 1.0) == [b"PONG"]
    await until(lambda: raw.info("clients")["blocked_clients"] == 0)


async def test_closing_ends_a_blocking_read(client: Redis, raw: redis.Redis) -> None:
    read = Read([("XREAD", "BLOCK", 60_000, "STREAMS", "s", "$")])
    reading = asyncio.ensure_future(client.read_blocking(read, 60.0))
    await until(lambda: raw.info("clients")["blocked_clients"] == 1)
    await client.close()

    with pytest.raises(RedisUnavailable, match="closed on our side"):
        await reading


async def test_a_server_that_is_started_again_is_used_again() -> None:
    told: list[bool] = []
    with private_server() as server:
        client = await Redis.connect(server.url, sources=source, on_state=lambda up, why: told.append(up))
        async with client:
            assert await client.execute(Count()) == 1
            server.stop()
            await until(lambda: not client.connected)
            waiting: list[asyncio.Future[Any]] = [
                client.submit(Count(), patience_s=60),
                asyncio.ensure_future(client.execute_repeatable(Count())),
            ]
            await asyncio.sleep(0)
            server.start()

            assert sorted(await asyncio.gather(*waiting)) == [1, 2]  # its data was not kept
            assert client.reconnects == 1
            assert told == [False, True]


async def test_lost_replies_a_call_that_the_server_took_down_with_it_is_repeated() -> None:
    with private_server() as server:
        async with await Redis.connect(server.url, sources=source) as client:
            await client.execute(Count())
            server.freeze()
            call = asyncio.ensure_future(client.execute_repeatable(Count()))
            await until(lambda: client._session.last.link._in_flight)
            server.stop()
            server.start()

            assert await call == 1  # the new server has counted this one alone
