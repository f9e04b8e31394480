"""Both clients over TCP and TLS."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_stand_ins import Count, free_port, private_server, source

from supervisor.errors import RedisUnavailable
from supervisor.transport.aio import Redis
from supervisor.transport.blocking import Redis as BlockingRedis


@pytest.fixture
def tcp_url() -> Iterator[str]:
    port = free_port()
    with private_server("--bind", "127.0.0.1", "--port", str(port), "--requirepass", "se:cret"):
        yield f"redis://:se%3Acret@127.0.0.1:{port}"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key and a certificate for `localhost` that vouches for itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        text = "no openssl is installed, so TLS was not tried"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    options = ["-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, "req", "-x509", *options, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return key, certificate


@pytest.fixture
def tls_url(certificate: tuple[Path, Path]) -> Iterator[str]:
    port = free_port()
    key, own = certificate
    files = ["--tls-key-file", str(key), "--tls-cert-file", str(own), "--tls-ca-cert-file", str(own)]
    with private_server("--bind", "127.0.0.1", "--tls-port", str(port), "--tls-auth-clients", "no", *files):
        yield f"rediss://localhost:{port}"


async def test_both_clients_speak_tcp_with_a_password(tcp_url: str) -> None:
    async with await Redis.connect(tcp_url, sources=source) as client:
        assert await client.execute_many([Count(), Count()]) == [1, 2]
    with BlockingRedis.connect(tcp_url, sources=source) as blocking:
        assert await asyncio.to_thread(blocking.execute, Count()) == 3


async def test_a_password_that_is_missing_is_a_sentence(tcp_url: str) -> None:
    url = tcp_url.replace(":se%3Acret@", "")
    with pytest.raises(RedisUnavailable, match="wants a password and the URL has none"):
        await Redis.connect(url, sources=source)
    with pytest.raises(RedisUnavailable, match="wants a password and the URL has none"):
        await asyncio.to_thread(BlockingRedis(url, sources=source).execute, Count())


async def test_both_clients_speak_tls(tls_url: str, certificate: tuple[Path, Path]) -> None:
    url = f"{tls_url}?ssl_ca_certs={certificate[1]}"
    async with await Redis.connect(url, sources=source) as client:
        assert await client.execute(Count()) == 1
    with BlockingRedis.connect(url, sources=source) as blocking:
        assert await asyncio.to_thread(blocking.execute, Count()) == 2


async def test_a_certificate_nobody_vouches_for_is_a_sentence(tls_url: str) -> None:
    with pytest.raises(RedisUnavailable, match="its certificate is not accepted"):
        await Redis.connect(tls_url, sources=source)
    with pytest.raises(RedisUnavailable, match="its certificate is not accepted"):
        await asyncio.to_thread(BlockingRedis.connect, tls_url, sources=source)

    async with await Redis.connect(f"{tls_url}?ssl_cert_reqs=none", sources=source) as client:
        assert await client.execute(Count()) == 1


async def test_plain_talk_to_a_tls_port_is_a_sentence(tls_url: str) -> None:
    with pytest.raises(RedisUnavailable, match=r"cannot reach Redis at redis://localhost:\d+: "):
        await Redis.connect(tls_url.replace("rediss", "redis"), sources=source, connect_timeout_s=1.0)


async def test_tls_talk_to_a_plain_port_is_a_sentence(tcp_url: str) -> None:
    with pytest.raises(RedisUnavailable, match="does the server speak TLS on this port"):
        await Redis.connect(tcp_url.replace("redis://", "rediss://"), sources=source, connect_timeout_s=1.0)
