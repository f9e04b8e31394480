"""TLS with certificates of our own, users with the least rights, and a server that is full or closed."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis_places import HOST, Node, Tls, certificates, standing, wait_for
from redis_stand_ins import Count, source

from oxherd import Queue as AsyncQueue
from supervisor.blocking import Queue
from supervisor.errors import OxherdError, RedisRefused, RedisUnavailable
from supervisor.transport.aio import Redis
from supervisor.transport.blocking import Redis as BlockingRedis

PAGE = Path(__file__).parents[2] / "docs/how-to/redis.md"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("certificates"), "localhost", "elsewhere", "client")


class Secure(Node):
    """A server that speaks TLS alone, shows a certificate and wants to see one."""

    def __init__(self, home: Path, files: dict[str, Path], name: str) -> None:
        super().__init__(home, tls=Tls(files, name))

    def start(self) -> None:
        super().start()
        wait_for(lambda: self.ask("PING"), "the server is up")

    stop = Node.kill


@pytest.fixture(scope="module")
def secure(files: dict[str, Path]) -> Iterator[Secure]:
    with standing(lambda home: Secure(home, files, "localhost")) as server:
        yield server


@pytest.fixture
def options(files: dict[str, Path]) -> str:
    return Tls(files).query


async def test_a_call_over_tls_whose_reply_was_lost_runs_once(secure: Secure, options: str) -> None:
    """Lost replies, with a client's certificate and a private authority on both ends."""
    url = f"rediss://localhost:{secure.port}?{options}"
    async with await Redis.connect(url, sources=source, reply_timeout_s=0.3) as redis:
        assert await redis.execute(Count()) == 1
        await asyncio.to_thread(secure.ask, "CLIENT", "PAUSE", 700, "WRITE")
        assert await asyncio.wait_for(redis.execute_repeatable(Count()), 20) == 2
        assert redis.reconnects
    with BlockingRedis.connect(url, sources=source) as blocking:
        assert await asyncio.to_thread(blocking.execute, Count()) == 3


async def test_what_is_wrong_with_tls_is_a_sentence(
    secure: Secure, options: str, files: dict[str, Path]
) -> None:
    rest = options.partition("&")[2]
    at = f"rediss://localhost:{secure.port}"
    mistakes = [
        (f"{at}?{rest}", "its certificate is not accepted"),
        (f"{at}?ssl_ca_certs={files['client.pem']}&{rest}", "its certificate is not accepted"),
        (f"{at}?ssl_ca_certs=/no/such&{rest}", "the TLS files /no/such.*No such file"),
        (f"{at}?{options}".replace("client.key", "ca.key"), "the TLS files .*KEY_VALUES_MISMATCH"),
        (f"{at}?ssl_ca_certs={files['ca.pem']}", "certificate|CERTIFICATE|closed the connection|broke"),
        (f"redis://localhost:{secure.port}", "cannot reach Redis"),
    ]
    for url, told in mistakes:
        with pytest.raises(RedisUnavailable, match=told) as caught:
            await Redis.connect(url, connect_timeout_s=2.0)
        assert "\n" not in str(caught.value)
        with pytest.raises(RedisUnavailable, match="cannot reach Redis"):
            await asyncio.to_thread(BlockingRedis.connect, url, connect_timeout_s=2.0, reply_timeout_s=2.0)


async def test_a_certificate_of_another_name_is_not_accepted(files: dict[str, Path], options: str) -> None:
    with standing(lambda home: Secure(home, files, "elsewhere")) as server:
        url = f"rediss://localhost:{server.port}?{options}"
        with pytest.raises(RedisUnavailable, match=r"not accepted .*[Hh]ostname mismatch"):
            await Redis.connect(url)
        with pytest.raises(RedisUnavailable, match=r"not accepted .*[Hh]ostname mismatch"):
            await asyncio.to_thread(BlockingRedis.connect, url)
        async with await Redis.connect(f"{url}&ssl_check_hostname=false", sources=source) as redis:
            assert await redis.execute(Count()) == 1


# --- users --------------------------------------------------------------------------------------------------


class Closed(Node):
    """A server without rights for who has not logged in."""

    def start(self) -> None:
        super().start()
        wait_for(lambda: self.ask("PING"), "the server is up")

    stop = Node.kill


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with standing(Closed) as server:
        yield server


def rule(name: str) -> list[str]:
    """The words of `user NAME ...` in the page for whoever keeps a Redis."""
    found = re.search(rf"^user {name} (.+)$", PAGE.read_text(), re.MULTILINE)
    assert found, f"docs/how-to/redis.md has no line for a user {name}"
    return found[1].split()


async def test_the_rights_in_the_page_suffice_for_a_producer(server: Node) -> None:
    server.ask("ACL", "SETUSER", "producer", "reset", *rule("producer"))
    url = f"redis://producer:secret@{HOST}:{server.port}"
    async with AsyncQueue("work", url=url) as queue:
        job = await queue.add("x", {"n": 1}, delay_ms=60_000)
        assert await queue.state(job.id) == "delayed"
        assert (await queue.counts())["delayed"] == 1
    with Queue("work", url=url) as blocking:
        await asyncio.to_thread(blocking.add, "x", {})


def test_the_config_in_the_page_is_all_that_a_command_needs(
    secure: Secure, files: dict[str, Path], tmp_path: Path
) -> None:
    """The first table of docs/how-to/redis.md, with the files of this host in the places of its own."""
    secure.ask("ACL", "SETUSER", "oxherd", "reset", *rule("oxherd"))
    blocks = re.findall(r"^```toml\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    places = {
        "redis.example.org:6380": f"localhost:{secure.port}",
        "/etc/oxherd/redis-password": "redis-password",
        "/etc/oxherd": str(files["ca.pem"].parent),
    }
    config = blocks[0]
    for of_page, here in places.items():
        assert of_page in config
        config = config.replace(of_page, here)
    (tmp_path / "oxherd.toml").write_text(config)

    def oxherd(password: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "redis-password").write_text(f"{password}\n")
        command = [sys.executable, "-m", "supervisor", "status", "--config", "oxherd.toml", "work"]
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OXHERD_")},
            "CREDENTIALS_DIRECTORY": str(tmp_path),
            "PYTHONPATH": str(PAGE.parents[2]),
        }
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)

    right = oxherd("secret")
    assert (right.returncode, "no job was ever added to work" in right.stderr) == (1, True)
    wrong = oxherd("hushhush")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (3, 1)
    assert "refused the user or the password" in wrong.stderr
    assert "hushhush" not in wrong.stderr


async def test_a_right_that_is_missing_is_named(server: Node) -> None:
    server.ask("ACL", "SETUSER", "poor", "reset", *rule("producer"), "-evalsha", "-eval")
    server.ask("ACL", "SETUSER", "poorer", "reset", *rule("producer"), "-hset")
    for user, told in (("poor", "evalsha"), ("poorer", "(hset|executing the script)")):
        url = f"redis://{user}:secret@{HOST}:{server.port}"
        with pytest.raises(OxherdError, match=rf"(?i){told}.*docs/how-to/redis.md") as caught:
            async with AsyncQueue("work", url=url) as queue:
                await queue.add("x", {})
        assert isinstance(caught.value, RedisRefused)
        with (
            pytest.raises(RedisRefused, match=rf"(?i){told}.*docs/how-to/redis.md"),
            Queue("work", url=url) as blocking,
        ):
            await asyncio.to_thread(blocking.add, "x", {})


async def test_a_password_that_changes_is_read_again(server: Node, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    server.ask("ACL", "SETUSER", "ann", "reset", "on", ">first", "~*", "+@all")
    url = f"redis://ann@{HOST}:{server.port}?password_file={file}"
    async with await Redis.connect(url, sources=source) as redis:
        await redis.execute(Count())
        file.write_text("second\n")
        server.ask("ACL", "SETUSER", "ann", "resetpass", ">second")
        server.ask("CLIENT", "KILL", "ID", redis.client_id)
        assert await redis.execute_repeatable(Count()) == 2

    file.write_text("wrong\n")
    with pytest.raises(RedisUnavailable, match="refused the user or the password") as caught:
        await Redis.connect(url)
    assert "wrong" not in str(caught.value)
    with pytest.raises(RedisUnavailable, match="refused the user or the password"):
        await asyncio.to_thread(BlockingRedis.connect, url)
    file.unlink()
    with pytest.raises(RedisUnavailable, match=r"the password file .* cannot be read"):
        await Redis.connect(url)
    with pytest.raises(RedisUnavailable, match=r"the password file .* cannot be read"):
        await asyncio.to_thread(BlockingRedis.connect, url)


# --- a server that is full ----------------------------------------------------------------------------------


async def test_a_server_without_room_for_another_client_is_a_sentence() -> None:
    with standing(lambda home: Full(home, "--maxclients", "1")) as server:
        holder = redis.Redis(HOST, server.port, single_connection_client=True)
        holder.ping()
        url = f"redis://{HOST}:{server.port}"
        with pytest.raises(RedisUnavailable, match="as many clients as it takes, see its maxclients"):
            await Redis.connect(url)
        with pytest.raises(RedisUnavailable, match="as many clients as it takes, see its maxclients"):
            await asyncio.to_thread(BlockingRedis.connect, url)
        holder.close()


class Full(Node):
    def start(self) -> None:
        super().start()
        wait_for(lambda: "Ready to accept" in (self.home / "log").read_text(), "the server is up")

    stop = Node.kill


async def test_a_server_without_memory_is_a_sentence(server: Node) -> None:
    server.ask("CONFIG", "SET", "maxmemory", 1)
    try:
        async with AsyncQueue("work", url=f"redis://{HOST}:{server.port}") as queue:
            with pytest.raises(OxherdError, match=r"OOM.*Redis is full \(maxmemory\) and wrote nothing"):
                await queue.add("x", {})
    finally:
        server.ask("CONFIG", "SET", "maxmemory", 0)
