"""Waiting on a marker, against real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import redis
from redis_stand_ins import fake_redis, one_after_another, private_server, until

from supervisor.errors import RedisRefused, WrongReply
from supervisor.transport import marker
from supervisor.transport.address import Address
from supervisor.transport.marker import MarkerWaiter

LONG_S = 60.0


@pytest.fixture
async def waiter(redis_url: str) -> AsyncIterator[MarkerWaiter]:
    waiter = MarkerWaiter(Address.parse(redis_url), client_name="bull:cXVldWU=")
    yield waiter
    await waiter.close()


def blocked(raw: redis.Redis) -> bool:
    return raw.info("clients")["blocked_clients"] == 1


async def test_the_score_of_a_marker_that_is_there_is_returned_at_once(
    waiter: MarkerWaiter, raw: redis.Redis
) -> None:
    raw.zadd("m", {"0": 0})
    assert await waiter.wait("m", LONG_S) == 0.0

    raw.zadd("m", {"1": 1_700_000_000_123})
    assert await waiter.wait("m", LONG_S) == 1_700_000_000_123.0
    assert raw.exists("m") == 0


async def test_a_marker_that_comes_later_is_waited_for(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
    await until(lambda: blocked(raw))
    raw.zadd("m", {"0": 0})

    assert await waiting == 0.0


@pytest.mark.parametrize("timeout_s", [0.1, 0.0004, 0.0, -3.0])
async def test_none_comes_when_the_time_is_over(waiter: MarkerWaiter, timeout_s: float) -> None:
    """Also for times so short that Redis would take them for "for ever"."""
    assert await waiter.wait("m", 0.01) is None  # connects
    started_at = time.monotonic()

    assert await waiter.wait("m", timeout_s) is None
    assert time.monotonic() - started_at >= timeout_s - 0.01
    assert waiter.connected


async def test_an_interrupted_wait_returns_at_once_and_the_next_one_works(
    waiter: MarkerWaiter, raw: redis.Redis
) -> None:
    waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
    await until(lambda: blocked(raw))
    waiter.interrupt()

    assert await waiting is None
    await until(lambda: not blocked(raw))
    raw.zadd("m", {"0": 7})
    assert await waiter.wait("m", LONG_S) == 7.0


async def test_interrupting_nobody_interrupts_nobody_later(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    waiter.interrupt()
    raw.zadd("m", {"0": 7})

    assert await waiter.wait("m", LONG_S) == 7.0


async def test_a_cancelled_wait_pops_nothing_any_more(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
    await until(lambda: blocked(raw))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await until(lambda: not blocked(raw))
    raw.zadd("m", {"0": 7})

    assert raw.zcard("m") == 1
    assert await waiter.wait("m", LONG_S) == 7.0


async def test_a_lost_connection_is_replaced_and_the_wait_returns_so_that_somebody_looks(
    waiter: MarkerWaiter, raw: redis.Redis
) -> None:
    """The pop may have eaten the marker before its reply was lost."""
    waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
    await until(lambda: blocked(raw))
    raw.client_kill_filter(_id=str(waiter._opened.client_id))  # type: ignore[union-attr]

    assert await waiting is None
    assert (waiter.reconnects, waiter.connected) == (1, True)


async def test_the_connection_bears_its_name(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    await waiter.wait("m", 0.01)

    assert "bull:cXVldWU=" in [line["name"] for line in raw.client_list()]
    assert waiter.warning is None


async def test_a_name_that_redis_refuses_is_a_warning(redis_url: str, raw: redis.Redis) -> None:
    waiter = MarkerWaiter(Address.parse(redis_url), client_name="with space")
    raw.zadd("m", {"0": 7})

    assert await waiter.wait("m", LONG_S) == 7.0
    assert "refused the client name 'with space'" in str(waiter.warning)
    await waiter.close()


async def test_a_key_of_another_kind_is_an_error_and_no_loop(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    raw.set("m", "x")

    with pytest.raises(RedisRefused, match="WRONGTYPE"):
        await waiter.wait("m", LONG_S)
    assert waiter.connected


async def test_while_redis_is_away_a_wait_takes_its_time_and_says_none() -> None:
    told: list[bool] = []
    with private_server() as server:
        waiter = MarkerWaiter(Address.parse(server.url), on_state=lambda up, why: told.append(up))
        assert await waiter.wait("m", 0.01) is None
        server.stop()
        started_at = time.monotonic()

        assert await waiter.wait("m", 0.2) is None
        assert time.monotonic() - started_at >= 0.19
        waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
        server.start()
        assert await waiting is None  # back: look first
        with server.client() as raw:
            raw.zadd("m", {"0": 7})
        assert await waiter.wait("m", LONG_S) == 7.0
        assert told == [False, True]
        await waiter.close()


async def test_a_frozen_server_is_given_up_a_margin_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marker, "MARGIN_S", 0.1)
    with private_server() as server:
        waiter = MarkerWaiter(Address.parse(server.url))
        assert await waiter.wait("m", 0.01) is None
        server.freeze()
        started_at = time.monotonic()

        assert await waiter.wait("m", 0.1) is None
        assert 0.19 <= time.monotonic() - started_at < 5.0
        server.thaw()
        assert await waiter.wait("m", LONG_S) is None
        assert waiter.connected
        await waiter.close()


@pytest.mark.parametrize(
    ("version", "shortest"), [("7.0.8", b"0.001"), ("7.0.7", b"0.002"), ("6.2.14", b"0.002")]
)
async def test_the_shortest_block_is_one_that_the_server_does_not_round_to_for_ever(
    version: str, shortest: bytes
) -> None:
    info = f"redis_version:{version}\r\n".encode()
    on: dict[str, bytes | None] = {"INFO": b"$%d\r\n%s" % (len(info), info), "BZPOPMIN": b"*-1"}
    async with fake_redis(one_after_another(None), on) as fake:
        waiter = MarkerWaiter(Address.parse(fake.url))
        assert await waiter.wait("m", 5.0) is None  # connects
        assert await waiter.wait("m", 0.0005) is None
        await waiter.close()

        assert fake.asked("BZPOPMIN")[-1][1][-1] == shortest


async def test_a_replica_is_left_and_a_loading_server_waited_for() -> None:
    async with fake_redis(one_after_another(None), {"BZPOPMIN": b"-READONLY replica"}) as fake:
        waiter = MarkerWaiter(Address.parse(fake.url), rng=lambda: 0.0)
        assert await waiter.wait("m", LONG_S) is None
        assert (waiter.reconnects, len(fake.guests)) == (1, 2)

        fake.on = {"BZPOPMIN": b"-LOADING"}
        assert await waiter.wait("m", LONG_S) is None
        assert (waiter.reconnects, len(fake.guests)) == (1, 2)
        await waiter.close()


async def test_nonsense_is_a_wrong_reply() -> None:
    async with fake_redis(one_after_another(None), {"BZPOPMIN": b":3"}) as fake:
        waiter = MarkerWaiter(Address.parse(fake.url))
        with pytest.raises(WrongReply):
            await waiter.wait("m", LONG_S)
        await waiter.close()


async def test_two_waits_at_a_time_are_a_mistake_of_ours(waiter: MarkerWaiter, raw: redis.Redis) -> None:
    waiting = asyncio.ensure_future(waiter.wait("m", LONG_S))
    await until(lambda: blocked(raw))
    with pytest.raises(RuntimeError, match="once at a time"):
        await waiter.wait("m", LONG_S)

    waiter.interrupt()
    assert await waiting is None
