"""A failure of ours is never silent: it ends the master with that error."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.config.model import Config
from supervisor.errors import RedisUnavailable
from supervisor.master.main import Master
from supervisor.master.plan import Plan
from supervisor.master.signals import Request
from supervisor.transport.address import Address


@pytest.fixture
async def master():
    made = Master(Plan(address=Address.parse("redis://127.0.0.1:1"), config=Config(), targets=()))
    asyncio.get_running_loop().set_exception_handler(made._unexpected)
    return made


async def test_an_exception_in_a_callback_stops_the_master_and_is_its_end(master, caplog):
    """Else a job would hang on it for ever, its lock renewed."""
    asyncio.get_running_loop().call_soon([].pop)
    async with asyncio.timeout(5):
        assert await master._inbox.get() is Request.BROKEN
    assert "IndexError" in caplog.text
    with pytest.raises(IndexError):
        master._outcome()


async def test_the_first_failure_is_the_one_that_is_told(master, caplog):
    loop = asyncio.get_running_loop()
    loop.call_soon([].pop)
    loop.call_soon({}.popitem)
    async with asyncio.timeout(5):
        await master._inbox.get()
    await asyncio.sleep(0)
    with pytest.raises(IndexError):
        master._outcome()


async def test_a_redis_that_is_away_is_no_bug(master, caplog):
    lost = asyncio.get_running_loop().create_future()
    lost.set_exception(RedisUnavailable("nobody answers", sent=False))
    del lost
    await asyncio.sleep(0)
    assert master._inbox.empty() and master._outcome() == 0


async def test_a_stop_during_the_start_cancels_it_and_lets_nothing_open(master):
    closed = []

    async def starting():
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    master._inbox.put_nowait(Request.QUIET)
    master._inbox.put_nowait(Request.STOP)
    task = asyncio.ensure_future(starting())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await master._unless_stopped(task) is None
    assert closed


async def test_a_start_that_is_done_when_the_stop_comes_is_stopped_as_a_whole(master):
    """Its connection is open already, and is closed on the way of every stop."""
    master._inbox.put_nowait(Request.STOP)

    async def starting():
        return "ready"

    task = asyncio.ensure_future(starting())
    await asyncio.sleep(0)
    assert await master._unless_stopped(task) == "ready"
    assert master._inbox.get_nowait() is Request.STOP
