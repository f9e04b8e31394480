"""Servers and commands for the tests of `supervisor.transport`.

`FakeRedis` speaks the protocol as far as our connections need it and answers scripts as the test says: what a
real server does only when it pleases. `PrivateServer` is a real one that a test may stop, freeze and start.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

SOURCES: Final = {
    "count": "return redis.call('INCRBY', KEYS[1], ARGV[1])",
    "slow": """
        redis.call('INCR', KEYS[1])
        local turns = 0
        for _ = 1, ARGV[1] * 100000 do turns = turns + 1 end
        return 'done'
    """,
    "broken": "this is no Lua",
}
source = SOURCES.__getitem__


@dataclass(frozen=True)
class Count:
    """INCRBY. Its repetition is marked but counts once more, so that a test sees it run."""

    script: ClassVar[str] = "count"

    key: str = "n"
    by: int = 1
    again: bool = False

    def keys(self) -> Sequence[str]:
        return [self.key]

    def args(self) -> Sequence[str | int]:
        return [self.by, "again"] if self.again else [self.by]

    def decode(self, reply: Any) -> int:
        return int(reply)

    def repetition(self) -> Count:
        return replace(self, again=True)


@dataclass(frozen=True)
class Slow(Count):
    """Counts one and keeps the server busy for about `by` ms (no clock runs inside a script)."""

    script: ClassVar[str] = "slow"

    def decode(self, reply: Any) -> Any:
        return reply


@dataclass(frozen=True)
class Broken(Count):
    script: ClassVar[str] = "broken"


@dataclass(frozen=True)
class Read:
    """Plain requests; decodes to their replies."""

    lines: Sequence[Sequence[Any]]

    def requests(self) -> Sequence[Sequence[Any]]:
        return self.lines

    def decode(self, reply: Any) -> Any:
        return reply


# --- a server that says what the test wants -----------------------------------------------------------


@dataclass
class Guest:
    """One connection to the fake, as the fake sees it."""

    id: int
    writer: asyncio.StreamWriter
    seen: list[list[bytes]] = field(default_factory=list)


Answer = Callable[[Guest, list[bytes]], bytes | None]
NOT_LISTENING: Final = b""


class FakeRedis:
    """Answers the login by itself and everything in `scripts` (EVALSHA) by `answer`.

    answer   gives the bytes to send, None to say nothing, NOT_LISTENING to close the connection.
    on       what to say instead to a request by its first words, as `{"CLIENT KILL": b"-NOPERM no"}`.
    present  the ids of the guests that have not left.
    log      every request of every guest: (guest's id, words).
    """

    def __init__(self, answer: Answer, on: dict[str, bytes | None] | None = None) -> None:
        self.answer = answer
        self.on = on or {}
        self.run_id = "first"
        self.log: list[tuple[int, list[bytes]]] = []
        self.guests: list[Guest] = []
        self.present: set[int] = set()
        self.known: set[bytes] = set()
        self.next_id = 7
        self.home = tempfile.mkdtemp(prefix="oxherd-fake-")
        self.socket = f"{self.home}/s"
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def asked(self, first: str) -> list[tuple[int, list[bytes]]]:
        words = first.encode().split()
        return [(guest, line) for guest, line in self.log if line[: len(words)] == words]

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.socket)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for guest in self.guests:
            guest.writer.close()
        await asyncio.sleep(0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        guest = Guest(self.next_id, writer)
        self.next_id += 1
        self.guests.append(guest)
        self.present.add(guest.id)
        requests = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                requests.feed(data)
                while (line := requests.gets()) is not False:
                    self.log.append((guest.id, line))
                    guest.seen.append(line)
                    reply = self._reply(guest, line)
                    if reply == NOT_LISTENING:
                        return
                    if reply is not None:
                        writer.write(reply)
        except ConnectionError:
            pass
        finally:
            self.present.discard(guest.id)
            writer.close()

    def _reply(self, guest: Guest, line: list[bytes]) -> bytes | None:
        for words in (b" ".join(line[:2]).decode(), line[0].decode()):
            if words in self.on:
                text = self.on[words]
                return None if text is None else text + b"\r\n" if text else NOT_LISTENING
        match [line[0], *line[1:2]]:
            case [b"CLIENT", b"ID"]:
                return b":%d\r\n" % guest.id
            case [b"CLIENT", b"KILL"]:
                victims = [other for other in self.guests if b"%d" % other.id == line[-1]]
                for victim in victims:
                    victim.writer.close()
                return b":%d\r\n" % len(victims)
            case [b"INFO", b"server"]:
                return bulk(b"redis_version:7.0.15\r\nrun_id:%s\r\n" % self.run_id.encode())
            case [b"SCRIPT", b"LOAD"]:
                sha = hashlib.sha1(line[2], usedforsecurity=False).hexdigest().encode()
                self.known.add(sha)
                return bulk(sha)
            case [b"EVALSHA", sha]:
                return self.answer(guest, line) if sha in self.known else b"-NOSCRIPT No matching script.\r\n"
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"INFO", *_]:
                return bulk(b"")
            case _:
                return b"+OK\r\n"


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def one_after_another(*replies: bytes | None) -> Answer:
    """An `answer` that says these, and the last for ever."""
    left = list(replies)

    def answer(guest: Guest, line: list[bytes]) -> bytes | None:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


@contextlib.asynccontextmanager
async def fake_redis(answer: Answer, on: dict[str, bytes | None] | None = None) -> AsyncIterator[FakeRedis]:
    fake = FakeRedis(answer, on)
    await fake.start()
    try:
        yield fake
    finally:
        await fake.stop()
        shutil.rmtree(fake.home, ignore_errors=True)


# --- a server of the test's own -------------------------------------------------------------------------


class PrivateServer:
    """A real server that may be stopped, frozen and started again. `more` are options of its own."""

    def __init__(self, *more: str) -> None:
        self._more = more
        # Not tmp_path: a socket's path must stay below 108 bytes.
        self.home = tempfile.mkdtemp(prefix="oxherd-private-")
        self.socket = f"{self.home}/s"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        options = ["--port", "0", "--unixsocket", self.socket, "--save", "", "--dir", self.home]
        self._process = subprocess.Popen(["redis-server", *options, *self._more], stdout=subprocess.DEVNULL)
        deadline_at = time.monotonic() + 20
        with self.client() as client:
            while True:
                try:
                    client.ping()
                except redis.AuthenticationError:
                    return  # it is up, and wants a password
                except redis.RedisError:
                    if time.monotonic() > deadline_at:
                        raise
                    time.sleep(0.005)
                else:
                    return

    def client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=self.socket, retry=Retry(NoBackoff(), 0), socket_timeout=30, protocol=2
        )

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)

    def _signal(self, signum: int) -> None:
        assert self._process is not None
        self._process.send_signal(signum)


@contextlib.contextmanager
def private_server(*more: str) -> Iterator[PrivateServer]:
    server = PrivateServer(*more)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.home, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(fact: Callable[[], Any], within_s: float = 10.0) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(within_s):
        while not fact():
            await asyncio.sleep(0.001)
