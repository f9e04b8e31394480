"""A dispatcher whose jobs have limits: what counts when several facts come at once."""

from __future__ import annotations

import asyncio

import pytest
import test_master_dispatcher
from msgspec.structs import replace
from test_master_dispatcher import SETTINGS, World

from sandbox.policy import Limits
from sandbox.wire import HALTED, Kind
from supervisor.master.meter import Usage
from supervisor.master.verdicts import Cause, Crashed
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob, HandedBack

MB = 1024 * 1024
LIMITS = Limits(memory_bytes=60 * MB, output_bytes=1000, processes=8)


class Meter:
    def __init__(self) -> None:
        self.usage = Usage(0, 0, 1, 1)

    def read(self):
        return self.usage

    def cpu_ms(self):
        return self.usage.cpu_ms


class Limited(World):
    def runner(self, **how):
        made = super().runner(**how)
        made.meter = Meter()
        for output in made.outputs:
            output.total_bytes = 0
        return made

    def take(self, job_id="1", *, bigger=False):
        parts = (job_id, "t", "n", b"{}", b"{}", 1, 0, 0, 1, 0, None, None)
        self.dispatcher.take(FetchedJob(*parts, bigger=bigger), fetched_at=0.0)
        return self.dispatcher.attempts[job_id]


@pytest.fixture
async def world(monkeypatch):
    settings = replace(SETTINGS, limits={None: LIMITS}, bigger_on_memory=frozenset({None}))
    monkeypatch.setattr(test_master_dispatcher, "SETTINGS", settings)
    made = Limited()
    yield made
    for attempt in list(made.dispatcher.attempts.values()):
        made.dispatcher._watch.forget(attempt)
        if attempt.deadline is not None:
            attempt.deadline.cancel()


async def test_what_was_printed_is_read_before_the_outcome_is_believed(world):
    """I4: the first fact is that it printed too much, though its result is heard first."""
    runner = world.runner()
    attempt = world.take()

    def drain():
        runner.outputs[0].total_bytes = 2000
        world.dispatcher.on_line(runner, "stdout", "x" * 2000)

    runner.outputs[0].drain = drain
    world.says(runner, Kind.COMPLETED, b"null", HALTED)
    assert not world.outcomes and world.killed == [runner]
    assert attempt.verdict.cause is Cause.OUTPUT
    world.dies(runner)
    [outcome] = world.outcomes
    assert isinstance(outcome, Failed) and outcome.reason.startswith("output limit of 1000 bytes exceeded")


async def test_a_fork_that_the_kernel_refused_is_the_limit_and_no_failure_of_the_jobs_own(world):
    """The processor sees a BlockingIOError, and lets it out before anybody looks."""
    runner = world.runner()
    attempt = world.take()
    runner.meter.usage = Usage(0, 0, 9, 2)
    world.says(
        runner, Kind.FAILED, b'{"kind":"raised","reason":"[Errno 11] Resource temporarily unavailable"}'
    )
    assert attempt.verdict.cause is Cause.PROCESSES and world.killed == [runner]


async def test_a_refused_allocation_is_told_with_limit_and_peak(world):
    runner = world.runner()
    world.take(bigger=True)
    await asyncio.sleep(0)
    runner.meter.usage = Usage(41 * MB, 0, 1, 1)
    world.says(runner, Kind.FAILED, b'{"kind":"out_of_memory","reason":"out of memory","retire":true}')
    [outcome] = world.outcomes
    assert outcome.reason == "memory limit of 120 MB exceeded: an allocation was refused at 41 MB"
    assert outcome.told.is_crash


async def test_who_met_its_memory_limit_is_handed_back_for_one_more_run(world):
    runner = world.runner()
    attempt = world.take()
    world.dispatcher.end(attempt, Crashed(Cause.MEMORY_LIMIT, "memory limit of 60 MB exceeded"))
    world.dies(runner)
    [outcome] = world.outcomes
    assert isinstance(outcome, HandedBack) and outcome.told.is_bigger and not outcome.told.is_crash


async def test_who_is_to_run_alone_waits_for_the_others_and_gets_twice_as_much(world):
    first, second = world.runner(), world.runner()
    world.take("1")
    big = world.take("2", bigger=True)
    assert world.dispatcher.free() == 0, "nothing is fetched meanwhile"
    await asyncio.sleep(0)
    assert big.runner is None
    busy = first if first.attempts else second
    world.says(busy, Kind.COMPLETED, b"null")
    await asyncio.sleep(0)
    assert big.runner is not None and big.limits.memory_bytes == 120 * MB
    assert world.dispatcher.free() == 0
    world.says(big.runner, Kind.COMPLETED, b"null")
    assert [type(each) for each in world.outcomes] == [Completed, Completed]
    assert world.dispatcher.free() == 2


async def test_who_was_asked_for_before_and_arrives_while_one_runs_alone_goes_back(world):
    """I2: the call was on its way. No attempt is burnt."""
    world.runner(), world.runner()
    big = world.take("1", bigger=True)
    await asyncio.sleep(0)
    assert big.runner is not None
    late = world.take("2")
    assert late.runner is None
    [outcome] = world.outcomes
    assert isinstance(outcome, HandedBack) and outcome.job_id == "2"


async def test_a_stop_does_not_wait_for_who_waits(world):
    """I9."""
    world.runner(), world.runner()
    world.take("1")
    big = world.take("2", bigger=True)
    world.dispatcher.cut_off(big)
    [outcome] = world.outcomes
    assert isinstance(outcome, HandedBack) and outcome.job_id == "2"
    assert world.dispatcher.free() == 1


async def test_nobody_waits_to_run_alone_once_we_stop(world):
    world.runner()
    world.dispatcher.quiet()
    world.take(bigger=True)
    [outcome] = world.outcomes
    assert isinstance(outcome, HandedBack)
