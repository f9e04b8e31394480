"""Slots that several queues share: by weight while all have jobs, with a minimum kept for some."""

from __future__ import annotations

import pytest
from running import until

from supervisor.blocking import Queue

TARGET = {"target": "stations:work", "queue": None}


def config(tmp_path, text):
    path = tmp_path / "pool.toml"
    path.write_text(text)
    return "--config", str(path)


@pytest.fixture
def queues(redis_url):
    made = {name: Queue(name, url=redis_url) for name in ("red", "blue", "green")}
    yield made
    for each in made.values():
        each.close()


TWO = """
[pool]
slots = 4
[queue.red]
target = "stations:work"
pool = { weight = 3 }
[queue.blue]
target = "stations:work"
"""


def active(raw, *names):
    with raw.pipeline(transaction=True) as both:
        for name in names:
            both.llen(f"bull:{name}:active")
        return both.execute()


def test_i2_two_queues_that_are_full_share_the_slots_by_weight(oxherd, queues, raw, tmp_path):
    """I2 for the pool: never are more jobs fetched than it has slots."""
    for name in ("red", "blue"):
        for _ in range(60):
            queues[name].add("any", 0.1)
    run = oxherd(*config(tmp_path, TWO), **TARGET)
    run.until("master.started")
    most, seen = 0, {"red": 0, "blue": 0}

    def half_done():
        nonlocal most
        red, blue = active(raw, "red", "blue")
        most = max(most, red + blue)
        seen["red"] += red
        seen["blue"] += blue
        return queues["red"].counts()["completed"] >= 45

    until(half_done, "most jobs of the heavier queue are done")
    assert most == 4
    assert 0.65 < seen["red"] / (seen["red"] + seen["blue"]) < 0.85
    assert len(run.runners()) == 4
