"""The blocking client against real servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis_stand_ins import (
    NOT_LISTENING,
    Broken,
    Count,
    Read,
    Slow,
    fake_redis,
    one_after_another,
    private_server,
    source,
)

from supervisor.errors import RedisRefused, RedisUnavailable, UsageError
from supervisor.transport.blocking import Redis


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    with Redis.connect(redis_url, sources=source, client_name="oxherd-test") as client:
        yield client


def test_scripts_and_reads_run(client: Redis, raw: redis.Redis) -> None:
    assert [client.execute(Count()), client.execute(Count(by=4))] == [1, 5]
    assert client.execute(Read([("SET", "a", "é"), ("GET", "a"), ("GET", "b"), ("HGETALL", "c")])) == [
        b"OK",
        "é".encode(),
        None,
        [],
    ]
    assert "oxherd-test" in [line["name"] for line in raw.client_list()]


def test_ten_thousand_commands_are_few_pipelines(client: Redis) -> None:
    assert client.execute_many([Count() for _ in range(10_000)]) == list(range(1, 10_001))


def test_many_commands_fail_each_for_itself(client: Redis, raw: redis.Redis) -> None:
    raw.lpush("list", "x")
    results = client.execute_many([Count(), Count("list"), Count()])

    assert [results[0], results[2]] == [1, 2]
    assert isinstance(results[1], RedisRefused)
    assert str(results[1]).startswith("WRONGTYPE ")


def test_an_error_within_a_read_is_raised_with_its_first_word(client: Redis, raw: redis.Redis) -> None:
    raw.lpush("list", "x")
    with pytest.raises(RedisRefused, match=r"^WRONGTYPE "):
        client.execute(Read([("PING",), ("GET", "list"), ("PING",)]))
    with pytest.raises(RedisRefused, match=r"^ERR "):
        client.execute(Read([("NO-SUCH-COMMAND",)]))

    assert client.execute(Read([("PING",)])) == [b"PONG"]


def test_a_flushed_script_is_loaded_again(client: Redis, raw: redis.Redis) -> None:
    client.execute(Count())
    raw.script_flush()

    assert client.execute_many([Count(), Count()]) == [2, 3]


def test_a_script_that_does_not_compile_says_why(client: Redis) -> None:
    with pytest.raises(RedisRefused, match="compiling script"):
        client.execute(Broken())


def test_lost_replies_a_slow_script_runs_once_for_each_call(redis_url: str, raw: redis.Redis) -> None:
    """redis-py by itself was measured to run such a script eleven times."""
    with Redis(redis_url, sources=source, reply_timeout_s=0.1) as client:
        with pytest.raises(RedisUnavailable, match="Whether the request ran is unknown") as caught:
            client.execute(Slow("slow", 400))
        assert caught.value.sent is True

        assert client.execute(Count("after"), timeout_s=20) == 1
        assert raw.get("slow") == b"1"


def test_a_blocking_read_may_take_longer_than_a_reply(redis_url: str, raw: redis.Redis) -> None:
    with Redis(redis_url, sources=source, reply_timeout_s=0.05) as client:
        read = Read([("XREAD", "BLOCK", 300, "STREAMS", "s", "$")])

        assert client.read_blocking(read, 0.3) == [None]


def test_threads_share_a_client(client: Redis) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: client.execute(Count()), range(400)))

    assert sorted(results) == list(range(1, 401))


def test_a_forked_child_uses_connections_of_its_own(client: Redis, raw: redis.Redis) -> None:
    mine = client.execute(Read([("CLIENT", "ID")]))
    reader, writer = os.pipe()
    assert threading.active_count() == 1
    if (pid := os.fork()) == 0:
        try:
            os.write(writer, str(client.execute(Read([("CLIENT", "ID")]))[0]).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, "rb") as pipe:
        childs = int(pipe.read())

    assert childs != mine[0]
    assert client.execute(Read([("CLIENT", "ID")])) == mine


def test_nobody_listening_is_a_sentence_that_names_the_address(tmp_path: Any) -> None:
    with pytest.raises(RedisUnavailable, match=r"cannot reach Redis at unix://.*/s: there is no such socket"):
        Redis.connect(f"unix://{tmp_path}/s", sources=source)
    with pytest.raises(RedisUnavailable, match=r"at redis://127\.0\.0\.1:1: connection refused") as caught:
        Redis("redis://127.0.0.1:1", sources=source).execute(Count())

    assert caught.value.sent is False


def test_a_wrong_password_is_a_sentence(redis_url: str, raw: redis.Redis) -> None:
    raw.execute_command("ACL", "SETUSER", "eve", "on", ">secret", "~*", "+@all")
    try:
        url = redis_url.replace("unix://", "unix://eve:hushhush@")
        with pytest.raises(RedisUnavailable, match=r"refused the user or the password.*WRONGPASS") as caught:
            Redis.connect(url, sources=source)
        assert "hushhush" not in str(caught.value)

        with Redis.connect(url.replace("hushhush", "secret"), sources=source) as client:
            assert client.execute(Count()) == 1
    finally:
        raw.execute_command("ACL", "DELUSER", "eve")


def test_text_that_cannot_be_sent_is_refused_before_anything_is_sent(client: Redis, raw: redis.Redis) -> None:
    with pytest.raises(UsageError, match="half a character"):
        client.execute_many([Count("fine"), Count("\ud83d")])

    assert raw.get("fine") is None


def test_a_server_that_is_started_again_is_used_again() -> None:
    with private_server() as server, Redis.connect(server.url, sources=source) as client:
        assert client.execute(Count()) == 1
        server.stop()
        server.start()
        assert client.execute(Count()) == 1

        server.stop()
        starting = threading.Timer(0.1, server.start)
        starting.start()
        assert client.execute(Count()) == 1  # waited, within its patience
        starting.join()


def test_patience_ends_with_nothing_done() -> None:
    with private_server() as server:
        client = Redis.connect(server.url, sources=source, patience_s=0.1)
        server.stop()
        with pytest.raises(RedisUnavailable, match="cannot be used") as caught:
            client.execute(Count())

    assert caught.value.sent is False


# --- a fake server says it on purpose -----------------------------------------------------------------------


async def test_what_redis_says_did_not_run_is_sent_again() -> None:
    says = [b"-LOADING Redis is loading\r\n", b"-READONLY replica\r\n", b"-BUSY script\r\n", b":1\r\n"]
    async with fake_redis(one_after_another(*says)) as fake:
        pauses: list[float] = []
        client = Redis(fake.url, sources=source, rng=lambda: 1.0, sleep=pauses.append)
        assert await asyncio.to_thread(client.execute, Count()) == 1
        client.close()

        assert len(fake.asked("EVALSHA")) == 4
        assert pauses == [0.01, 0.02, 0.04]


async def test_a_lost_reply_is_said_and_the_script_is_not_sent_again() -> None:
    async with fake_redis(one_after_another(b":5\r\n", NOT_LISTENING, b":7\r\n")) as fake:
        with contextlib.closing(Redis(fake.url, sources=source)) as client:
            results = await asyncio.to_thread(client.execute_many, [Count(), Count(), Count()])

        assert results[0] == 5
        assert [getattr(result, "sent", None) for result in results] == [None, True, True]
        assert len(fake.asked("EVALSHA")) == 2


async def test_what_only_reads_is_asked_again_when_its_reply_was_lost() -> None:
    async with fake_redis(one_after_another(None), {"GET": NOT_LISTENING}) as fake:
        client = Redis(fake.url, sources=source, sleep=lambda _: fake.on.clear())
        assert await asyncio.to_thread(client.execute, Read([("GET", "x")])) == [b"OK"]
        client.close()
