"""What a runner tells of the processor time, the memory and the io of its jobs, and of its own."""

from __future__ import annotations

import json

import pytest

from sandbox import usage
from sandbox.usage import JobMeter
from sandbox.wire import Kind

MB = 1024 * 1024


@pytest.fixture
def worker(master):
    master.load("appetites")
    return master.runner()


def test_a_job_of_no_length_tells_nothing_of_what_it_used(worker):
    for _ in range(5):
        worker.run("any")
    assert worker.used == []


def test_a_longer_job_tells_its_processor_time_and_that_of_its_children(worker):
    worker.run("any", {"burn_s": 0.1, "child_s": 0.2})
    (used,) = worker.used
    assert 300 <= used["user_ms"] + used["system_ms"] < 3_000

    worker.run("any", {"sleep_s": 0.1})  # what the one before has used is not its own
    assert worker.used[1]["user_ms"] + worker.used[1]["system_ms"] < 100


def test_a_job_that_makes_its_runner_larger_tells_its_peak_and_the_next_does_not(worker):
    worker.run("any", {"take_mb": 64, "sleep_s": 0.05})
    worker.run("any", {"take_mb": 8, "sleep_s": 0.05})
    worker.run("any", {"take_mb": 96, "sleep_s": 0.05})
    first, second, third = (used["peak_bytes"] for used in worker.used)
    assert 64 * MB <= first < 80 * MB
    assert second is None  # it did not get that far, and how far it got nobody knows
    assert 96 * MB <= third < 112 * MB


def test_a_runner_without_a_job_says_what_it_uses(worker):
    worker.send(Kind.TELL)
    kind, body = worker.take()
    told = json.loads(body)
    assert kind is Kind.TOLD
    assert told["pss_bytes"] > MB
    assert 3 <= told["open_files"] < 50


def test_a_runner_with_a_job_says_what_it_uses_when_that_is_done(worker):
    worker.start("any", {"sleep_s": 0.2})
    worker.send(Kind.TELL)
    assert worker.take()[0] is Kind.COMPLETED
    assert worker.take()[0] is Kind.TOLD


def test_a_runner_of_several_jobs_says_what_it_uses_while_they_run(master):
    master.load("appetites")
    runner = master.fork()
    runner.send(Kind.GO, {"slot": 2, "title": "r", "master_pid": 0, "limits": {}, "at_once": 4})
    assert runner.take()[0] is Kind.READY
    runner.start("any", {"sleep_s": 30}, queue="many", number=7)
    runner.send(Kind.TELL)
    assert runner.take()[0] is Kind.TOLD


def test_what_the_kernel_refuses_is_none(monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refused)
    monkeypatch.setattr("os.listdir", refused)
    told = usage.own_figures()
    assert told["pss_bytes"] is None
    assert told["open_files"] is None


def test_a_short_job_has_its_usage_read_neither_before_nor_after(monkeypatch):
    """What a job of no length costs: two looks at the clock."""
    meter = JobMeter()
    read = []
    monkeypatch.setattr(usage, "monotonic", iter([*[meter._read_at + 0.001] * 10]).__next__)
    monkeypatch.setattr(usage, "getrusage", lambda who: read.append(who))
    for _ in range(5):
        meter.begin()
        assert meter.end() is None
    assert read == []
