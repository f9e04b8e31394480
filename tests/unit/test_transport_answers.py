"""What the asyncio client does with what Redis says, or does not say. A fake server says it on purpose."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from redis_stand_ins import (
    NOT_LISTENING,
    Count,
    FakeRedis,
    Guest,
    Read,
    bulk,
    fake_redis,
    one_after_another,
    source,
    until,
)

from supervisor.errors import NotRepeatable, RedisRefused, RedisUnavailable, UsageError, WrongReply
from supervisor.transport.address import Address, Tls
from supervisor.transport.aio import Redis
from supervisor.transport.answers import pause_s, why_ended, why_unreachable, word_of

ONE = b":1\r\n"
NO_RUN = b"-NOPERM this user has no permissions\r\n"


async def client_of(fake: FakeRedis, **options: Any) -> Redis:
    settings: dict[str, Any] = {"rng": lambda: 0.0, "patience_s": 5.0, "connect_timeout_s": 1.0}
    return await Redis.connect(fake.url, sources=source, **(settings | options))


# --- it did not run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"-LOADING Redis is loading the dataset in memory",
        b"-MASTERDOWN Link with MASTER is down",
        b"-CLUSTERDOWN The cluster is down",
        b"-TRYAGAIN Multiple keys request during rehashing of slot",
        b"-BUSY Redis is busy running a script.",
        b"-READONLY You can't write against a read only replica.",
        b"-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write.",
    ],
)
async def test_what_redis_says_did_not_run_is_sent_again(text: bytes) -> None:
    async with fake_redis(one_after_another(text + b"\r\n", text + b"\r\n", ONE)) as fake:
        async with await client_of(fake) as redis:
            assert await redis.execute(Count()) == 1
            assert await redis.execute_repeatable(Count()) == 1

        calls = [line for _, line in fake.asked("EVALSHA")]
        assert len(calls) == 4
        assert not [line for line in calls if b"again" in line]


@pytest.mark.parametrize("text", [b"-READONLY replica", b"-CLUSTERDOWN The cluster is down"])
async def test_a_replica_and_a_node_cut_off_are_left_for_a_new_connection(text: bytes) -> None:
    async with fake_redis(one_after_another(text + b"\r\n", ONE)) as fake:
        async with await client_of(fake) as redis:
            assert await redis.execute_repeatable(Count()) == 1

            assert redis.reconnects == 1
        assert [guest for guest, _ in fake.asked("EVALSHA")] == [7, 8]
        assert not fake.asked("CLIENT KILL")  # nothing was due on the old one


async def test_the_patience_of_execute_ends_with_nothing_done() -> None:
    async with fake_redis(one_after_another(b"-LOADING still\r\n")) as fake, await client_of(fake) as redis:
        with pytest.raises(RedisUnavailable, match=r"LOADING still.*Nothing was done") as caught:
            await redis.execute(Count(), patience_s=0.1)

    assert caught.value.sent is False


async def test_an_error_of_redis_is_passed_on_in_its_own_words() -> None:
    async with fake_redis(one_after_another(b"-OOM command not allowed\r\n")) as fake:
        async with await client_of(fake) as redis:
            with pytest.raises(RedisRefused, match=r"^OOM command not allowed\. Redis is full"):
                await redis.execute(Count())
            with pytest.raises(RedisRefused, match=r"^OOM command not allowed\. Redis is full"):
                await redis.execute_repeatable(Count())

        assert len(fake.asked("EVALSHA")) == 2


async def test_a_script_that_is_lost_again_and_again_is_an_error_and_no_loop() -> None:
    async with fake_redis(one_after_another(b"-NOSCRIPT No matching script.\r\n")) as fake:
        async with await client_of(fake) as redis:
            with pytest.raises(RedisRefused, match="NOSCRIPT"):
                await redis.execute(Count())

        assert len(fake.asked("SCRIPT LOAD")) == 4


async def test_a_script_travels_once_for_each_connection() -> None:
    async with fake_redis(one_after_another(ONE)) as fake, await client_of(fake) as redis:
        await asyncio.gather(*(redis.execute(Count()) for _ in range(5)))
        await redis.execute(Count())

        assert len(fake.asked("SCRIPT LOAD")) == 1
        assert len(fake.asked("EVALSHA")) == 6


# --- its reply was lost -----------------------------------------------------------------------------------


async def test_a_lost_reply_is_said_and_the_script_is_not_sent_again() -> None:
    async with fake_redis(one_after_another(NOT_LISTENING, ONE)) as fake, await client_of(fake) as redis:
        with pytest.raises(RedisUnavailable, match="Whether the request ran is unknown") as caught:
            await redis.execute(Count())

        assert caught.value.sent is True
        await until(lambda: redis.connected)
        assert len(fake.asked("EVALSHA")) == 1


async def test_what_only_reads_is_asked_again_when_its_reply_was_lost() -> None:
    async with (
        fake_redis(one_after_another(ONE), {"GET": NOT_LISTENING}) as fake,
        await client_of(fake) as redis,
    ):
        asked = asyncio.ensure_future(redis.execute(Read([("PING",), ("GET", "x")])))
        await until(lambda: redis.reconnects)
        fake.on = {"GET": b"$1\r\n7"}

        assert await asked == [b"PONG", b"7"]


async def test_silence_is_a_lost_reply() -> None:
    async with (
        fake_redis(one_after_another(None)) as fake,
        await client_of(fake, reply_timeout_s=0.05) as redis,
    ):
        with pytest.raises(RedisUnavailable, match=r"did not answer for 0\.05 s") as caught:
            await redis.execute(Count())

    assert caught.value.sent is True


async def test_nothing_due_is_no_silence() -> None:
    async with (
        fake_redis(one_after_another(ONE)) as fake,
        await client_of(fake, reply_timeout_s=0.02) as redis,
    ):
        await redis.execute(Count())
        await asyncio.sleep(0.1)  # five times the timeout; the fact waited for is that nothing happens
        await redis.execute(Count())

        assert redis.reconnects == 0


async def test_a_slow_stream_of_replies_is_no_silence() -> None:
    async with (
        fake_redis(one_after_another(None)) as fake,
        await client_of(fake, reply_timeout_s=0.3) as redis,
    ):
        calls = [redis.submit(Count()) for _ in range(5)]
        await until(lambda: len(fake.asked("EVALSHA")) == 5)
        for number, call in enumerate(calls):
            await asyncio.sleep(0.1)  # together 0.5 s
            fake.guests[0].writer.write(b":%d\r\n" % number)
            assert await call == number


async def test_lost_replies_the_old_connection_is_killed_before_the_repetition_is_sent() -> None:
    async with fake_redis(one_after_another(None, ONE)) as fake:
        async with await client_of(fake, reply_timeout_s=0.05) as redis:
            assert await redis.execute_repeatable(Count()) == 1

        said = [(guest, line[0], line[-1]) for guest, line in fake.log if line[0] == b"EVALSHA"]
        kills = [(guest, line[-1]) for guest, line in fake.asked("CLIENT KILL")]
        order = [line[0] + line[1] for _, line in fake.log if line[1] in (b"KILL",) or line[0] == b"EVALSHA"]
        assert said == [(7, b"EVALSHA", b"1"), (8, b"EVALSHA", b"again")]
        assert kills == [(8, b"7")]
        assert order[1] == b"CLIENTKILL"


async def test_lost_replies_nothing_is_repeated_when_the_kill_is_refused() -> None:
    async with (
        fake_redis(one_after_another(None, ONE), {"CLIENT KILL": NO_RUN.strip()}) as fake,
        await client_of(fake, reply_timeout_s=0.05) as redis,
    ):
        with pytest.raises(NotRepeatable, match="CLIENT KILL"):
            await redis.execute_repeatable(Count())
        assert len(fake.asked("EVALSHA")) == 1

        assert await redis.execute_repeatable(Count()) == 1  # the next call is a call of its own


async def test_lost_replies_nothing_is_repeated_when_our_number_is_unknown() -> None:
    async with fake_redis(one_after_another(None, ONE), {"CLIENT ID": NO_RUN.strip()}) as fake:
        async with await client_of(fake, reply_timeout_s=0.05) as redis:
            with pytest.raises(NotRepeatable):
                await redis.execute_repeatable(Count())

        assert len(fake.asked("EVALSHA")) == 1
        assert not fake.asked("CLIENT KILL")


@pytest.mark.parametrize("told", [True, False])
async def test_lost_replies_no_stranger_is_killed_when_the_server_was_started_again(told: bool) -> None:
    """The numbers of connections begin anew with the server, and 7 may be somebody else's by now."""
    async with fake_redis(one_after_another(None, ONE)) as fake:
        fake.on = {} if told else {"INFO": NO_RUN.strip()}
        async with await client_of(fake, reply_timeout_s=0.1) as redis:
            call = asyncio.ensure_future(redis.execute_repeatable(Count()))
            await until(lambda: fake.asked("EVALSHA"))
            fake.run_id, fake.next_id = "second", 50 if told else 3

            assert await call == 1

        assert not fake.asked("CLIENT KILL")
        assert [line[-1] for _, line in fake.asked("EVALSHA")] == [b"1", b"again"]


async def test_lost_replies_a_reply_may_be_lost_again_and_again() -> None:
    async with fake_redis(one_after_another(*[NOT_LISTENING] * 5, ONE)) as fake:
        async with await client_of(fake) as redis:
            assert await redis.execute_repeatable(Count()) == 1

        assert [line[-1] for _, line in fake.asked("EVALSHA")] == [b"1", *[b"again"] * 5]


async def test_lost_replies_a_kill_without_answer_is_tried_from_the_next_connection() -> None:
    async with fake_redis(one_after_another(None, ONE), {"CLIENT KILL": None}) as fake:
        async with await client_of(fake, reply_timeout_s=0.05, connect_timeout_s=0.05) as redis:
            call = asyncio.ensure_future(redis.execute_repeatable(Count()))
            await until(lambda: fake.asked("CLIENT KILL"))
            assert len(fake.asked("EVALSHA")) == 1
            fake.on = {}

            assert await call == 1

        assert {line[-1] for _, line in fake.asked("CLIENT KILL")} == {b"7"}
        await until(lambda: not fake.present)


async def test_giving_up_says_that_the_call_may_have_run() -> None:
    async with fake_redis(one_after_another(None)) as fake, await client_of(fake) as redis:
        with pytest.raises(RedisUnavailable, match="gave up") as caught:
            await redis.execute_repeatable(Count(), give_up=lambda: bool(fake.asked("EVALSHA")))

    assert caught.value.sent is True


async def test_giving_up_says_when_the_call_never_left() -> None:
    async with fake_redis(one_after_another(ONE)) as fake, await client_of(fake) as redis:
        await fake.stop()
        await until(lambda: not redis.connected)

        with pytest.raises(RedisUnavailable, match="gave up") as caught:
            await redis.execute_repeatable(Count(), give_up=lambda: True)
        assert caught.value.sent is False
        await fake.start()


async def test_a_call_that_never_left_is_sent_as_it_is_when_redis_is_back() -> None:
    async with fake_redis(one_after_another(ONE)) as fake:
        told: list[tuple[bool, str]] = []
        async with await client_of(fake, on_state=lambda up, why: told.append((up, why))) as redis:
            await fake.stop()
            await until(lambda: not redis.connected)
            plain = redis.submit(Count())
            repeatable = asyncio.ensure_future(redis.execute_repeatable(Count()))
            await asyncio.sleep(0)
            await fake.start()

            assert (await plain, await repeatable) == (1, 1)
            assert redis.reconnects == 1

        assert [line[-1] for _, line in fake.asked("EVALSHA")] == [b"1", b"1"]
        assert [up for up, _ in told] == [False, True]
        assert "closed the connection" in told[0][1]
        assert "connected again to unix://" in told[1][1]


async def test_closing_ends_every_call_with_what_may_have_happened() -> None:
    async with fake_redis(one_after_another(None)) as fake:
        redis = await client_of(fake)
        written = redis.submit(Count())
        repeatable = asyncio.ensure_future(redis.execute_repeatable(Count()))
        await until(lambda: len(fake.asked("EVALSHA")) == 2)
        await redis.close()
        late = redis.submit(Count())

        ends = await asyncio.gather(written, repeatable, late, return_exceptions=True)
        assert [(type(end), getattr(end, "sent", None)) for end in ends] == [
            (RedisUnavailable, True),
            (RedisUnavailable, True),
            (RedisUnavailable, False),
        ]


# --- order, cancellation, pressure ------------------------------------------------------------------------


async def test_a_cancelled_call_still_takes_its_reply() -> None:
    async with fake_redis(one_after_another(None)) as fake, await client_of(fake) as redis:
        first = asyncio.ensure_future(redis.execute(Count("a")))
        second = asyncio.ensure_future(redis.execute(Count("b")))
        await until(lambda: len(fake.asked("EVALSHA")) == 2)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        fake.guests[0].writer.write(b":111\r\n:222\r\n")

        assert first.cancelled()
        assert await second == 222


async def test_a_call_that_is_cancelled_before_it_was_written_is_not_sent() -> None:
    async with fake_redis(one_after_another(ONE)) as fake, await client_of(fake) as redis:
        cancelled = redis.submit(Count("a"))
        cancelled.cancel()

        assert await redis.execute(Count("b")) == 1
        assert [line[3] for _, line in fake.asked("EVALSHA")] == [b"b"]


async def test_callers_wait_while_too_many_requests_are_without_reply() -> None:
    async with fake_redis(one_after_another(None)) as fake, await client_of(fake) as redis:
        link = redis._session.last.link
        link._high_water = 3
        callers = [asyncio.ensure_future(redis.execute(Count(str(n)))) for n in range(5)]
        await until(lambda: len(fake.asked("EVALSHA")) == 3)
        await redis._session.open(None)  # some turns of the loop, in which no fourth is sent
        assert (len(fake.asked("EVALSHA")), len(link._outbox)) == (3, 0)

        writer = fake.guests[0].writer
        writer.write(b":0\r\n")
        await until(lambda: len(fake.asked("EVALSHA")) == 4)
        writer.write(b":0\r\n" * 3)
        await until(lambda: len(fake.asked("EVALSHA")) == 5)
        writer.write(b":0\r\n")
        assert await asyncio.gather(*callers) == [0] * 5


async def test_what_decoding_stumbles_over_is_the_callers_alone() -> None:
    async with fake_redis(one_after_another(bulk(b"seven"), ONE)) as fake, await client_of(fake) as redis:
        stumbles, fine = redis.submit(Count()), redis.submit(Count())

        assert await fine == 1
        with pytest.raises(WrongReply, match="reply to count cannot be read"):
            await stumbles
        assert redis.reconnects == 0


async def test_a_reply_in_pieces_is_one_reply() -> None:
    async with fake_redis(one_after_another(None)) as fake, await client_of(fake) as redis:
        call = redis.submit(Count())
        await until(lambda: fake.asked("EVALSHA"))
        for byte in b"$2\r\n42\r\n":
            fake.guests[0].writer.write(bytes([byte]))
            await fake.guests[0].writer.drain()
            await asyncio.sleep(0)

        assert await call == 42


async def test_an_error_within_a_read_is_raised_before_it_is_decoded() -> None:
    async with (
        fake_redis(one_after_another(ONE), {"GET": b"-WRONGTYPE no string"}) as fake,
        await client_of(fake) as redis,
    ):
        with pytest.raises(RedisRefused, match=r"^WRONGTYPE no string$"):
            await redis.execute(Read([("PING",), ("GET", "x"), ("PING",)]))

        assert await redis.execute(Read([("PING",)])) == [b"PONG"]


async def test_many_commands_fail_each_for_itself() -> None:
    def answer(guest: Guest, line: list[bytes]) -> bytes:
        return b"-ERR odd\r\n" if int(line[4]) % 2 else b":%d\r\n" % int(line[4])

    async with fake_redis(answer) as fake, await client_of(fake) as redis:
        results = await redis.execute_many([Count(by=n) for n in range(4)])

        assert [str(result) for result in results] == ["0", "ERR odd", "2", "ERR odd"]


async def test_text_that_cannot_be_sent_is_refused_before_anything_is_sent() -> None:
    async with fake_redis(one_after_another(ONE)) as fake, await client_of(fake) as redis:
        with pytest.raises(UsageError, match="half a character"):
            await redis.execute_many([Count("fine"), Count("\ud83d")])

        assert not fake.asked("EVALSHA")


# --- the first connection ----------------------------------------------------------------------------------


async def test_nobody_listening_is_a_sentence_that_names_the_address(tmp_path: Any) -> None:
    with pytest.raises(
        RedisUnavailable, match=r"cannot reach Redis at unix://.*/s: there is no such socket"
    ) as caught:
        await Redis.connect(f"unix://{tmp_path}/s", sources=source)
    assert caught.value.sent is False

    with pytest.raises(RedisUnavailable, match=r"at redis://127\.0\.0\.1:1: connection refused"):
        await Redis.connect("redis://127.0.0.1:1", sources=source)


async def test_the_first_connection_may_be_waited_for() -> None:
    async with fake_redis(one_after_another(ONE)) as fake:
        await fake.stop()
        connecting = asyncio.ensure_future(client_of(fake, retry_for_s=10.0))
        await asyncio.sleep(0)
        await fake.start()

        async with await connecting as redis:
            assert await redis.execute(Count()) == 1
            assert redis.reconnects == 0


@pytest.mark.parametrize(
    ("on", "told"),
    [
        ({"AUTH": b"-WRONGPASS invalid username-password pair"}, "refused the user or the password"),
        ({"AUTH": b"-ERR AUTH <password> called without any password"}, "refused the login"),
        ({"CLIENT ID": b"-NOAUTH Authentication required."}, "wants a password and the URL has none"),
        ({"SELECT": b"-ERR DB index is out of range"}, "has no database 3"),
        ({"INFO server": b"$19\r\nredis_mode:sentinel"}, "that is a Sentinel"),
        ({"AUTH": b"HTTP/1.1 400 Bad Request"}, "does not speak Redis' protocol"),
        ({"AUTH": b""}, "Redis closed the connection"),
        ({"INFO memory": None}, "no answer within 0.1 s"),
    ],
)
async def test_a_login_that_fails_is_a_sentence(on: dict[str, bytes | None], told: str) -> None:
    async with fake_redis(one_after_another(ONE), on) as fake:
        url = fake.url.replace("unix://", "unix://ann:hushhush@") + "?db=3"
        with pytest.raises(RedisUnavailable) as caught:
            await Redis.connect(url, sources=source, connect_timeout_s=0.1 if None in on.values() else 5.0)

    assert told in str(caught.value)
    assert f"cannot reach Redis at unix://ann@{fake.socket}?db=3" in str(caught.value)
    assert "hushhush" not in str(caught.value)
    assert caught.value.sent is False


async def test_a_refused_name_is_a_warning_and_no_error() -> None:
    async with (
        fake_redis(one_after_another(ONE), {"CLIENT SETNAME": b"-ERR Client names cannot"}) as fake,
        await client_of(fake, client_name="a b") as redis,
    ):
        assert "refused the client name 'a b'" in str(redis.warning)
        assert await redis.execute(Count()) == 1


async def test_a_user_who_may_not_look_around_can_work() -> None:
    on: dict[str, bytes | None] = {"INFO": NO_RUN.strip(), "CLIENT ID": NO_RUN.strip()}
    async with fake_redis(one_after_another(ONE), on) as fake, await client_of(fake) as redis:
        assert await redis.execute(Count()) == 1
        assert (redis.server.version, redis.server.display, redis.client_id) == ((0,), "Redis", None)


# --- small pure things ------------------------------------------------------------------------------------


def test_pauses_double_from_10_ms_to_1_s_with_half_of_it_by_chance() -> None:
    assert [pause_s(tries, 1.0) for tries in range(4)] == [0.01, 0.02, 0.04, 0.08]
    assert (pause_s(50, 1.0), pause_s(50, 0.0)) == (1.0, 0.5)


def test_the_word_of_an_error_is_found_inside_the_wrapping_of_old_servers() -> None:
    assert word_of("LOADING Redis is loading") == "LOADING"
    assert word_of("BUSYGROUP exists") == "BUSYGROUP"
    assert (
        word_of("ERR Error running script (call to f_a): @user_script:3: -OOM command not allowed") == "OOM"
    )
    assert word_of("ERR unknown command") == "ERR"


def test_the_asyncio_client_does_not_load_redis_py() -> None:
    """The master starts faster without."""
    import subprocess  # in a process of its own: this one has loaded it for the stand-ins

    code = "import sys, supervisor.transport.aio; sys.exit('redis' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- a server that goes without a word ------------------------------------------------------------------

RESET = ConnectionResetError(104, "Connection reset by peer")


@pytest.mark.parametrize(
    ("tls", "hint"),
    [
        (None, ""),
        (Tls(), "; it may want to see a certificate of ours, as [redis] cert_file and key_file name one"),
        (Tls(certfile="a.pem"), "; it may not accept our certificate ([redis] cert_file)"),
    ],
)
def test_a_server_that_ends_the_connection_may_not_like_our_certificate(tls: Tls | None, hint: str) -> None:
    """In TLS 1.3 it looks at that when we have sent our first request already, and its alert may be lost."""
    address = Address(host="cache", tls=tls)
    assert why_ended(address, "Redis closed the connection") == f"Redis closed the connection{hint}"
    assert why_unreachable(address, RESET, 1.0) == f"{RESET}{hint}"
    assert "certificate" not in why_unreachable(address, ConnectionRefusedError(), 1.0)
