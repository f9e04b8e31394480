"""I10: whatever leaves a processor is a failure with a kind, a reason and a stack."""

from __future__ import annotations

import pytest

from sandbox.errors import RetryAfter
from sandbox.failures import Failure, judge
from sandbox.wire import MAX_SMALL


def test_an_exception_is_a_failure_with_its_message_and_the_users_frames_only(runner):
    failure = runner.fail("raise", "boom")

    assert failure["kind"] == "raised"
    assert failure["reason"] == "boom"
    assert failure["backoff_ms"] is None
    assert failure["retire"] is False
    lines = failure["stack"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(", in raise_it")
    assert lines[-1] == "ValueError: boom"
    assert "attempt.py" not in failure["stack"]
    assert "runner.py" not in failure["stack"]
    assert "template.py" not in failure["stack"]


@pytest.mark.parametrize(
    ("name", "kind", "reason", "retire", "delay_ms"),
    [
        ("Unrecoverable", "unrecoverable", "not again", False, 0),
        ("Delayed", "delayed", "delayed for 1500 ms", False, 1500),
        ("RateLimited", "rate_limited", "rate limited for 2500 ms", False, 2500),
        ("WaitingChildren", "waiting_children", "WaitingChildren", False, 0),
        ("SystemExit", "raised", "SystemExit: 3", True, 0),
        ("KeyboardInterrupt", "raised", "KeyboardInterrupt", True, 0),
        ("RecursionError", "raised", "RecursionError", False, 0),
        ("MemoryError", "raised", "out of memory (MemoryError)", True, 0),
        ("Empty", "raised", "ValueError", False, 0),
        ("Own", "raised", "Own: words", True, 0),
        ("Mute", "raised", "Mute (its message cannot be read: ZeroDivisionError)", False, 0),
    ],
)
def test_every_way_out_has_a_kind_and_a_reason(runner, name, kind, reason, retire, delay_ms):
    failure = runner.fail("raise_class", name)

    assert failure["kind"] == kind
    assert failure["reason"] == reason
    assert failure["retire"] is retire
    assert failure["delay_ms"] == delay_ms


def test_endless_recursion_is_an_ordinary_failure_with_a_short_stack(runner):
    failure = runner.fail("recurse")

    assert failure["kind"] == "raised"
    assert "maximum recursion depth exceeded" in failure["reason"]
    assert len(failure["stack"]) < 20_000
    assert runner.run("echo", 1) == 1


def test_a_chain_of_exceptions_is_told_whole_and_without_our_frames():
    def inner():
        raise KeyError("first")

    try:
        try:
            inner()
        except KeyError as error:
            raise ValueError("second") from error
    except ValueError as error:
        stack = judge(error).stack

    assert "KeyError: 'first'" in stack
    assert "direct cause" in stack
    assert stack.rstrip().endswith("ValueError: second")


@pytest.mark.parametrize("letter", ["a", "\x00", "\U0001f402", "\ud800"])
def test_a_failure_of_any_length_stays_a_small_frame(letter):
    """I7: a small limit on results must not make our own frames too large."""
    body = Failure("raised", letter * 1_000_000, letter * 1_000_000).to_bytes()

    assert len(body) <= MAX_SMALL
    assert b"characters left out" in body


@pytest.mark.parametrize(
    ("name", "backoff_ms", "reason"),
    [
        ("by_attempt", 215, "12345"),
        ("give_up", -1, "no"),
        ("plain", None, "no"),
        (
            "broken",
            None,
            "no (and the backoff function of backing:fails_brokenly raised LookupError: no table)",
        ),
        ("unrecoverable", None, "never"),
    ],
)
def test_the_processors_own_backoff_is_sent_with_an_ordinary_failure(master, name, backoff_ms, reason):
    master.load("backing")
    runner = master.runner()

    failure = runner.fail(name, 10, attempt=2)

    assert failure["backoff_ms"] == backoff_ms
    assert failure["reason"] == reason


@pytest.mark.parametrize(("name", "said"), [("float", "1.5"), ("negative", "-2")])
def test_a_backoff_that_is_no_whole_number_of_milliseconds_is_said(master, name, said):
    master.load("backing")
    runner = master.runner()

    failure = runner.fail(name)

    assert failure["kind"] == "raised"
    assert failure["backoff_ms"] is None
    assert f"it returned {said}; whole milliseconds are expected" in failure["reason"]


class Busy(Exception):
    """Another service said when to come back."""

    def __init__(self, retry_after_ms: object) -> None:
        super().__init__("busy")
        self.retry_after_ms = retry_after_ms


class Moody(Exception):
    @property
    def retry_after_ms(self) -> int:
        raise LookupError("not today")


def test_an_exception_may_say_when_the_next_attempt_is_to_be():
    assert judge(RetryAfter(1_500)).retry_after_ms == 1_500
    assert judge(RetryAfter(1_500)).reason == "to be tried again after 1500 ms"
    assert judge(RetryAfter(0, "the line is busy")).reason == "the line is busy"
    assert judge(Busy(20)).retry_after_ms == 20


@pytest.mark.parametrize("error", [Busy(-1), Busy("20"), Busy(True), Busy(1.5), Moody("x"), ValueError("x")])
def test_what_is_no_number_of_milliseconds_says_nothing(error):
    failure = judge(error)
    assert failure.kind == "raised"
    assert failure.retry_after_ms is None


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "3", None])
def test_a_retry_after_no_number_of_milliseconds_cannot_be_made(wrong):
    with pytest.raises(ValueError, match="whole number of milliseconds"):
        RetryAfter(wrong)
