"""Listening to channels, against real servers: what is told, and how a lost connection is noticed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis
from redis_stand_ins import fake_redis, one_after_another, private_server, until

from supervisor.transport.address import Address
from supervisor.transport.subscription import Subscription


class Listener:
    """What a subscription has told."""

    def __init__(self, url: str, *channels: str, ping_every_s: float = 10.0) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.states: list[tuple[bool, str]] = []
        subscription = Subscription(
            Address.parse(url),
            channels,
            on_message=lambda channel, payload: self.messages.append((channel, payload)),
            on_heard=lambda hears, why: self.states.append((hears, why)),
            ping_every_s=ping_every_s,
        )
        self.task = asyncio.ensure_future(subscription.keep())

    async def hears(self, times: int = 1) -> None:
        await until(lambda: [hears for hears, _ in self.states].count(True) == times)

    async def close(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await asyncio.sleep(0)


@pytest.fixture
async def listener(redis_url: str) -> AsyncIterator[Listener]:
    listener = Listener(redis_url, "first", "second")
    await listener.hears()
    yield listener
    await listener.close()


async def test_messages_of_all_channels_arrive_in_their_order(listener: Listener, raw: redis.Redis) -> None:
    for n in range(100):
        raw.publish("first" if n % 2 else "second", n)
    raw.publish("another", "not ours")
    raw.publish("first", b"\xff\x00")

    await until(lambda: len(listener.messages) == 101)
    assert listener.messages[:2] == [("second", b"0"), ("first", b"1")]
    assert listener.messages[100] == ("first", b"\xff\x00")


async def test_a_connection_that_is_cut_is_opened_again_and_both_are_told(
    listener: Listener, raw: redis.Redis
) -> None:
    raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await listener.hears(2)
    raw.publish("first", "again")

    await until(lambda: listener.messages == [("first", b"again")])
    assert [hears for hears, _ in listener.states] == [True, False, True]


async def test_no_connection_is_left_when_it_is_closed(listener: Listener, raw: redis.Redis) -> None:
    await listener.close()
    await until(lambda: raw.pubsub_numsub("first")[0][1] == 0)


async def test_a_server_that_is_silent_is_given_up_and_asked_again() -> None:
    with private_server() as server:
        listener = Listener(server.url, "first", ping_every_s=0.2)
        await listener.hears()
        server.freeze()
        await until(lambda: listener.states[-1][0] is False)
        assert "silent" in listener.states[-1][1]
        server.thaw()
        await listener.hears(2)
        await listener.close()


async def test_a_server_that_is_away_is_told_once() -> None:
    with private_server() as server:
        listener = Listener(server.url, "first")
        await listener.hears()
        server.stop()
        started_at = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > started_at + 0.5)  # several tries
        server.start()
        await listener.hears(2)
        assert [hears for hears, _ in listener.states] == [True, False, True]
        await listener.close()


async def test_a_quiet_channel_is_no_silence(redis_url: str, raw: redis.Redis) -> None:
    listener = Listener(redis_url, "first", ping_every_s=0.02)
    await listener.hears()
    before = raw.info("stats")["total_commands_processed"]
    await until(lambda: raw.info("stats")["total_commands_processed"] > before + 100)

    assert listener.states == [(True, "")]
    await listener.close()


async def test_who_may_not_subscribe_is_told_so_and_not_asked_again_at_once() -> None:
    async with fake_redis(one_after_another(None), {"SUBSCRIBE": b"-NOPERM no channel for you"}) as fake:
        listener = Listener(fake.url, "first", ping_every_s=0.05)
        await until(lambda: bool(listener.states))

        assert listener.states == [(False, "NOPERM no channel for you")]
        assert len(fake.asked("SUBSCRIBE")) == 1
        await listener.close()
