"""Waiting for a job's end: every order in which its end and our looks can fall."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from supervisor.client.core import Context
from supervisor.client.listen import LOOK_EVERY_MS, Ending, ReadEnding, next_events, result
from supervisor.errors import JobFailed, JobNotFound, ResultTimeout
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.queue_events import EVENTS_PER_READ, LastEvent, QueueEvent, ReadEvents, event_of
from supervisor.protocol.steps import drive_blocking

CONTEXT = Context(QueueKeys("q"), lambda: 0, {})
RUNNING = Ending(True, None, None, None)
ABSENT = Ending(False, None, None, None)


def event(name: str, place: str = "5-0", job_id: str = "7", **values: Any) -> QueueEvent:
    return QueueEvent(place, name, job_id, 5, values)


def wait(script: list[Any], *, timeout_ms: int | None = 1_000, now: Callable[[], float] = lambda: 0.0) -> Any:
    """Drive `result` with prepared replies: an Ending to a look, a list of events to a read of the stream."""
    asked: list[Any] = []

    def execute(command: Any) -> Any:
        asked.append(command)
        if isinstance(command, LastEvent):
            return "4-0"
        reply = script.pop(0)
        assert isinstance(reply, Ending if isinstance(command, ReadEnding) else list), command
        return reply

    wait.asked = asked  # type: ignore[attr-defined]
    value = drive_blocking(result("7", timeout_ms, now)(CONTEXT), execute)
    assert script == []
    return value


def test_a_job_that_has_ended_is_told_without_waiting():
    assert wait([Ending(True, "completed", b'{"n":1}', None)]) == {"n": 1}


def test_the_place_in_the_stream_is_taken_before_the_first_look():
    wait([Ending(True, "completed", b"1", None)])
    assert [type(command) for command in wait.asked] == [LastEvent, ReadEnding]  # type: ignore[attr-defined]


def test_an_end_that_comes_while_we_wait_is_told_by_its_event():
    others = [event("progress"), event("completed", job_id="8", returned=0)]
    assert wait([RUNNING, others, RUNNING, [event("completed", returned=[1, 2])]]) == [1, 2]


def test_the_next_read_goes_on_after_the_last_event():
    wait([RUNNING, [event("active", "9-1")], RUNNING, [event("completed", returned=0)]])
    reads = [command for command in wait.asked if isinstance(command, ReadEvents)]  # type: ignore[attr-defined]
    assert [read.since for read in reads] == ["4-0", "9-1"]


def test_an_end_whose_event_was_lost_is_found_at_the_next_look():
    assert wait([RUNNING, [], Ending(True, "completed", b"null", None)]) is None


def test_a_failed_job_raises_its_reason():
    with pytest.raises(JobFailed, match="out of ink"):
        wait([Ending(True, "failed", None, "out of ink")])
    with pytest.raises(JobFailed, match="out of ink"):
        wait([RUNNING, [event("failed", failed_reason="out of ink")]])


def test_a_reason_that_outlived_a_later_success_is_not_a_failure():
    assert wait([Ending(True, "completed", b"3", "first time")]) == 3


def test_a_job_removed_as_it_ended_is_told_by_its_event():
    others = [event("completed", f"{n}-0", job_id="8") for n in range(1, EVENTS_PER_READ + 1)]
    assert wait([ABSENT, others, [event("completed", returned="r"), event("drained")]]) == "r"
    reads = [command for command in wait.asked if isinstance(command, ReadEvents)]  # type: ignore[attr-defined]
    assert [(read.since, read.block_ms) for read in reads] == [("0-0", 0), (f"{EVENTS_PER_READ}-0", 0)]


def test_of_two_jobs_of_one_id_the_later_end_is_told():
    with pytest.raises(JobFailed, match="second"):
        wait([ABSENT, [event("completed", returned=1), event("failed", failed_reason="second")]])


def test_a_job_that_is_not_there_is_not_waited_for():
    with pytest.raises(JobNotFound, match="never added, or it was removed"):
        wait([ABSENT, [event("completed", job_id="8")]])


def test_the_time_to_wait_ends():
    times = iter([0.0, 0.2, 1.1])
    with pytest.raises(ResultTimeout, match="job 7 had not finished after 1000 ms; it was left as it is"):
        wait([RUNNING, [], RUNNING], now=lambda: next(times))


def test_no_read_waits_longer_than_what_is_left():
    times = iter([0.0, 0.4])
    wait([RUNNING, [event("completed", returned=0)]], now=lambda: next(times))
    assert wait.asked[-1].block_ms == 600  # type: ignore[attr-defined]


def test_without_a_limit_the_job_is_looked_at_every_few_seconds():
    wait([RUNNING, [], RUNNING, [event("completed", returned=0)]], timeout_ms=None)
    reads = [command for command in wait.asked if isinstance(command, ReadEvents)]  # type: ignore[attr-defined]
    assert {read.block_ms for read in reads} == {LOOK_EVERY_MS}


def test_next_events_is_one_read():
    events = [event("added")]
    assert drive_blocking(next_events("3-0", 50)(CONTEXT), lambda command: events) == events


# --- entries of the stream ---------------------------------------------------------------------------


def decoded(**members: str) -> QueueEvent:
    flat = [part.encode() for pair in members.items() for part in pair]
    return event_of(b"1795000000000-3", flat)


def test_an_entry_gets_python_names_and_values():
    told = decoded(event="completed", jobId="7", returnvalue='{"a":1}', prev="active")
    assert told == QueueEvent(
        "1795000000000-3", "completed", "7", 1_795_000_000_000, {"returned": {"a": 1}, "prev": "active"}
    )
    assert decoded(event="progress", jobId="7", data="42").values == {"progress": 42}
    assert decoded(event="delayed", jobId="7", delay="99").values == {"due_on": 99}
    assert decoded(event="failed", jobId="7", failedReason="[1]").values == {"failed_reason": "[1]"}


def test_an_entry_of_somebody_else_stays_text():
    told = decoded(event="mine", data="{", colour="red")
    assert (told.name, told.job_id, told.values) == ("mine", None, {"data": "{", "colour": "red"})


def test_a_value_that_is_not_json_stays_text():
    assert decoded(event="completed", jobId="7", returnvalue="{").values == {"returned": "{"}


def test_a_read_that_does_not_wait_says_nothing_of_waiting():
    assert "BLOCK" not in ReadEvents(QueueKeys("q"), "0-0").requests()[0]
    assert ReadEvents(QueueKeys("q"), "0-0", 20).requests()[0][3:5] == ["BLOCK", 20]
