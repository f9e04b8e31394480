"""The listener: what strangers may send, and that it never keeps anybody from being answered."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, suppress

import pytest

from supervisor.config.place import Place, place_of
from supervisor.errors import ConfigError
from supervisor.observe import http
from supervisor.observe.http import Answer, HttpServer


async def hello() -> Answer:
    return Answer("hello\n")


async def broken() -> Answer:
    raise RuntimeError("a mistake")


@asynccontextmanager
async def serving(place: Place | None = None, **pages):
    server = HttpServer(place or Place(), {"/hello": hello, "/broken": broken, **pages})
    await server.open()
    try:
        yield server
    finally:
        await server.close()


async def connected(server: HttpServer):
    if server.place.path:
        return await asyncio.open_unix_connection(server.place.path)
    return await asyncio.open_connection(server.place.host, server.place.port)


async def asked(server: HttpServer, request: bytes) -> bytes:
    reader, writer = await connected(server)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


async def test_a_page_is_answered_with_its_length_and_the_end_of_the_connection():
    async with serving() as server:
        reply = await asked(server, b"GET /hello?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    head, body = reply.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 6" in head
    assert b"Connection: close" in head
    assert body == b"hello\n"


async def test_head_gets_the_head_alone():
    async with serving() as server:
        reply = await asked(server, b"HEAD /hello HTTP/1.1\r\n\r\n")
    assert reply.startswith(b"HTTP/1.1 200") and reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /hello HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /hello HTTP/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nX: " + b"x" * (2 * http.LONGEST_HEAD), 431),
    ],
)
async def test_what_is_no_request_for_a_page_is_refused_with_a_line(request_: bytes, status: int):
    async with serving() as server:
        reply = await asked(server, request_)
        assert status_of(reply) == status
        assert reply.split(b"\r\n\r\n", 1)[1].count(b"\n") == 1
        assert status_of(await asked(server, b"GET /hello HTTP/1.1\r\n\r\n")) == 200


async def test_a_page_that_fails_is_told_to_the_log_and_harms_nobody():
    heard = []
    with http_log(heard):
        async with serving() as server:
            assert status_of(await asked(server, b"GET /broken HTTP/1.1\r\n\r\n")) == 500
            assert status_of(await asked(server, b"GET /hello HTTP/1.1\r\n\r\n")) == 200
    assert ("http.failed", {"path": "/broken", "error": "RuntimeError: a mistake"}) in heard


def http_log(heard: list):
    from supervisor.observe.log import hooked

    return hooked(lambda event, fields: heard.append((event, fields)))


async def test_who_says_nothing_has_to_go(monkeypatch):
    monkeypatch.setattr(http, "REQUEST_WITHIN_S", 0.02)
    async with serving() as server:
        assert status_of(await asked(server, b"GET /hello")) == 408


async def test_of_too_many_the_one_that_has_waited_longest_goes(monkeypatch):
    """Whoever holds connections open cannot keep a probe from being answered."""
    monkeypatch.setattr(http, "MOST_CLIENTS", 3)
    async with serving() as server:
        idle = [await connected(server) for _ in range(6)]
        for reader, _ in idle[:3]:
            with suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
        assert status_of(await asked(server, b"GET /hello HTTP/1.1\r\n\r\n")) == 200
        for _, writer in idle:
            writer.close()
            with suppress(ConnectionResetError):
                await writer.wait_closed()


async def test_who_does_not_read_his_answer_is_left(monkeypatch):
    """Else each such client would keep its answer in our memory for ever."""
    monkeypatch.setattr(http, "TAKEN_WITHIN_S", 0.05)
    met = []

    async def long() -> Answer:
        met.append(asyncio.current_task())
        return Answer("x" * 20_000_000)

    async with serving(**{"/long": long}) as server:
        with socket.create_connection((server.place.host, server.place.port)) as deaf:
            deaf.sendall(b"GET /long HTTP/1.1\r\n\r\n")
            while not met or not met[0].done():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0)
            got = 0
            while piece := deaf.recv(1 << 20):
                got += len(piece)
    assert got < 20_000_000


async def test_a_unix_socket_is_for_owner_and_group_and_is_taken_away_at_the_end(tmp_path):
    place = Place(path=str(tmp_path / "s"))
    async with serving(place) as server:
        assert status_of(await asked(server, b"GET /hello HTTP/1.1\r\n\r\n")) == 200
        assert os.stat(place.path).st_mode & 0o777 == 0o660
    assert not os.path.exists(place.path)


async def test_the_socket_of_a_dead_master_is_taken_over_and_that_of_a_living_one_is_not(tmp_path):
    place = Place(path=str(tmp_path / "s"))
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(place.path)
    dead.close()
    async with serving(place):
        with pytest.raises(ConfigError, match=r"\[http\] listen: .* another program listens there"):
            await HttpServer(place, {}).open()
        assert os.path.exists(place.path)


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="no socket"):
        await HttpServer(Place(path=str(path)), {}).open()
    assert path.read_text() == "mine"


async def test_a_port_that_is_taken_is_told_in_a_sentence():
    async with serving() as server:
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*in use; nothing was"):
            await HttpServer(Place(port=server.place.port), {}).open()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (9464, "127.0.0.1:9464"),
        ("9464", "127.0.0.1:9464"),
        (":9464", "127.0.0.1:9464"),
        ("0.0.0.0:9464", "0.0.0.0:9464"),
        ("[::1]:9464", "[::1]:9464"),
        ("unix:/run/oxherd/http", "unix:/run/oxherd/http"),
        ("unix:///run/oxherd/http", "unix:/run/oxherd/http"),
        ("/run/oxherd/http", "unix:/run/oxherd/http"),
    ],
)
def test_an_address_is_a_port_of_the_loopback_unless_it_says_more(text, shown: str):
    assert str(place_of(text)) == shown


@pytest.mark.parametrize(
    "text",
    ["", "x", "::1:9464", "host:99999", "host:-1", "unix:relative", True, 1.5, "/" + "x" * 200, "/a\0b"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"no address|path of a socket"):
        place_of(text)
