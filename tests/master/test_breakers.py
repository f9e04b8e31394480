"""Circuit breakers and sagas under a whole master."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise

import pytest
from running import ROOT, TESTS, until

from supervisor.blocking import Queue


@pytest.fixture
def down(tmp_path):
    path = tmp_path / "down"
    path.touch()
    return path


@pytest.fixture
def orders(redis_url):
    with Queue("orders", url=redis_url) as queue:
        yield queue


def test_jobs_whose_dependency_is_down_are_delayed_and_complete_when_it_is_back(oxherd, orders, down):
    data = {"down": str(down)}
    orders.add_bulk([("charge", data, {"attempts": 2}) for _ in range(20)])

    running = oxherd("--concurrency", "2", target="shop", queue=None)
    opened = running.until("breaker.opened", 3)  # so its first trials have failed
    assert (opened["breaker"], opened["trips"]) == ("payments", 3)
    assert orders.counts()["failed"] == 0
    down.unlink()
    until(lambda: orders.counts()["completed"] == 20, "all 20 are completed")

    failed_attempts = sum(job.attempts_made - 1 for job in orders.jobs("completed", 0, 99))
    # Three open it, and one more job may have been in the block at that moment. No trial burns an attempt.
    assert failed_attempts in (3, 4)
    running.until("breaker.closed")
    times = [event["open_ms"] for event in running.events("breaker.opened")]
    assert all(first <= second <= 600 for first, second in pairwise(times))


def test_what_opened_it_and_what_put_a_job_back_is_in_the_log_of_the_job(oxherd, orders, down):
    ids = [orders.add("charge", {"down": str(down)}, attempts=5).id for _ in range(2)]
    running = oxherd("--concurrency", "1", target="shop", queue=None)
    running.until("breaker.opened", 2)
    down.unlink()
    until(lambda: orders.counts()["completed"] == 2, "both are completed")

    rows = [row for job_id in ids for row in orders.logs(job_id)]
    assert rows.count("breaker payments opened for 0.3 s") == 1
    assert "breaker payments closed" in rows
    again = "breaker payments opened again for 0.6 s, no attempt counted: ConnectionError: payments are down"
    assert again in rows


def test_a_trial_whose_runner_dies_makes_room_for_the_next(oxherd, orders, down):
    for _ in range(3):
        orders.add("charge", {"down": str(down)})
    running = oxherd("--concurrency", "1", target="shop", queue=None)
    running.until("breaker.opened")
    down.unlink()

    orders.add("charge", {"dies": True, "down": str(down)}, job_id="victim")
    running.until("runner.died")
    orders.add("charge", {"down": str(down)}, job_id="next")

    assert orders.result("next", timeout_ms=20_000) == 1
    assert running.until("breaker.closed")["job_id"] == "next"


def test_another_queue_with_an_async_processor_shares_the_breaker(oxherd, orders, redis_url, down):
    for _ in range(3):
        orders.add("charge", {"down": str(down)})
    running = oxherd("--concurrency", "1", target="shop", queue=None)
    running.until("breaker.opened")
    with Queue("bookings", url=redis_url) as bookings:
        job = bookings.add("x", {"down": str(down)})
        running.until("job.delayed")
        down.unlink()
        assert bookings.result(job, timeout_ms=20_000) == 1


def test_inline_it_is_the_same(redis_url, orders, down):
    for _ in range(4):
        orders.add("charge", {"down": str(down)})
    ours = [sys.executable, "-m", "supervisor"]
    common = {"cwd": TESTS / "processors", "text": True, "capture_output": True, "timeout": 60}
    environment = {"PYTHONPATH": str(ROOT), "OXHERD_REDIS_URL": redis_url, "PATH": "/usr/bin"}
    process = subprocess.Popen(
        [*ours, "run", "shop", "--inline", "--burst"],
        cwd=TESTS / "processors",
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: orders.counts()["failed"] == 3, "three have failed")
        until(lambda: orders.counts()["delayed"] == 1, "the fourth is delayed")
        down.unlink()
        assert process.wait(30) == 1
    finally:
        process.kill()
        process.wait()

    assert orders.counts()["completed"] == 1
    shown = subprocess.run([*ours, "breaker", "show", "payments", "--json"], env=environment, **common)
    assert json.loads(shown.stdout)["state"] == "closed"


@pytest.fixture
def trips(redis_url):
    with Queue("trips", url=redis_url) as queue:
        yield queue


def test_a_saga_that_fails_is_undone_and_its_log_tells_how(oxherd, trips, tmp_path):
    notes = tmp_path / "notes"
    oxherd("--concurrency", "1", target="shop", queue=None)
    job = trips.add("trip", {"notes": str(notes), "fails": True})
    until(lambda: trips.counts()["failed"] == 1, "it has failed")

    assert notes.read_text().split("\n")[:-1] == ["seat", "room", "no room 4", "no seat 4"]
    assert trips.get(job.id).failed_reason == "no money"
    assert trips.logs(job.id) == [
        "saga: seat: done",
        "saga: room: done",
        "saga: room: undone",
        "saga: seat: undone",
    ]


def test_a_saga_whose_runner_dies_goes_on_after_the_last_step_done(oxherd, trips, tmp_path):
    notes = tmp_path / "notes"
    oxherd("--concurrency", "1", target="shop", queue=None)
    job = trips.add("trip", {"notes": str(notes), "dies": True}, attempts=2)

    assert trips.result(job, timeout_ms=20_000) == 4
    assert notes.read_text().split() == ["seat", "room"]
