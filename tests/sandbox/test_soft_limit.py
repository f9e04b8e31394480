"""The soft time limit: raised in the processor, never in our own code, never between two bytes of a frame."""

from __future__ import annotations

import dis
import functools
import itertools
import signal
import socket
import sys
import time

import pytest
from small_master import wait_until

from sandbox import wire
from sandbox.alarm import SoftLimit
from sandbox.attempt import Attempts
from sandbox.link import Link
from sandbox.policy import Policy
from sandbox.processors import Processor
from sandbox.wire import Kind

# Where an alarm could do harm; what they call (json, traceback) has no state of ours.
LOOKED_AT = ("alarm.py", "attempt.py", "job.py", "link.py", "test_soft_limit.py")
META = {"id": "17", "name": "any", "queue": "work"}


@pytest.fixture(autouse=True)
def _own_alarm():
    """pytest-timeout uses the same signal: here it waits outside."""
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def attempts_with(function, limit):
    return Attempts(
        [Processor(queue="work", name=None, function=function, target="test:function")], Policy(), limit
    )


def test_a_job_that_runs_too_long_gets_time_limit(runner):
    failure = runner.fail("spin", soft_timeout_ms=30)

    assert failure["kind"] == "time_limit"
    assert failure["reason"] == "time limit of 30 ms exceeded (soft)"
    assert failure["retire"] is False
    assert "in spin" in failure["stack"]
    assert runner.run("echo", 1, soft_timeout_ms=10_000) == 1


def test_a_job_that_sleeps_is_woken_and_one_that_waits_for_an_answer_too(runner):
    assert runner.fail("sleep", 1000, soft_timeout_ms=20)["kind"] == "time_limit"

    runner.start("calls", {}, soft_timeout_ms=50)
    kind, failure, _ = runner.outcome()
    assert (kind, failure["kind"]) == (Kind.FAILED, "time_limit")
    runner.start("calls", {})
    while runner.take()[0] is not Kind.ASK:
        pass
    # The answer to the question that was cut off comes now, and is nobody's.
    runner.send(Kind.ANSWER, {"seq": 1, "value": "stale"})
    assert runner.silent()
    runner.send(Kind.ANSWER, {"seq": 2, "value": "fresh"})
    while runner.take()[0] is not Kind.ASK:
        pass
    runner.send(Kind.ANSWER, {"seq": 3, "value": "9"})
    assert runner.outcome()[1]["values"] == "fresh"


def test_the_limit_waits_until_a_frame_is_whole(runner):
    """A frame that the master is slow to read is under way when the limit is over."""
    runner.start("large_progress", 2_000_000, soft_timeout_ms=50)
    over_at = time.monotonic() + 0.2
    wait_until(lambda: time.monotonic() > over_at, "the limit to be over")
    kind, failure, before = runner.outcome()

    assert [(kind, len(body)) for kind, body in before] == [(Kind.PROGRESS, 2_000_002)]
    assert (kind, failure["kind"]) == (Kind.FAILED, "time_limit")


def test_a_job_may_clean_up_and_still_return(runner):
    assert runner.run("spin_stubborn", soft_timeout_ms=20) == "cleaned up"


def test_a_job_that_ends_in_time_is_not_disturbed_later(runner):
    assert runner.run("echo", 1, soft_timeout_ms=40) == 1
    assert runner.run("sleep", 0.1) == "slept"


def test_an_alarm_that_a_job_has_set_for_itself_does_not_survive_it(runner):
    assert runner.run("set_alarm") is None
    assert runner.run("sleep", 0.1) == "slept"
    assert runner.fail("spin", soft_timeout_ms=20)["kind"] == "time_limit"


def test_coroutines_are_limited_too_and_the_next_one_gets_a_loop_that_works(master):
    master.load("coroutines")
    runner = master.runner()

    for name in ("sleep", "spin", "sleep"):
        assert runner.fail(name, soft_timeout_ms=20)["kind"] == "time_limit"
    assert runner.run("echo", "fine") == "fine"


@functools.cache
def _places(code):
    """Offsets in `code` before which Python looks for signals: after a call, a jump back, the start."""
    places = set()
    looks = False
    for instruction in dis.get_instructions(code):
        if looks and instruction.opname != "CACHE":
            places.add(instruction.offset)
        looks = instruction.opname.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))
    return places


def _alarm_at(step, run):
    """`run()` with the alarm raised at its `step`-th place: (result, whether it came so far)."""
    steps = itertools.count()
    rang = False

    def trace(frame, event, argument):
        nonlocal rang
        if not frame.f_code.co_filename.endswith(LOOKED_AT) or frame.f_code.co_name == "_on_alarm":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _places(frame.f_code) and next(steps) == step:
            rang = True
            signal.raise_signal(signal.SIGALRM)
        return trace

    # Python 3.12 looks for this in the frame that starts the tracing, and only there.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        result = run()
    finally:
        sys.settrace(None)
    return result, rang


@pytest.mark.parametrize("ending", ["returns", "raises", "speaks", "listens", "asks"])
def test_an_alarm_at_any_place_is_the_jobs_outcome_or_nothing(ending, monkeypatch):
    """Every place in arming, calling, speaking, disarming and judging, one after the other."""
    monkeypatch.setattr("sandbox.alarm.EARLY_S", 1e9)  # every alarm counts as one that is due

    def function(job):
        if ending == "raises":
            raise ValueError("boom")
        if ending == "speaks":
            job.progress(1)
            job.log("row")
        if ending == "listens":
            return job.cancelled
        if ending == "asks":
            return job.children_values()
        return "done"

    limit = SoftLimit()
    attempts = attempts_with(function, limit)
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    with ours, theirs:
        link = Link(ours, limit.shield)
        seen = set()
        theirs.setblocking(False)
        for step in itertools.count():
            link.start_job(7)
            answer = b'{"seq":%d,"value":5}' % (link._seq + 1)
            theirs.sendall(
                wire.frame(Kind.CANCEL, b"", 7) + wire.frame(Kind.ANSWER, answer) + wire.frame(Kind.LEAVE)
            )
            # A real timer far away: the alarms are ours alone.
            result, rang = _alarm_at(
                step, lambda: attempts.run({**META, "soft_timeout_ms": 3_600_000}, b"null", link)
            )
            assert not link._reading.locked()
            assert not link._sending.locked()
            seen.add((result[0], b"time_limit" in result[1]))
            assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0) or b"time_limit" in result[1]
            _expect_whole_frames(theirs)
            while link.next_frame() != (Kind.LEAVE, b"", 0, 0):
                pass
            if not rang:
                break
    assert step > 20
    assert (Kind.FAILED, True) in seen, "no alarm hit the job itself"
    assert len(seen) == 2


def _expect_whole_frames(sock):
    buffer = bytearray()
    try:
        while data := sock.recv(65536):
            buffer += data
    except BlockingIOError:
        pass
    while wire.take_frame(buffer, wire.FROM_RUNNER) is not None:
        pass
    assert not buffer, "half a frame was sent"


def test_real_alarms_of_a_few_microseconds_never_escape():
    def function(job):
        for n in range(30):
            job.progress(n)
        job.log("x" * 20_000)
        return "done"

    limit = SoftLimit()
    attempts = attempts_with(function, limit)
    ours, theirs = socket.socketpair()
    kinds = []
    with ours, theirs:
        link = Link(ours, limit.shield)
        theirs.setblocking(False)
        for n in range(3000):
            outcome = attempts.run({**META, "soft_timeout_ms": 0.001 + (n % 300) / 1000}, b"null", link)
            kinds.append(outcome[0] if b"time_limit" in outcome[1] else Kind.COMPLETED)
            _expect_whole_frames(theirs)

    assert kinds.count(Kind.FAILED) > 100
    assert kinds.count(Kind.COMPLETED) > 100
