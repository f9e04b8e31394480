"""Percentiles of the last minutes, from few numbers whatever the rate."""

from __future__ import annotations

import random

import pytest

from supervisor.master.attempt import Attempt
from supervisor.master.latency import MOST, RECENT_S, Latency, together
from supervisor.protocol.commands.work import FetchedJob

OFFSET_S = 1_000_000.0  # from our clock to epoch seconds


def ended(at: float, *, waited_s: float = 0.0, ran_s: float = 0.0, started: bool = True, **job) -> Attempt:
    added_ms = round((at - ran_s - waited_s + OFFSET_S) * 1000)
    fields = {"opts": b"{}", "timestamp": added_ms, "attempts_made": 0, "attempts_started": 1} | job
    fetched = FetchedJob(
        "1", "t", "x", b"{}", priority=0, stalled_count=0, deferred=None, parent=None, **fields
    )
    made = Attempt(fetched, 0.0)
    made.started_at, made.ended_at = (at - ran_s if started else 0.0), at
    return made


def plain(latency: Latency, now: float) -> dict:
    return latency.recent(now, OFFSET_S).plain()


def test_of_few_attempts_each_counts():
    latency = Latency()
    for n in range(1, 101):
        latency.ended(ended(500.0 + n, waited_s=n / 10, ran_s=n / 100))
    assert plain(latency, 601.0) == {
        "waited_ms": {"count": 100, "p50": 5_000.0, "p95": 9_500.0},
        "ran_ms": {"count": 100, "p50": 500.0, "p95": 950.0},
    }


def test_of_nothing_nothing_is_told_and_what_is_old_is_forgotten():
    latency = Latency()
    assert plain(latency, 1.0) == {"waited_ms": None, "ran_ms": None}
    latency.ended(ended(100.0, ran_s=5))
    latency.ended(ended(200.0, ran_s=1))
    assert plain(latency, 100.0 + RECENT_S)["ran_ms"]["count"] == 2
    assert plain(latency, 101.0 + RECENT_S)["ran_ms"] == {"count": 1, "p50": 1_000.0, "p95": 1_000.0}
    assert plain(latency, 201.0 + RECENT_S)["ran_ms"] is None


def test_a_wait_that_somebody_wished_for_is_none_and_what_never_began_did_not_run():
    latency = Latency()
    latency.ended(ended(500.0, waited_s=60, ran_s=1, attempts_started=2))
    latency.ended(ended(500.0, waited_s=60, ran_s=1, opts=b'{"delay":60000}'))
    latency.ended(ended(500.0, started=False))
    found = plain(latency, 500.0)
    assert (found["waited_ms"], found["ran_ms"]["count"]) == (None, 2)


@pytest.mark.parametrize("rate", [50, 5_000])
def test_of_many_attempts_few_are_kept_and_the_percentiles_are_near(rate: int):
    rng = random.Random(3)
    latency, runs, at = Latency(), [], 0.0
    for _ in range(60_000):
        at += 1 / rate
        runs.append((at, rng.lognormvariate(3, 1)))
        latency.ended(ended(at, ran_s=runs[-1][1] / 1000))
        assert len(latency._kept) <= MOST + 1
    told = plain(latency, at)["ran_ms"]
    recent = sorted(ran for ended_at, ran in runs if ended_at >= at - RECENT_S)
    assert told["count"] == pytest.approx(len(recent), rel=0.15)
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        assert (
            recent[int((share - 0.04) * len(recent))] < told[name] < recent[int((share + 0.04) * len(recent))]
        )


def test_after_a_flood_few_attempts_are_looked_at_one_by_one_again():
    latency = Latency()
    for n in range(50_000):
        latency.ended(ended(100.0 + n / 10_000, ran_s=1))
    at = 200.0
    for _ in range(80):
        at += 5.0
        latency.recent(at, OFFSET_S)
    for n in range(10):
        latency.ended(ended(at + n, ran_s=2))
    assert plain(latency, at + 10)["ran_ms"]["count"] == 10


def test_several_queues_are_told_as_one_and_it_costs_no_more_with_many():
    fast, slow = Latency(), Latency()
    for n in range(90):
        fast.ended(ended(500.0 + n / 10, ran_s=0.1))
    for n in range(10):
        slow.ended(ended(500.0 + n, ran_s=9))
    both = together([each.recent(510.0, OFFSET_S) for each in (fast, slow)])
    assert both.plain()["ran_ms"] == {"count": 100, "p50": 100.0, "p95": 9_000.0}

    many = together([fast.recent(510.0, OFFSET_S)] * 400)
    assert len(many.ran) <= 4 * MOST + 400
    assert many.plain()["ran_ms"]["count"] == pytest.approx(400 * 90, rel=0.1)
