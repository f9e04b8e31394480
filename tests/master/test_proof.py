"""Whether a master works, as it is told over HTTP, by `oxherd status --check` and to a service manager."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import ROOT, Running, until

LOOKS_OFTEN = {"WATCHDOG_USEC": "1800000"}  # six times in that time


def got(place: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("master", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(place)
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.fixture
def checked(redis_url: str, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def check(*queues: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "supervisor", "status", *queues, "--check", "--redis", redis_url]
        env = {**os.environ, "OXHERD_RUNTIME_DIR": str(tmp_path / "run"), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, cwd=tmp_path)
        return done.returncode, done.stderr

    return check


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "http")


@pytest.fixture
def run(oxherd: Callable[..., Running], tmp_path: Path, place: str) -> Running:
    env = {"OXHERD_RUNTIME_DIR": str(tmp_path / "run"), **LOOKS_OFTEN}
    return oxherd("--concurrency", "1", "--http-listen", f"unix://{place}", env=env)


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
def test_who_asks_is_told_whether_it_takes_jobs_and_why_not(run: Running, place: str, checked):
    run.until("master.started")
    until(lambda: got(place, "/readyz") == (200, "ok\n"), "it is ready")
    assert got(place, "/livez") == (200, "ok\n")
    assert checked() == (0, "")

    subprocess.run(["kill", "-TSTP", str(run.pid)], check=True)
    until(lambda: got(place, "/readyz")[0] == 503, "it is quiet")
    assert "quiet, as was asked" in got(place, "/readyz")[1]
    assert got(place, "/livez") == (200, "ok\n"), "nobody would restart it for that"
    status, said = checked()
    assert status == 1
    assert f"the master {run.pid} takes no jobs: queue 'work' is quiet" in said


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
def test_what_was_asked_of_it_is_told_at_once_and_not_at_the_next_look(
    oxherd: Callable[..., Running], tmp_path: Path, place: str, checked
):
    """It looks every 5 s, as one without a service manager does: nothing is waited for here."""
    env = {"OXHERD_RUNTIME_DIR": str(tmp_path / "run")}
    run = oxherd("--concurrency", "1", "--http-listen", f"unix://{place}", env=env)
    run.until("master.started")
    until(lambda: got(place, "/readyz") == (200, "ok\n"), "it is ready")
    for verb, status, ready in (("quiet", 1, 503), ("resume", 0, 200), ("quiet", 1, 503)):
        command = [sys.executable, "-m", "supervisor", "ctl", verb]
        subprocess.run(command, env={**os.environ, **env, "PYTHONPATH": str(ROOT)}, check=True, cwd=tmp_path)
        assert (got(place, "/readyz")[0], checked()[0]) == (ready, status), verb


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
def test_where_there_is_no_master_the_check_says_no(checked):
    status, said = checked()
    assert status == 1
    assert "no master of yours runs on this host" in said
