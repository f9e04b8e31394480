"""The inbox of hooks, with a runner that the test plays: what is dropped, what a stranger may say (I7)."""

from __future__ import annotations

import asyncio
import json

import pytest

from sandbox.hooks import call_of
from sandbox.policy import Policy
from sandbox.wire import START_META, Kind
from supervisor.config.model import HooksConfig
from supervisor.errors import RedisUnavailable
from supervisor.master import hooks as module
from supervisor.master.attempt import Attempt
from supervisor.master.hooks import Hooks, hook_targets
from supervisor.master.phases import Phase, advance
from supervisor.master.runner import Exit
from supervisor.observe.log import hooked
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob, Retried
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.job_record import JobRecord
from supervisor.protocol.keys import QueueKeys


class FakePipe:
    def __init__(self) -> None:
        self.sent, self.gone = [], False

    def send(self, kind, body, number):
        assert kind is Kind.START and number
        self.number = number
        if not self.gone:
            self.sent.append(body)
        return not self.gone


class FakeRunner:
    pid = 7
    unclean = False
    served = 0

    def __init__(self) -> None:
        self.phase, self.pipe = Phase.IDLE, FakePipe()

    def advance(self, fact):
        self.phase = advance(self.phase, fact)
        return self.phase

    def drain_output(self):
        pass


class FakeRunners:
    def __init__(self) -> None:
        self.killed = []

    def nursery(self, targets, policy, title, *, hooks):
        assert hooks

    def kill(self, runner):
        self.killed.append(runner)

    def bad_frame(self, runner, error):
        self.owner.on_bad_frame(runner, error)
        self.kill(runner)


class World:
    def __init__(self) -> None:
        self.runners, self.runner, self.said = FakeRunners(), FakeRunner(), []
        config = HooksConfig(completed="a:b", failed="a:c", stalled="a:d")
        loop = asyncio.get_running_loop()
        self.hooks = Hooks(
            self.runners, hook_targets(config), Policy(), timeout_s=30, wall_clock=lambda: 5.0, loop=loop
        )
        self.runners.owner = self.hooks

    def ends(self, *, result=b"1", data=b"{}", reason=None, job_id="1"):
        job = FetchedJob(job_id, "token", "name", data, b"{}", 0, 0, 0, 1, 0, None, None)
        outcome = (
            Completed(job_id, "token", result, KEEP_ALL)
            if reason is None
            else Failed(job_id, "token", reason, "stack", KEEP_ALL, 1)
        )
        self.hooks.written("work", Attempt(job, 0.0), outcome)

    def says(self, runner, kind, body):
        """About the call that was made last."""
        self.hooks.on_frame(runner, kind, body, getattr(runner.pipe, "number", 0), 0)

    def events(self, name):
        return [fields for event, fields in self.said if event == name]


@pytest.fixture
async def world():
    made = World()
    with hooked(lambda event, fields: made.said.append((event, fields))):
        yield made
    await made.hooks.drain(lambda: False)


def read(body):
    """What the runner makes of a START frame."""
    (length,) = START_META.unpack_from(body)
    end = START_META.size + length
    return call_of(json.loads(body[START_META.size : end]), body[end:])


async def test_calls_are_made_one_after_the_other_in_their_order(world):
    world.ends(job_id="1")
    world.ends(job_id="2", reason="no")
    world.hooks.on_ready(world.runner)
    assert [read(body).id for body in world.runner.pipe.sent] == ["1"]
    world.says(world.runner, Kind.COMPLETED, b"null")
    first, second = map(read, world.runner.pipe.sent)
    assert (first.hook, first.result, first.happened_on) == ("completed", 1, 5_000)
    assert (second.hook, second.result, second.reason, second.stack) == ("failed", None, "no", "stack")


async def test_an_attempt_that_is_tried_again_is_no_news(world):
    job = FetchedJob("1", "token", "name", b"{}", b"{}", 0, 0, 0, 1, 0, None, None)
    world.hooks.on_ready(world.runner)
    world.hooks.written("work", Attempt(job, 0.0), Retried("1", "token", "no", None, 0, False, None))
    assert world.runner.pipe.sent == []


async def test_a_result_that_is_no_json_cannot_change_what_else_is_told(world):
    """I7: result and data are bytes of strangers, which the master has not read."""
    world.hooks.on_ready(world.runner)
    world.ends(result=b'1,"queue":"other"', data=b"\xff not json")
    call = read(world.runner.pipe.sent[0])
    assert (call.queue, call.result, call.data) == ("work", None, None)


async def test_the_inbox_holds_so_many_bytes_and_no_more(world):
    world.ends(result=b'"' + b"x" * (module.MOST_BYTES - 1_000) + b'"')
    assert not world.events("hook.dropped")
    world.ends(result=b'"' + b"x" * 1_000 + b'"')
    assert world.events("hook.dropped")[0]["calls"] == 1
    world.hooks.on_ready(world.runner)
    world.ends(result=b'"' + b"x" * 1_000 + b'"', job_id="3")
    world.says(world.runner, Kind.COMPLETED, b"null")
    assert [read(body).id for body in world.runner.pipe.sent] == ["1", "3"], "there is room again"


async def test_what_is_dropped_is_counted_and_said_now_and_then(world, monkeypatch):
    monkeypatch.setattr(module, "MOST_CALLS", 1)
    monkeypatch.setattr(module, "TELL_EVERY_S", 0.001)
    for _ in range(5):
        world.ends()
    assert [line["calls"] for line in world.events("hook.dropped")] == [1], "the first is said at once"
    async with asyncio.timeout(5):
        while len(world.events("hook.dropped")) < 2:
            await asyncio.sleep(0)
    assert [line["calls"] for line in world.events("hook.dropped")] == [1, 3]


async def test_a_runner_that_died_idle_has_not_had_the_call(world):
    world.hooks.on_ready(world.runner)
    world.runner.pipe.gone = True
    world.ends()
    successor = FakeRunner()
    world.hooks.on_exit(world.runner, Exit(None, 9))
    world.hooks.on_ready(successor)
    assert len(successor.pipe.sent) == 1 and not world.events("hook.failed")


async def test_a_runner_that_died_at_a_call_has_had_it(world):
    world.hooks.on_ready(world.runner)
    world.ends()
    world.hooks.on_exit(world.runner, Exit(None, 9))
    successor = FakeRunner()
    world.hooks.on_ready(successor)
    assert successor.pipe.sent == [], "at most once"
    assert "SIGKILL" in world.events("hook.failed")[0]["reason"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.FAILED, b"no json"),
        (Kind.FAILED, b"[]"),
        (Kind.PROGRESS, b"1"),
        (Kind.ASK, b"{}"),
        (Kind.DATA, b"1"),
    ],
)
async def test_a_frame_that_no_hook_sends_ends_the_runner(world, kind, body):
    """I7"""
    world.hooks.on_ready(world.runner)
    world.ends()
    world.says(world.runner, kind, body)
    world.says(world.runner, Kind.COMPLETED, b"null")
    assert world.runners.killed == [world.runner]
    assert not world.events("hook.called"), "nothing it says from then on is heard"
    world.hooks.on_exit(world.runner, Exit(None, 9))
    assert "bad frame" in world.events("hook.failed")[0]["reason"]


async def test_a_hook_that_asks_for_what_processors_may_has_failed(world):
    world.hooks.on_ready(world.runner)
    world.ends()
    world.says(world.runner, Kind.FAILED, b'{"kind":"delayed","reason":"later","delay_ms":5}')
    assert "only a processor" in world.events("hook.failed")[0]["reason"]
    assert world.runner.phase is Phase.IDLE


async def test_stalled_jobs_are_told_though_nothing_can_be_read_of_them(world):
    class Away:
        async def execute(self, command):
            raise RedisUnavailable("nobody answers", sent=False)

    class Half:
        async def execute(self, command):
            return [JobRecord(id="1", name="paint", data=b"[1]", opts=b"broken", attempts_made=2), None]

    world.hooks.on_ready(world.runner)
    world.hooks.stalled(Half(), QueueKeys("work"), ["1", "2"])
    world.hooks.stalled(Away(), QueueKeys("work"), ["3"])
    async with asyncio.timeout(5):
        while len(world.runner.pipe.sent) < 3:
            if world.runner.phase is Phase.BUSY:
                world.says(world.runner, Kind.COMPLETED, b"null")
            await asyncio.sleep(0)
    first, second, third = map(read, world.runner.pipe.sent)
    assert (first.id, first.name, first.data, first.attempt, first.attempts) == ("1", "paint", [1], 3, 1)
    assert (second.id, second.name) == ("2", "") and third.id == "3"


async def test_a_job_is_told_as_stalled_before_it_is_told_as_failed_for_it(world):
    """The marker may wake the fetcher, and the job be refused, while what is told of it is being read."""
    read_now = asyncio.Event()

    class Slow:
        async def execute(self, command):
            await read_now.wait()
            return [JobRecord(id="1")]

    world.hooks.on_ready(world.runner)
    world.hooks.stalled(Slow(), QueueKeys("work"), ["1"])
    world.ends(reason="job stalled more than allowable limit")
    assert not world.runner.pipe.sent
    read_now.set()
    async with asyncio.timeout(5):
        while len(world.runner.pipe.sent) < 2:
            if world.runner.phase is Phase.BUSY:
                world.says(world.runner, Kind.COMPLETED, b"null")
            await asyncio.sleep(0)
    assert [read(body).hook for body in world.runner.pipe.sent] == ["stalled", "failed"]
