"""I1 and what `oxherd doctor` says of secrets: the password of Redis, looked for from inside a job.

The master has it from its environment, as in production. A job under `process` may open what its user may
open, a socket file too, and so it is said; what the master holds it does not have.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from running import ROOT, TESTS, Running

from supervisor.blocking import Queue

HALVES = ("open-", "sesame-4711")
PASSWORD = "".join(HALVES)
AS_ROOT = os.geteuid() == 0
Deed = Callable[..., Any]
NOT_AS_ROOT = pytest.mark.skipif(
    AS_ROOT, reason="under strict a master that is root needs a user; tests/sandbox/test_escapes.py has one"
)


@pytest.fixture
def url(raw: redis.Redis, redis_server: Any) -> Iterator[str]:
    """Redis with a password."""
    raw.config_set("requirepass", PASSWORD)
    try:
        yield f"unix://:{PASSWORD}@{redis_server.socket}"
    finally:
        raw.config_set("requirepass", "")


@pytest.fixture
def home(url: str, tmp_path: Path) -> Path:
    """Where the master runs: the processors, and what often lies beside them."""
    shutil.copy(TESTS / "processors" / "escapes.py", tmp_path)
    (tmp_path / "oxherd.toml").write_text(f'[redis]\nurl = "{url}"\n')
    (tmp_path / ".env").write_text(f"OXHERD_REDIS_URL={url}\n")
    return tmp_path


@pytest.fixture
def deeds(url: str, home: Path) -> Iterator[Callable[[str], Deed]]:
    """A master under a profile; what is given back does one deed of tests/processors/escapes.py in a job."""
    with contextlib.ExitStack() as stack:

        def start(profile: str) -> Deed:
            running = stack.enter_context(_master(profile, url, home))
            running.until("master.started")
            queue = stack.enter_context(Queue("work", url=url))

            def deed(name: str, data: Any = None) -> Any:
                argument = f"/proc/{running.pid}/{data.pop()}" if isinstance(data, set) else data
                return queue.result(queue.add(name, argument), timeout_ms=20_000)

            return deed

        yield start


@contextlib.contextmanager
def _master(profile: str, url: str, home: Path) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "run", "escapes", "--profile", profile, "--log-format", "json"],
        cwd=home,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OXHERD_REDIS_URL": url, "MY_COPY": f"x{PASSWORD}x"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = Running(process)
    try:
        yield running
    finally:
        running.signal(signal.SIGQUIT)
        try:
            running.ended(10)
        finally:
            process.kill()
            process.stderr.close()


@pytest.mark.parametrize("profile", ["process", pytest.param("strict", marks=NOT_AS_ROOT)])
def test_nothing_of_redis_is_inherited(deeds: Callable[[str], Deed], profile: str):
    """I1: not in the environment, in whatever variable; not in memory; not as a descriptor."""
    deed = deeds(profile)
    environment = deed("environment").splitlines()
    assert not [line for line in environment if line.startswith(("OXHERD_", "MY_COPY")) or PASSWORD in line]
    assert deed("find_in_memory", list(HALVES)) == "0 times"
    sockets = [line for line in deed("descriptors").splitlines() if "socket:" in line]
    # The link; and permits for jobs sent ahead, which strict, a process for each job, has none of.
    assert len(sockets) == (2 if profile == "process" else 1)


@pytest.mark.skipif(AS_ROOT, reason="root reads every process; doctor says so")
@pytest.mark.parametrize("profile", ["process", "strict"])
def test_nothing_of_the_master_is_readable_in_proc(deeds: Callable[[str], Deed], profile: str):
    deed = deeds(profile)
    assert deed("read", {"environ"}) == "EACCES"
    assert deed("read", {"mem"}) == "EACCES"
    assert deed("list_directory", {"fd"}) == "EACCES"


def test_under_process_a_socket_that_the_user_may_open_is_open(
    deeds: Callable[[str], Deed], redis_server: Any
):
    """So it is said, by doctor too: without the password it helps nobody, and without one it is Redis."""
    assert deeds("process")("unix_stream", redis_server.socket) == "done"


@NOT_AS_ROOT
def test_under_strict_neither_the_socket_nor_a_file_with_the_password_can_be_opened(
    deeds: Callable[[str], Deed], redis_server: Any, home: Path
):
    deed = deeds("strict")
    assert deed("unix_stream", redis_server.socket) == "EACCES"
    assert deed("read", str(home / "oxherd.toml")) == "EACCES"
    assert deed("read", str(home / ".env")) == "EACCES"
    assert deed("read", str(home / "escapes.py")) == "done"
