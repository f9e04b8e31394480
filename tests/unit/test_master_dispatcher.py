"""Jobs and runners in orders of events that seldom happen, with runners and leases that the test moves."""

from __future__ import annotations

import asyncio
import json

import pytest

from sandbox.wire import Kind
from supervisor.master import placing
from supervisor.master.dispatcher import Dispatcher
from supervisor.master.finish import FinishRules
from supervisor.master.notify import Nobody
from supervisor.master.phases import Fact, Phase
from supervisor.master.relay import AHEAD_BYTES, ASKS_AT_ONCE, CALL_BYTES, Relay
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.settings import QueueSettings
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob, HandedBack
from supervisor.protocol.keys import QueueKeys

KEYS = QueueKeys("q")
SETTINGS = QueueSettings(
    name="q", concurrency=2, lock_ms=30_000, stalled_interval_ms=30_000, stalled_skip=True, max_stalled=1,
    drain_delay_ms=5_000, worker_name="", metrics=0, limiter=None, finish_rules=FinishRules(None, None, None),
    output_to_job_log=True, limits={},
)  # fmt: skip


class FakePipe:
    def __init__(self, *, there: bool) -> None:
        self.there, self.sent, self.paused = there, [], False
        self.permits, self.put_ahead = None, []
        self.full = self.telling = False
        self.look = lambda: None

    def send(self, kind, body=b"", attempt=0):
        self.sent.append(kind)
        return self.there

    def put(self, body, attempt):
        self.put_ahead.append(attempt)

    def flush(self):
        if self.permits is not None:
            self.permits.left += len(self.put_ahead) - self.permits.granted
            self.permits.granted = len(self.put_ahead)

    def pause(self):
        self.paused = True

    def resume(self):
        self.paused = False


class World:
    """Everything around a dispatcher."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.trust = True
        self.outcomes, self.killed, self.submitted = [], [], []
        self.dispatcher = Dispatcher(
            SETTINGS, runners=self, exchanger=self, leases=self, listener=Nobody(),
            relay=Relay(self, KEYS, asks=self, listener=Nobody(), clock=loop.time, loop=loop),
            clock=loop.time, rng=lambda: 0.5, loop=loop,
        )  # fmt: skip
        self.fetcher = self

    # runners, exchanger and fetcher, leases, redis, asks
    def kill(self, runner):
        self.killed.append(runner)
        runner.advance(Fact.TOLD)
        self.dispatcher.on_leaving(runner)

    end = kill

    def bad_frame(self, runner, error):
        self.dispatcher.on_bad_frame(runner, error)
        self.kill(runner)

    def finish(self, attempt, outcome):
        self.outcomes.append(outcome)

    def began(self, runner): ...

    def serves_on(self, runner):
        return True

    def finished(self, runner):
        return runner.phase is not Phase.LEAVING

    def kick(self): ...
    def gather(self): ...
    def freed(self): ...
    def hold(self, job_id, token="", sent_at=0.0): ...
    def release(self, job_id, token): ...

    def trusted(self, job_id, token):
        return self.trust

    def submit(self, command):
        self.submitted.append(asyncio.get_running_loop().create_future())
        return self.submitted[-1]

    def says(self, runner, kind, body, note=0):
        """About the job that it has at work."""
        number = next(iter(runner.attempts), runner.last_number)
        self.dispatcher.on_frame(runner, kind, body, number, note)

    async def answer(self, job, ask):
        await asyncio.Event().wait()

    def runner(self, *, there=True):
        made = Runner(Slot(1, self.dispatcher, nursery=None), 1, -1)
        made.pipe = FakePipe(there=there)
        made.outputs = [FakePipe(there=there)]
        for output in made.outputs:
            output.drain = output.end_line = lambda: None
        made.advance(Fact.READY)
        self.dispatcher.on_ready(made)
        return made

    def take(self, job_id="1"):
        self.dispatcher.take(
            FetchedJob(job_id, "t", "n", b"{}", b"{}", 1, 0, 0, 1, 0, None, None), fetched_at=0.0
        )
        return self.dispatcher.attempts[job_id]

    def dies(self, runner):
        self.dispatcher.on_leaving(runner)
        runner.advance(Fact.EXITED)
        self.dispatcher.on_exit(runner, Exit(None, 9))


@pytest.fixture
async def world():
    made = World()
    yield made
    for attempt in made.dispatcher.attempts.values():
        for task in attempt.asks:
            task.cancel()


async def test_a_job_whose_lock_is_not_trusted_when_it_comes_does_not_begin(world):
    """I3: the answer was late, or we were stopped; another may be at work on it."""
    runner = world.runner()
    world.trust = False
    with pytest.raises(KeyError):
        world.take()
    assert runner.phase is Phase.IDLE and not world.outcomes, "left to the stalled check"


async def test_no_job_is_given_to_a_runner_that_is_being_killed(world):
    """Its exit has not come yet when the reply with the job does."""
    runner = world.runner()
    world.kill(runner)
    assert world.dispatcher.free() == 0
    assert world.take().runner is None
    other = world.runner()
    assert other.attempts


async def test_a_job_that_could_not_reach_its_dead_runner_goes_to_another(world):
    """It never ran, so it does not fail."""
    corpse = world.runner(there=False)
    attempt = world.take()
    assert attempt.runner is corpse
    other = world.runner()
    world.dies(corpse)
    assert attempt.runner is other and not world.outcomes
    world.says(other, Kind.COMPLETED, b"null")
    assert isinstance(world.outcomes[0], Completed)


async def test_a_job_that_could_not_be_delivered_is_handed_back_when_we_stop(world):
    """I9."""
    corpse = world.runner(there=False)
    world.take()
    world.dispatcher.quiet()
    world.dies(corpse)
    assert isinstance(world.outcomes[0], HandedBack)


async def test_a_job_for_which_no_runner_is_born_is_handed_back_unharmed(world, monkeypatch):
    """I9: the template cannot be had, say. Others may have a runner, and it holds a lock."""
    monkeypatch.setattr(placing, "NO_RUNNER_AFTER_S", 0.02)
    corpse = world.runner(there=False)
    attempt = world.take()
    world.dies(corpse)
    async with asyncio.timeout(2):
        while not world.outcomes:
            await asyncio.sleep(0.005)
    (outcome,) = world.outcomes
    assert isinstance(outcome, HandedBack)
    assert b"no_runner" in outcome.told.record and not outcome.told.is_crash
    assert attempt not in world.dispatcher._placing._unplaced
    assert not world.runner().attempts


async def test_a_job_that_has_found_another_runner_is_not_handed_back_for_want_of_one(world):
    corpse = world.runner(there=False)
    attempt = world.take()
    world.dies(corpse)
    waiting = attempt.deadline
    other = world.runner()
    assert other.attempts and waiting.cancelled()


async def test_a_crash_is_written_with_what_was_printed_last_and_the_next_job_has_none_of_it(world):
    """I10."""
    runner = world.runner()
    world.take()
    world.dispatcher.on_line(runner, "stdout", "its last words")
    world.says(runner, Kind.PROGRESS, b"41")
    world.says(runner, Kind.COMPLETED, b"null")
    world.take("2")
    world.dispatcher.on_line(runner, "stderr", "oh no")
    world.dies(runner)
    record = json.loads(world.outcomes[1].told.record)
    assert (record["cause"], record["output"]) == ("signal", "oh no")
    assert "progress" not in record


async def test_a_job_that_reached_its_runner_fails_with_it(world):
    """I10."""
    runner = world.runner()
    world.take()
    world.dies(runner)
    [outcome] = world.outcomes
    assert isinstance(outcome, Failed) and "SIGKILL" in outcome.reason


async def test_an_outcome_that_comes_after_the_end_of_trust_is_not_written(world):
    """I3: a master that was stopped for longer than its locks reads its runners' frames before its timers."""
    runner = world.runner()
    world.take()
    world.trust = False
    world.says(runner, Kind.COMPLETED, b"null")
    assert world.outcomes == [] and not world.dispatcher.attempts
    assert runner.phase is Phase.IDLE and world.dispatcher.free() == 1


async def test_who_says_more_than_redis_takes_waits_with_all_its_pipes(world):
    runner = world.runner()
    attempt = world.take()
    while not runner.pipe.paused:
        world.dispatcher.on_line(runner, "stdout", "a line")
        assert attempt.ahead_bytes < AHEAD_BYTES + 2 * CALL_BYTES
    assert runner.outputs[0].paused
    for sent in world.submitted:
        sent.set_result(None)
    await asyncio.sleep(0)
    assert not runner.pipe.paused and not runner.outputs[0].paused
    assert attempt.ahead_bytes == 0


async def test_large_values_count_by_their_size(world):
    runner = world.runner()
    world.take()
    world.says(runner, Kind.DATA, b"x" * AHEAD_BYTES)
    assert runner.pipe.paused


async def test_the_next_job_of_a_runner_does_not_wait_for_the_rows_of_the_last(world):
    runner = world.runner()
    world.take("1")
    world.says(runner, Kind.DATA, b"x" * AHEAD_BYTES)
    world.says(runner, Kind.COMPLETED, b"null")
    assert not runner.pipe.paused
    world.take("2")
    world.says(runner, Kind.DATA, b"x" * AHEAD_BYTES)
    world.submitted[0].set_result(None)
    await asyncio.sleep(0)
    assert runner.pipe.paused, "what the first job sent does not let the second go on"


async def test_a_runner_that_asks_without_end_is_killed(world):
    """I7."""
    runner = world.runner()
    attempt = world.take()
    for seq in range(ASKS_AT_ONCE + 1):
        assert not world.killed
        world.says(runner, Kind.ASK, b'{"seq":%d,"what":"children_values"}' % seq)
    assert world.killed == [runner] and "questions" in attempt.verdict.reason
