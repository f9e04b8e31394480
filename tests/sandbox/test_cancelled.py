"""Cancelling, the runner's half: the flag, and the exception that a signal raises for one job.

What the master does when, and what it does to a runner that does not listen, is tested in tests/master.
"""

from __future__ import annotations

import json
import signal
import time

import pytest

from sandbox import wire
from sandbox.wire import Kind

WHY = "cancelled by ann: wrong size"


@pytest.fixture
def runner(master):
    assert master.load("stubborn")["what"] == "ready"
    return master.runner()


def begin(runner, name, data=None):
    runner.start(name, data)
    assert runner.take() == (Kind.LOG, b"started")


def knock(runner):
    signal.pidfd_send_signal(runner.pidfd, signal.SIGUSR2)


def press(runner):
    runner.send(Kind.CANCEL, {"reason": WHY})
    knock(runner)


@pytest.mark.parametrize("name", ["loop", "sleep", "swallows_exceptions", "polite"])
def test_a_cancelled_job_is_interrupted_wherever_it_is(runner, name):
    begin(runner, name)
    press(runner)
    kind, failure, _ = runner.outcome()

    assert kind is Kind.FAILED
    assert (failure["kind"], failure["reason"], failure["retire"]) == ("cancelled", WHY, True)
    assert f"in {name}" in failure["stack"]


def test_a_job_that_waits_for_an_answer_is_interrupted_too(runner):
    begin(runner, "asks")
    assert runner.take()[0] is Kind.ASK
    press(runner)

    assert runner.outcome()[1]["kind"] == "cancelled"
    runner.send(Kind.ANSWER, {"seq": 1, "value": {}})  # which comes late, and is nobody's
    assert runner.run("echo", 5) == 5


def test_a_coroutine_is_cancelled_as_coroutines_are_and_may_clean_up(runner):
    begin(runner, "coroutine")
    press(runner)
    for _ in range(3):
        knock(runner)  # as the master does until the job has ended: the clean-up is left in peace
    kind, _, before = runner.outcome()

    assert kind is Kind.FAILED
    assert before == [(Kind.LOG, b"cleaned up")]
    assert runner.run("echo", 5) == 5


def test_a_job_that_is_interrupted_may_clean_up_in_peace(runner):
    begin(runner, "cleans_up")
    press(runner)
    knock(runner)

    assert runner.take() == (Kind.LOG, b"cleaned up")
    assert runner.outcome()[1]["kind"] == "cancelled"


@pytest.mark.parametrize("policy", [{}, {"pid_namespace": True}], ids=["strict", "first of a namespace"])
def test_who_is_locked_away_is_interrupted_all_the_same(confined, policy):
    """Denied to signal others, another user's, and number 1 where signals without a handler do nothing."""
    runner = confined("stubborn", **policy).runner()
    begin(runner, "sleep")
    press(runner)

    assert runner.outcome()[1]["reason"] == WHY


def test_the_signal_alone_raises_nothing(runner):
    begin(runner, "returns")
    for _ in range(20):
        knock(runner)
    assert runner.silent()
    runner.send(Kind.CANCEL, {"reason": WHY})

    assert runner.outcome()[:2] == (Kind.COMPLETED, {"why": WHY})


def test_a_signal_between_jobs_ends_nobody(runner):
    for n in range(20):
        knock(runner)
        assert runner.run("echo", n) == n


def test_a_cancel_of_another_attempt_is_not_raised(runner):
    begin(runner, "returns")
    runner.send(Kind.CANCEL, {"reason": "of another"}, 99)
    knock(runner)
    assert runner.silent()
    runner.send(Kind.CANCEL, {"reason": WHY})

    assert runner.outcome()[1] == {"why": WHY}


def test_a_cancel_that_arrives_with_the_start_is_seen(runner):
    """Both in one read of the runner's: nothing more is in the socket when the job looks."""
    head = json.dumps({"id": "1", "name": "polite", "queue": "work", "started": 1}).encode()
    start = wire.frame(Kind.START, wire.START_META.pack(len(head)) + head + b"null", 5)
    runner.link.sendall(start + wire.frame(Kind.CANCEL, json.dumps({"reason": WHY}).encode(), 5))

    assert runner.outcome()[1]["reason"] == WHY


def test_who_raises_cancelled_unasked_says_why(runner):
    assert runner.fail("cancels_itself")["reason"] == "nothing to be done"


def test_two_hundred_cancels_that_come_as_a_job_ends_never_hit_the_next(runner):
    """The signal may be handled anywhere: in the job, after it, or in the one that follows."""
    hit = 0
    for n in range(1, 201):
        runner.start("moment", 1, number=n)
        time.sleep(n % 20 / 10_000)  # from its beginning to after its end
        runner.send(Kind.CANCEL, {"reason": WHY}, n)
        knock(runner)
        kind, body, _ = runner.outcome()
        if kind is Kind.FAILED:
            assert body["kind"] == "cancelled"
            hit += 1
        runner.send(Kind.CANCEL, {"reason": WHY}, n)  # and one that comes too late for certain
        runner.start("moment", 0.05, number=1000 + n)
        knock(runner)
        assert runner.outcome()[:2] == (Kind.COMPLETED, 0.05)
    assert 10 < hit < 190
