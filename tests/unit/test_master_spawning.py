"""The first template's process is started before the master is loaded, and is somebody's at every moment."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from sandbox.policy import Policy
from supervisor.errors import SandboxError
from supervisor.master.nursery import Nursery
from supervisor.master.plan import Target
from supervisor.master.runners import Runners
from supervisor.master.spawning import environment, spawn, started


def test_a_process_that_nobody_took_ends_with_its_block():
    with started([]) as process:
        assert process.popen.poll() is None
    assert process.popen.returncode == -signal.SIGKILL


def test_a_process_that_was_taken_is_left_to_who_took_it():
    with started([]) as process:
        ends = process.taken()
    assert process.popen.poll() is None
    ends.close()
    assert process.popen.wait(10) == 0


def test_its_environment_holds_nothing_of_redis(monkeypatch: pytest.MonkeyPatch):
    """I1."""
    monkeypatch.setenv("OXHERD_REDIS_URL", "redis://:hush@example.org")
    monkeypatch.setenv("APP_CACHE", "redis://:hush@example.org/3")
    with started(["hush"]) as process:
        told = Path(f"/proc/{process.popen.pid}/environ").read_bytes()
    assert b"hush" not in told and b"OXHERD_" not in told.replace(b"STARTED_BY_OXHERD", b"")


async def test_it_becomes_the_template_of_the_first_nursery_alone():
    process = spawn(environment([]))
    runners = Runners(asyncio.get_running_loop(), env={}, rng=lambda: 0.5, process=process)
    first = runners.nursery([Target(name="json:dumps", queue="q")], Policy(), "first")
    second = runners.nursery([], Policy(), "second")
    try:
        assert first.spawn().pid == process.popen.pid
        assert [each.queue for each in await first.load()] == ["q"]
        assert second.spawn().pid != process.popen.pid
        os.kill(process.popen.pid, signal.SIGKILL)
        _until_dead(process.popen.pid)
        runners.on_sigchld()
        await asyncio.wait_for(_revived(first, process.popen.pid), 20)
    finally:
        await runners.close()


def _until_dead(pid: int) -> None:
    """It is a zombie then: nobody has reaped it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


async def _revived(nursery: Nursery, dead: int) -> None:
    """Its next template is another process."""
    while nursery.pid == dead or nursery.reviving is not None:
        await asyncio.sleep(0.005)


async def test_one_that_died_before_there_was_a_master_is_told_as_any_template_that_ended():
    process = spawn(environment([]))
    os.kill(process.popen.pid, signal.SIGKILL)
    _until_dead(process.popen.pid)
    runners = Runners(asyncio.get_running_loop(), env={}, rng=lambda: 0.5, process=process)
    only = runners.nursery([Target(name="json:dumps", queue="q")], Policy(), "only")
    try:
        only.spawn()
        runners.on_sigchld()
        with pytest.raises(SandboxError, match=r"ended with signal SIGKILL|does not listen"):
            await asyncio.wait_for(only.load(), 10)
    finally:
        await runners.close()
