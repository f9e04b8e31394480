"""The master's pure decisions: what a verdict writes, what a fact does to a runner, how a stop goes on."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from sandbox.policy import Limits
from sandbox.wire import START_META
from supervisor.master.finish import FinishRules, outcome_of, refuse_to_run
from supervisor.master.messages import start_frame
from supervisor.master.phases import TRANSITIONS, Fact, IllegalTransition, Phase, advance
from supervisor.master.stopping import Step, Stopping
from supervisor.master.verdicts import (
    AskedForChildren,
    AskedForDelay,
    AskedForPause,
    CutOff,
    LockGone,
    Raised,
    Returned,
)
from supervisor.protocol.commands.work import (
    AwaitsChildren,
    Completed,
    Failed,
    FetchedJob,
    HandedBack,
    Postponed,
    RateLimited,
    Retried,
)
from supervisor.protocol.fields import STARTED_TOO_OFTEN
from supervisor.protocol.job_options import Backoff, JobOptions, KeepJobs

RULES = FinishRules(None, None, None)
JOB = FetchedJob(
    id="7", token="w:1", name="resize", data=b"{}", opts=b"{}", timestamp=1, priority=0,
    attempts_made=0, attempts_started=1, stalled_count=0, deferred=None, parent=None,
)  # fmt: skip


PLAIN = JobOptions()


def decide(verdict, options=PLAIN, job=JOB, rules=RULES):
    return outcome_of(job, options, verdict, rules, rng=lambda: 0.5)


def test_a_returned_value_is_carried_as_it_came():
    outcome = decide(Returned(b'{"ok":  true}'))
    assert outcome == Completed("7", "w:1", b'{"ok":  true}', KeepJobs())


def test_a_jobs_own_keep_option_goes_before_the_workers():
    rules = replace(RULES, keep_completed=KeepJobs(count=5))
    assert decide(Returned(b"1"), rules=rules).keep == KeepJobs(count=5)
    assert decide(Returned(b"1"), JobOptions(remove_on_complete=True), rules=rules).keep == KeepJobs(count=0)


def test_the_last_attempt_fails_for_good():
    job = replace(JOB, attempts_made=2)
    assert isinstance(decide(Raised("boom"), JobOptions(attempts=3), job), Failed)


def test_an_earlier_attempt_is_tried_again_after_its_backoff():
    options = JobOptions(attempts=3, backoff=Backoff(type="exponential", delay=100))
    job = replace(JOB, attempts_made=1)
    outcome = decide(Raised("boom", "trace"), options, job)
    assert outcome == Retried("7", "w:1", "boom", "trace", 200, False, None)


def test_without_backoff_it_is_tried_again_at_once():
    assert decide(Raised("boom"), JobOptions(attempts=2)).delay_ms == 0


def test_a_processors_own_backoff_is_taken_for_types_we_do_not_know():
    options = JobOptions(attempts=2, backoff=Backoff(type="mine"))
    assert decide(Raised("boom", backoff_ms=40), options).delay_ms == 40
    assert isinstance(decide(Raised("boom", backoff_ms=-1), options), Failed)


def test_what_the_exception_says_of_the_next_attempt_goes_before_any_backoff():
    options = JobOptions(attempts=2, backoff=Backoff(type="fixed", delay=100))
    assert decide(Raised("busy", backoff_ms=40, retry_after_ms=7_000), options).delay_ms == 7_000
    assert decide(Raised("busy", retry_after_ms=0), options).delay_ms == 0
    assert isinstance(decide(Raised("busy", retry_after_ms=5), JobOptions(attempts=1)), Failed)
    assert isinstance(decide(Raised("busy", final=True, retry_after_ms=5), options), Failed)


def test_a_backoff_type_nobody_knows_fails_the_job_with_a_sentence():
    outcome = decide(Raised("boom"), JobOptions(attempts=2, backoff=Backoff(type="mine")))
    assert isinstance(outcome, Failed)
    assert "boom" in outcome.reason and "mine" in outcome.reason


def test_unrecoverable_ends_it_whatever_attempts_say():
    assert isinstance(decide(Raised("no", final=True), JobOptions(attempts=9)), Failed)


def test_a_job_started_too_often_is_not_tried_again():
    rules = replace(RULES, max_started_attempts=1)
    assert isinstance(decide(Raised("boom"), JobOptions(attempts=9), rules=rules), Failed)


def test_asked_for_and_cut_off_attempts_are_not_counted_as_failures():
    assert decide(AskedForDelay(5)) == Postponed("7", "w:1", 5)
    assert decide(AskedForPause(9)) == RateLimited("7", "w:1", 9)
    assert decide(CutOff()) == HandedBack("7", "w:1")


def test_without_trust_nothing_is_written():
    """I3."""
    assert decide(LockGone("gone")) is None


def test_a_deferred_failure_is_not_run():
    refusal = refuse_to_run(replace(JOB, deferred="child failed"), RULES, STARTED_TOO_OFTEN)
    assert refusal == Raised("child failed", final=True)


def test_a_job_started_more_often_than_allowed_is_not_run():
    rules = replace(RULES, max_started_attempts=2)
    assert (
        refuse_to_run(replace(JOB, attempts_started=3), rules, STARTED_TOO_OFTEN).reason == STARTED_TOO_OFTEN
    )
    assert refuse_to_run(replace(JOB, attempts_started=2), rules, STARTED_TOO_OFTEN) is None


# --- phases --------------------------------------------------------------------------------------------


def test_a_runner_can_vanish_in_every_phase_but_the_last():
    for phase in Phase:
        if phase is not Phase.GONE:
            assert advance(phase, Fact.EXITED) is Phase.GONE


def test_a_fact_that_cannot_be_is_an_error_with_a_name():
    with pytest.raises(IllegalTransition, match="idle runner cannot have the fact 'outcome'"):
        advance(Phase.IDLE, Fact.OUTCOME)


def test_every_phase_is_in_the_table():
    assert set(TRANSITIONS) == set(Phase)


# --- stopping ------------------------------------------------------------------------------------------


class Jobs:
    """A worker with jobs that end when somebody says so."""

    def __init__(self, running: int) -> None:
        self.left = running
        self.said: list[str] = []
        self.unsettled = False

    def quiet(self) -> None:
        self.said.append("quiet")

    def running(self) -> int:
        return self.left

    def settled(self) -> bool:
        return not self.left and not self.unsettled

    def unfinished(self) -> int:
        return self.left

    def cancel(self, reason: str) -> None:
        self.said.append("cancel")

    def hand_back(self) -> int:
        self.said.append("hand back")
        cut, self.left = self.left, 0
        return cut


class Clock:
    """A clock that goes on by a tenth of a second whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now


def stopping(worker, clock=None):
    return Stopping([worker], cancel_after_s=2, kill_after_s=3, deadline_s=4, clock=clock or Clock())


async def test_stopping_is_quiet_grace_cancel_kill_in_this_order():
    """I9."""
    worker = Jobs(2)
    await stopping(worker).run()
    assert worker.said == ["quiet", "cancel", "hand back"]


async def test_jobs_that_end_in_the_grace_are_left_alone():
    worker = Jobs(0)
    await stopping(worker).run()
    assert worker.said == ["quiet"]


async def test_a_second_request_skips_the_grace_and_a_third_kills():
    worker = Jobs(1)
    stop = stopping(worker, clock=lambda: 0.0)  # time stands still: only the requests go on
    run = asyncio.ensure_future(stop.run())
    while stop.step is Step.RUNNING:
        await asyncio.sleep(0)
    stop.hurry()
    while stop.step is Step.GRACE:
        await asyncio.sleep(0)
    assert worker.said == ["quiet", "cancel"]
    stop.hurry()
    await run
    assert worker.said == ["quiet", "cancel", "hand back"]


async def test_what_redis_does_not_take_before_the_deadline_is_left():
    """I9, its one exception."""
    worker = Jobs(1)
    worker.unsettled = True
    stop = stopping(worker)
    await stop.run()
    assert stop.over()


async def test_with_no_time_at_all_redis_is_still_given_a_moment():
    """I9. Seen: a stop of 0 s ended before the answer that brought two jobs, which stayed active."""
    worker, clock = Jobs(0), Clock()
    asked = []

    def settled() -> bool:
        asked.append(clock.now)
        return len(asked) == 3

    worker.settled = settled
    await Stopping([worker], cancel_after_s=0, kill_after_s=0, deadline_s=0, clock=clock).run()
    assert len(asked) == 3 and clock.now <= 0.5


async def test_what_is_left_at_the_deadline_is_told_though_who_wrote_it_sees_the_deadline_first(monkeypatch):
    """I9. Seen: the call under way had given its two jobs up, and then 0 were left, or nothing was told."""
    told = []
    record = SimpleNamespace(
        error=lambda event, **fields: told.append((event, fields)), info=lambda *_, **__: 0
    )
    monkeypatch.setattr("supervisor.master.stopping.log", record)
    worker = Jobs(2)
    monkeypatch.setattr(worker, "running", lambda: 0)  # their processes have ended
    clock = Clock()
    stop = stopping(worker, clock)

    def settled() -> bool:  # the call looks at the clock just after the deadline, and we after it
        clock.now = 4.1
        if stop.over():
            worker.left = 0
        return not worker.left

    monkeypatch.setattr(worker, "settled", settled)
    await stop.run()
    assert told == [("stop.deadline_passed", {"left": 2})]


def test_who_waits_for_children_is_put_there_without_counting_an_attempt():
    assert decide(AskedForChildren()) == AwaitsChildren("7", "w:1")


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (None, None),
        (b'{"id":"3","queueKey":"bull:up","fpof":true}', {"id": "3", "queue": "bull:up"}),
        (b'{"id":"\\ud800","queueKey":"bull:up"}', {"id": "\ud800", "queue": "bull:up"}),
        (b"{broken", None),
        (b"[]", None),
    ],
)
def test_a_parent_that_cannot_be_understood_is_not_told_and_the_job_runs(stored, told):
    body = start_frame("q", replace(JOB, parent=stored), PLAIN, Limits())
    (size,) = START_META.unpack_from(body)
    meta = json.loads(body[START_META.size : START_META.size + size])
    assert meta["parent"] == told
