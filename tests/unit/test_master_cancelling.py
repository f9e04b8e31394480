"""Requests to cancel in orders of events that seldom happen: whom they hit, and whom they never hit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from sandbox.wire import Kind
from supervisor.errors import RedisRefused, RedisUnavailable
from supervisor.master import cancelling
from supervisor.master.attempt import Attempt
from supervisor.master.cancelling import Cancelling, verdict_of
from supervisor.master.verdicts import (
    AskedForDelay,
    Cause,
    Crashed,
    CutOff,
    GaveUp,
    LockGone,
    Raised,
    Returned,
)
from supervisor.protocol.commands.cancel import EnforceCancel, GetCancelRequests, new_request
from supervisor.protocol.commands.work import Completed, FetchedJob, HandedBack
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

KEYS = QueueKeys("q")
REQUEST = new_request("wrong size", "ann", 1)
WHY = "cancelled by ann: wrong size"


def attempt_at(job_id: str, runner: Any = None) -> Attempt:
    job = FetchedJob(
        id=job_id, token="t", name="n", data=b"1", opts=b"{}", timestamp=0, priority=0, attempts_made=0,
        attempts_started=1, stalled_count=0, deferred=None, parent=None, scheduler_id=None,
    )  # fmt: skip
    return Attempt(job, 0.0, runner=runner)


class FakeRunner:
    """A runner that hears frames and signals."""

    def __init__(self, pidfd: int = -1) -> None:
        self.pid, self.pidfd = 0, pidfd
        self.pipe = self
        self.attempts: dict[int, Attempt] = {}
        self.sent: list[tuple[Kind, int]] = []

    def send(self, kind: Kind, body: bytes, attempt: int) -> bool:
        self.sent.append((kind, attempt))
        return True

    def at_work(self) -> list[Any]:
        return list(self.attempts.values())


class World:
    """Redis and the dispatcher, as far as cancelling sees them."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.requests = {}
        self.asked: list[Any] = []
        self.ended: list[tuple[str, Any]] = []
        self.codes: dict[str, Any] = {}
        self.away = False
        self.cancelling = Cancelling(
            self, KEYS, self, grace_ms=0, wall_clock=lambda: 1.0, loop=asyncio.get_running_loop()
        )

    def run(self, job_id: str, runner: FakeRunner | None) -> Attempt:
        attempt = attempt_at(job_id, runner)
        self.attempts[job_id] = attempt
        if runner is not None:
            runner.attempts[attempt.number] = attempt
        return attempt

    def pull(self, attempt: Attempt) -> None: ...

    def end(self, attempt: Attempt, verdict: Any) -> None:
        attempt.verdict = verdict
        self.ended.append((attempt.job.id, verdict))

    async def execute(self, command: Any) -> Any:
        self.asked.append(command)
        if self.away:
            raise RedisUnavailable("away", sent=False)
        if isinstance(command, GetCancelRequests):
            wanted = command.job_ids or list(self.requests)
            return {job_id: self.requests[job_id] for job_id in wanted if job_id in self.requests}
        assert isinstance(command, EnforceCancel)
        code = self.codes.get(command.job_id, 2)
        if isinstance(code, Exception):
            raise code
        return code() if callable(code) else code

    def looks(self) -> list[list[str]]:
        return [list(each.job_ids) for each in self.asked if isinstance(each, GetCancelRequests)]

    def enforced(self) -> list[str]:
        return [each.job_id for each in self.asked if isinstance(each, EnforceCancel)]

    async def settled(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cancelling, "KNOCK_EVERY_S", 0.01)
    monkeypatch.setattr(cancelling, "TERM_AFTER_S", 0.03)
    monkeypatch.setattr(cancelling, "KILL_AFTER_S", 0.01)
    world = World()
    yield world
    await world.cancelling.close()


async def until(fact) -> None:
    async with asyncio.timeout(5):
        while not fact():
            await asyncio.sleep(0.001)


# --- what becomes of an attempt -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "verdict",
    [
        Raised("boom", "stack", final=False, retry_after_ms=5),
        Crashed(Cause.SIGNAL, "SIGTERM"),
        Crashed(Cause.WALL_TIME, "late"),
        GaveUp("told to"),
        AskedForDelay(5),
        CutOff(),
    ],
)
@pytest.mark.parametrize("stopping", [False, True])
def test_whatever_a_cancelled_attempt_comes_to_it_is_cancelled(verdict, stopping):
    found = verdict_of(verdict, REQUEST, stopping=stopping)
    assert isinstance(found, Crashed)
    assert (found.cause, found.reason, found.final) == (Cause.CANCELLED, WHY, True)
    assert found.stack == getattr(verdict, "stack", None)


def test_who_returns_is_completed_and_who_lost_its_lock_writes_nothing():
    for verdict in (Returned(b"1"), LockGone("gone")):
        assert verdict_of(verdict, REQUEST, stopping=False) is verdict


def test_cancelled_that_nobody_asked_for_is_the_processors_word_but_in_a_stop():
    """I9: told by a master that stops, a job that gives up goes back unharmed."""
    assert isinstance(verdict_of(GaveUp("enough"), None, stopping=True), CutOff)
    found = verdict_of(GaveUp("enough", "stack"), None, stopping=False)
    assert found == Crashed(Cause.CANCELLED, "enough", "stack", final=True)
    raised = Raised("boom")
    assert verdict_of(raised, None, stopping=True) is raised


# --- finding requests ---------------------------------------------------------------------------------


async def test_messages_of_one_turn_are_one_look_and_nonsense_is_none(world: World):
    for payload in (b"1", b"2", b"1", b"", b"x" * 2_000, b"\xff"):
        world.cancelling.heard(payload)
    await world.settled()
    assert world.looks() == [["1", "2", "\ufffd"]]


async def test_many_ids_are_several_looks(world: World):
    world.cancelling.look(map(str, range(2_500)))
    await world.settled()
    assert [len(ids) for ids in world.looks()] == [1_000, 1_000, 500]


async def test_a_message_without_a_request_hits_nobody(world: World):
    runner = FakeRunner()
    world.run("1", runner)
    world.cancelling.heard(b"1")
    await world.settled()
    assert runner.sent == []


async def test_a_job_that_does_not_run_here_is_enforced_each_for_itself(world: World):
    world.requests = {"1": REQUEST, "2": REQUEST, "3": REQUEST}
    world.codes = {"1": RedisRefused("WRONGTYPE"), "3": -1}
    world.cancelling.look_at_all()
    await world.settled()
    assert world.enforced() == ["1", "2", "3"]


async def test_redis_that_is_away_costs_a_look_and_no_more(world: World):
    world.away = True
    world.cancelling.heard(b"1")
    await world.settled()
    world.away = False
    world.requests = {"1": REQUEST}
    world.cancelling.look_at_all()
    await world.settled()
    assert world.enforced() == ["1"]


async def test_a_job_that_is_fetched_while_its_request_is_enforced_is_ended_here(world: World):
    runner = FakeRunner()
    world.requests = {"1": REQUEST}

    def fetched_meanwhile() -> int:
        world.run("1", runner)
        return 1

    world.codes = {"1": fetched_meanwhile}
    world.cancelling.heard(b"1")
    await world.settled()
    assert runner.sent[0][0] is Kind.CANCEL


async def test_a_cancelled_job_of_another_worker_is_looked_at_when_it_comes_to_us(world: World):
    world.requests = {"1": REQUEST}
    world.codes = {"1": 1}
    world.cancelling.heard(b"1")
    await world.settled()
    runner = FakeRunner()
    world.run("1", runner)
    world.cancelling.fetched("2")
    world.cancelling.fetched("1")
    world.cancelling.fetched("1")
    await world.settled()

    assert world.looks() == [["1"], ["1"]]
    assert runner.sent[0][0] is Kind.CANCEL


# --- ending what runs ---------------------------------------------------------------------------------


async def test_a_job_without_a_runner_is_ended_at_once(world: World):
    world.run("1", None)
    world.requests = {"1": REQUEST}
    world.cancelling.heard(b"1")
    await world.settled()
    assert world.ended == [("1", Crashed(Cause.CANCELLED, WHY, final=True))]


async def test_two_requests_begin_once(world: World):
    runner = FakeRunner()
    attempt = world.run("1", runner)
    world.requests = {"1": REQUEST}
    world.cancelling.heard(b"1")
    await world.settled()
    world.requests = {"1": new_request("another", "bob", 2)}
    world.cancelling.heard(b"1")
    world.cancelling.look_at_all()
    await world.settled()
    assert attempt.cancel is REQUEST


async def test_no_step_is_taken_for_an_attempt_that_is_decided_though_its_runner_has_another(world: World):
    runner = FakeRunner()
    attempt = world.run("1", runner)
    world.requests = {"1": REQUEST}
    world.cancelling.heard(b"1")
    await world.settled()
    attempt.verdict = Returned(b"1")
    del runner.attempts[attempt.number]
    world.run("2", runner)
    sent = list(runner.sent)

    world.run("3", FakeRunner())
    world.requests = {"3": REQUEST}
    world.cancelling.heard(b"3")
    await until(lambda: world.ended)  # so all steps of the first would have been taken by now
    assert [job_id for job_id, _ in world.ended] == ["3"]
    assert runner.sent == sent


async def test_a_job_that_moves_to_another_runner_is_told_there_again(world: World):
    """It was sent to one that had died unseen."""
    first, second = FakeRunner(), FakeRunner()
    attempt = world.run("1", first)
    world.requests = {"1": REQUEST}
    world.cancelling.heard(b"1")
    await world.settled()
    attempt.runner = second

    await until(lambda: second.sent)
    assert second.sent[0] == (Kind.CANCEL, attempt.number)
    await until(lambda: world.ended)


async def test_the_children_of_a_runner_with_other_jobs_are_left_alone(world: World, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(cancelling, "signal_below", lambda pid, number: told.append(pid))
    shared, alone = FakeRunner(), FakeRunner()
    shared.pid, alone.pid = 1, 2
    for job_id, runner in (("1", shared), ("2", shared), ("3", alone)):
        world.run(job_id, runner)
    world.requests = {"1": REQUEST, "3": REQUEST}
    world.cancelling.look_at_all()

    await until(lambda: len(world.ended) == 2)
    assert told == [2]


async def test_a_job_that_goes_on_after_it_was_asked_to_end_is_looked_at_again(world: World):
    attempt = world.run("1", None)
    attempt.cancel = REQUEST
    world.cancelling.written(attempt, Completed("1", "t", b"1", KEEP_ALL))
    world.cancelling.written(replace(attempt, cancel=None), HandedBack("1", "t"))
    await world.settled()
    assert world.looks() == []
    world.cancelling.written(attempt, HandedBack("1", "t"))
    await world.settled()
    assert world.looks() == [["1"]]
