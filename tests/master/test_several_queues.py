"""Several queues in one master: each has slots, limits, a limiter and lock times of its own."""

from __future__ import annotations

import json

import pytest
from running import until

from supervisor.blocking import Queue

TARGET = {"target": "stations:work", "queue": None}
TWO = """
[queue.fast]
target = "stations:work"
concurrency = 2
[queue.fast.lock]
duration = "4s"
[queue.fast.policy]
timeout = "400ms"

[queue.slow]
target = "stations:work"
concurrency = 1
limiter = { max = 1, duration = "10m" }
"""


@pytest.fixture
def fast(redis_url):
    with Queue("fast", url=redis_url) as queue:
        yield queue


@pytest.fixture
def slow(redis_url):
    with Queue("slow", url=redis_url) as queue:
        yield queue


def test_each_queue_lives_by_its_own_table(oxherd, ask, fast, slow, raw, tmp_path):
    (tmp_path / "two.toml").write_text(TWO)
    first, second = slow.add("any", 1), slow.add("any", 0)
    run = oxherd("--config", str(tmp_path / "two.toml"), **TARGET)

    def lock_ms(queue, job):
        key = f"bull:{queue}:{job.id}:lock"
        return until(lambda: (left := raw.pttl(key)) > 0 and left, f"{queue} {job.id} has a lock")

    long = fast.add("any", 60)
    assert 0 < lock_ms("fast", long) <= 4_000
    assert 4_000 < lock_ms("slow", first) <= 30_000

    snapshot = json.loads(ask("ctl", "snapshot"))
    assert {each["name"]: each["slots"] for each in snapshot["queues"]} == {"fast": 2, "slow": 1}

    until(lambda: fast.state(long.id) == "failed", "the limit of its queue ends it")
    assert fast.get(long.id).failed_reason.startswith("time limit of 400 ms exceeded")
    until(lambda: slow.state(first.id) == "completed", "the limit of another queue does not count")

    some = [fast.add("any", 0) for _ in range(3)]
    until(
        lambda: all(fast.state(each.id) == "completed" for each in some), "no limiter holds the other queue"
    )
    assert slow.state(second.id) == "waiting"
    assert raw.pttl("bull:slow:limiter") > 30_000
    assert not raw.exists("bull:fast:limiter")
    assert run.process.poll() is None


def test_a_plain_function_serves_each_queue_that_is_named(oxherd, fast, slow):
    jobs = [(fast, fast.add("any", 0)), (slow, slow.add("any", 0))]
    run = oxherd("--queue", "fast", "--queue", "slow", "--burst", "--concurrency", "1", **TARGET)
    assert run.ended() == 0
    assert [queue.get(job.id).returned for queue, job in jobs] == ["fast", "slow"]


def test_a_queue_that_is_named_and_that_nobody_serves_is_refused(oxherd, queue):
    job = queue.add("nothing", None)
    run = oxherd("--queue", "wrok", "--burst", target="deeds", queue="work")
    assert run.ended() == 2
    assert "no processor serves 'wrok'; the targets serve 'work', 'slow'" in "".join(run.other)
    assert queue.state(job.id) == "waiting"
