"""Lost replies: a server is stopped between request and reply, over and over, and effects are counted.

The script takes a token once: a repetition finds the token again, as `FinishAndFetch` finds the jobs that
were fetched under its call token. What no script can see is a first sending that comes after its own
repetition: from the server's input buffer, or from a network that had lost it for a while. Ending the old
connection first is what prevents that, and the last test shows that it is needed.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import pytest
from redis_stand_ins import Count, PrivateServer, private_server, source, until

from supervisor.transport import session
from supervisor.transport.aio import Redis
from supervisor.transport.opening import Opened

REPLY_TIMEOUT_S: Final = 0.02

# A first sending takes the next number whatever stands there: like a fetch, it believes its token to be new.
TAKE: Final = """
if ARGV[2] == 'again' then
  local had = redis.call('HGET', KEYS[1], ARGV[1])
  if had then return tonumber(had) end
end
local number = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], ARGV[1], number)
redis.call('RPUSH', KEYS[3], ARGV[1])
return number
"""


@dataclass(frozen=True)
class Take:
    """Take the next number under a token, once."""

    script: ClassVar[str] = "take"

    token: str
    again: bool = False

    def keys(self) -> Sequence[str]:
        return ["taken", "next", "runs"]

    def args(self) -> Sequence[str]:
        return [self.token, "again" if self.again else ""]

    def decode(self, reply: Any) -> int:
        return int(reply)

    def repetition(self) -> Take:
        return replace(self, again=True)


def runs(server: PrivateServer) -> collections.Counter[str]:
    """How often each token had its effect."""
    with server.client() as raw:
        return collections.Counter(token.decode() for token in raw.lrange("runs", 0, -1))


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    with private_server() as server:
        yield server


async def connect(url: str, chance: random.Random) -> Redis:
    return await Redis.connect(
        url,
        sources=lambda name: TAKE if name == "take" else source(name),
        reply_timeout_s=REPLY_TIMEOUT_S,
        connect_timeout_s=REPLY_TIMEOUT_S,
        retry_for_s=10.0,
        rng=chance.random,
    )


# --- a server that is stopped ----------------------------------------------------------------------------


async def one_round(redis: Redis, server: PrivateServer, number: int, chance: random.Random) -> int:
    """Stop the server somewhere between sending and reply; the number the call got in the end."""
    moment = number % 3
    if moment == 0:  # before the request is written
        server.freeze()
    crowd = [redis.submit(Count()) for _ in range(number % 5 * 10)]  # what else is on its way may be lost
    call = asyncio.ensure_future(redis.execute_repeatable(Take(f"t{number}")))
    if moment:  # while it is on its way, or has just run
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if moment == 2:
            time.sleep(chance.random() / 4_000)  # noqa: ASYNC251  # the loop must not read the reply
        server.freeze()
    await until(lambda: call.done() or not redis.connected)
    if not call.done():  # the next connections, and their CLIENT KILL, pile up behind the first request
        await asyncio.sleep(chance.random() * 2 * REPLY_TIMEOUT_S)
    server.thaw()
    await asyncio.gather(*crowd, return_exceptions=True)
    return await asyncio.wait_for(call, 30)


async def test_lost_replies_200_rounds_with_a_stopped_server_have_one_effect_each(
    server: PrivateServer,
) -> None:
    chance = random.Random(20_240_817)
    async with await connect(server.url, chance) as redis:
        got = {f"t{number}": await one_round(redis, server, number, chance) for number in range(200)}

        assert redis.reconnects > 60  # replies were lost indeed
    assert runs(server) == {f"t{number}": 1 for number in range(200)}
    assert sorted(got.values()) == list(range(1, 201))
    with server.client() as raw:
        assert raw.hgetall("taken") == {token.encode(): b"%d" % number for token, number in got.items()}


# --- a network that delivers late ---------------------------------------------------------------------------


class LateNetwork:
    """Stands between client and server. What is sent on a held connection arrives when it is released.

    So does a kernel that goes on retransmitting what a closed socket had still to send.
    """

    def __init__(self, server: PrivateServer) -> None:
        self.home = tempfile.mkdtemp(prefix="oxherd-late-")
        self.url = f"unix://{self.home}/s"
        self.holding = False
        self._server = server
        self._tasks: list[asyncio.Task[None]] = []
        self._held: list[tuple[asyncio.StreamWriter, bytearray, asyncio.Task[None]]] = []

    async def serve(self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        far, far_writer = await asyncio.open_unix_connection(self._server.socket)
        back = asyncio.ensure_future(self._carry_back(far, near_writer))
        task = asyncio.current_task()
        assert task is not None
        self._tasks += [task, back]
        held: bytearray | None = None
        with contextlib.suppress(ConnectionError):
            while data := await near.read(65536):
                if held is None and self.holding:
                    self.holding = False  # this one alone
                    held = bytearray()
                    self._held.append((far_writer, held, back))
                if held is None:
                    far_writer.write(data)
                else:
                    held += data
        if held is None:
            far_writer.close()
            with contextlib.suppress(ConnectionError):
                await far_writer.wait_closed()

    async def release(self) -> None:
        """Deliver everything, and return when the server has had its say to it."""
        held, self._held = self._held, []
        for far_writer, data, back in held:
            with contextlib.suppress(ConnectionError):
                far_writer.write(bytes(data))
                far_writer.write_eof()
            await back
            far_writer.close()
            with contextlib.suppress(ConnectionError):
                await far_writer.wait_closed()

    async def ended(self) -> None:
        await self.release()
        await asyncio.gather(*self._tasks)

    async def _carry_back(self, far: asyncio.StreamReader, near_writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await far.read(65536):
                if not near_writer.is_closing():
                    near_writer.write(data)
        near_writer.close()
        with contextlib.suppress(ConnectionError):
            await near_writer.wait_closed()


@pytest.fixture
async def late(server: PrivateServer) -> AsyncIterator[LateNetwork]:
    network = LateNetwork(server)
    listening = await asyncio.start_unix_server(network.serve, f"{network.home}/s")
    yield network
    listening.close()
    await network.ended()
    shutil.rmtree(network.home, ignore_errors=True)


async def late_rounds(late: LateNetwork, count: int) -> None:
    """Each call's first sending arrives after its repetition was answered."""
    async with await connect(late.url, random.Random(7)) as redis:
        await redis.execute(Count())
        for number in range(count):
            late.holding = True
            await redis.execute_repeatable(Take(f"t{number}"))
            await late.release()
        assert redis.reconnects >= count


async def test_lost_replies_a_first_sending_that_arrives_after_its_repetition_has_no_effect(
    server: PrivateServer, late: LateNetwork
) -> None:
    await late_rounds(late, 100)

    assert runs(server) == {f"t{number}": 1 for number in range(100)}


async def test_lost_replies_without_the_kill_it_would_have_one(
    server: PrivateServer, late: LateNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the test above proves nothing any more."""

    async def believe(new: Opened, old: Opened) -> bool:
        return True

    monkeypatch.setattr(session, "kill", believe)
    await late_rounds(late, 5)

    assert runs(server) == {f"t{number}": 2 for number in range(5)}
