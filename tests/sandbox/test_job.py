"""The Job by itself, over a channel that only notes."""

from __future__ import annotations

import pytest

from sandbox.job import Job
from sandbox.wire import MAX_SMALL

META = {"id": "17", "name": "resize", "queue": "work"}


class Notes:
    def __init__(self):
        self.said = []

    def progress(self, encoded, value):
        self.said.append(("progress", encoded))

    def log(self, text):
        self.said.append(("log", text))

    def data(self, encoded):
        self.said.append(("data", encoded))

    def ask(self, what, arguments):
        self.said.append((what, arguments))
        return "5"

    def cancel_reason(self):
        return "cancelled by ann"


class Clock:
    now_at = 1000.0

    def __call__(self):
        return self.now_at


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def job(notes, clock):
    return Job(META, {"a": 1}, notes, max_bytes=1000, clock=clock)


def test_a_burst_of_20_is_sent_then_10_a_second_and_the_newest_wins(job, notes, clock):
    for n in range(100):
        job.progress(n)
    assert [body for _, body in notes.said] == [b"%d" % n for n in range(20)]

    clock.now_at += 0.1
    job.progress(100)
    job.progress(101)
    assert notes.said[20:] == [("progress", b"100")]

    clock.now_at += 0.1
    job.log("row")  # any call sends what has become due
    assert notes.said[21:] == [("log", b"row"), ("progress", b"101")]


def test_the_last_progress_is_sent_at_the_end_and_only_once(job, notes):
    for n in range(30):
        job.progress(n)
    del notes.said[:]
    job.end()

    assert notes.said == [("progress", b"29")]


def test_a_job_that_has_ended_says_nothing_more(job, notes):
    """A thread left behind would speak in the name of the next job."""
    job.end()

    for call in (
        lambda: job.progress(1),
        lambda: job.log("x"),
        lambda: job.update_data(1),
        job.children_values,
    ):
        with pytest.raises(RuntimeError, match="job 17 has ended"):
            call()
    assert not job.cancelled
    assert notes.said == []


def test_what_json_cannot_say_raises_where_it_was_said(job, notes):
    with pytest.raises(TypeError, match=r"job\.progress: .* it is nan, which is no JSON number"):
        job.progress(float("nan"))
    with pytest.raises(TypeError, match=r"job\.update_data: .* at \['x'\] is of type set"):
        job.update_data({"x": {1}})
    with pytest.raises(TypeError, match=r"job\.add: .* at \['data'\] is of type object"):
        job.add("other", "child", object())
    assert notes.said == []
    assert job.data == {"a": 1}


def test_what_is_larger_than_the_limit_raises_where_it_was_said(job):
    with pytest.raises(ValueError, match=r"job\.progress: 2002 bytes of JSON, more than the 1000 allowed"):
        job.progress("x" * 2000)


def test_a_long_log_row_is_cut_to_fit_a_frame(job, notes):
    job.log("ü" * 1_000_000)

    ((_, row),) = notes.said
    assert len(row) <= MAX_SMALL
    assert row.decode().endswith("bytes left out")


def test_a_log_row_may_be_anything_that_has_a_text(job, notes):
    job.log(42)
    job.log("\ud800")

    assert notes.said == [("log", b"42"), ("log", b"\\ud800")]


def test_new_data_is_seen_by_the_job_itself(job, notes):
    job.update_data({"b": 2})

    assert job.data == {"b": 2}
    assert notes.said == [("data", b'{"b":2}')]


def test_questions_go_to_the_master(job, notes):
    assert job.add("other", "child", {"n": 1}, delay_ms=5) == "5"

    assert notes.said == [
        ("add", {"queue": "other", "name": "child", "data": {"n": 1}, "options": {"delay_ms": 5}})
    ]
