"""`oxherd run --inline`: the same outcomes, written as with runners, and a lock that is kept meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from supervisor.blocking import Queue
from supervisor.cli.inline import SAYS_SO

ROOT = Path(__file__).parents[2]

PROCESSORS = """
import os, sys, time

def work(job):
    data = job.data
    job.progress(10)
    job.progress(20)
    job.log("a row")
    if data.get("debug"):
        breakpoint()
    if "s" in data:
        print("sleeping", flush=True)
        end = time.monotonic() + data["s"]
        while time.monotonic() < end:  # keeps the main thread to itself
            pass
    if "until_cancelled" in data:
        print("waiting", flush=True)
        while not job.cancelled:
            time.sleep(0.01)
        raise OSError("in the middle of something")
    if "why" in data:
        raise ValueError(data["why"])
    return {"pid": os.getpid()}
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("work", url=redis_url) as queue:
        yield queue


@pytest.fixture
def inline(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    (tmp_path / "deeds_inline.py").write_text(PROCESSORS)
    (tmp_path / "broken_inline.py").write_text("def halve(n):\n    return n / 0\n\nhalve(1)\n")
    started: list[subprocess.Popen[str]] = []

    def start(*flags: str, target: str = "deeds_inline:work") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "supervisor", "run", target, "--queue", "work", "--inline", *flags],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OXHERD_REDIS_URL": redis_url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_outcomes_are_written_as_with_runners(inline: Start, queue: Queue) -> None:
    good = queue.add("any", {})
    bad = queue.add("any", {"why": "no good"})
    process = inline("--burst")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert err.splitlines()[0] == SAYS_SO
    assert out.startswith("done: 1 completed, 1 failed")
    done = queue.get(good.id)
    assert done is not None
    assert done.returned == {"pid": process.pid}
    assert (done.progress, done.attempts_made) == (20, 1)
    assert queue.logs(good.id) == ["a row"]
    failed = queue.get(bad.id)
    assert failed is not None
    assert failed.failed_reason == "no good"
    assert "deeds_inline.py" in failed.stacktrace[0]
    assert queue.counts()["active"] == 0


def test_a_breakpoint_has_the_terminal(inline: Start, queue: Queue) -> None:
    job = queue.add("any", {"debug": True})
    out, _ = inline("--burst").communicate("p 'here ' + job.id\nc\n", timeout=30)
    assert f"'here {job.id}'" in out
    assert queue.state(job.id) == "completed"


def test_the_lock_is_kept_while_the_main_thread_is_busy(
    inline: Start, queue: Queue, raw: redis.Redis
) -> None:
    """The lock lives a second, the job runs for three, and it is never seen without its lock."""
    job = queue.add("any", {"s": 3})
    process = inline("--burst", "--lock-duration", "1s", "--json")
    assert process.stdout is not None
    assert process.stdout.readline() == "sleeping\n"
    with_lock = without = 0
    while queue.state(job.id) == "active":
        if raw.exists(f"bull:work:{job.id}:lock"):
            with_lock += 1
        elif queue.state(job.id) == "active":
            without += 1
    assert (without, with_lock > 10) == (0, True)
    assert json.loads(process.stdout.read())["completed"] == 1
    done = queue.get(job.id)
    assert done is not None
    assert (done.attempts_started, done.stalled_count) == (1, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_cut_off_goes_back_unharmed(
    number: signal.Signals, inline: Start, queue: Queue, raw: redis.Redis
) -> None:
    """I9."""
    job = queue.add("any", {"s": 60})
    process = inline()
    assert process.stdout is not None
    assert process.stdout.readline() == "sleeping\n"
    process.send_signal(number)
    assert process.wait(30) == 0
    assert raw.lrange("bull:work:wait", 0, -1) == [job.id.encode()]
    kept = raw.hgetall(f"bull:work:{job.id}")
    assert kept[b"ats"] == b"0"
    assert b"atm" not in kept
    assert raw.exists(f"bull:work:{job.id}:lock") == 0


def test_it_ends_when_it_is_told_to_while_nothing_is_there(inline: Start, queue: Queue) -> None:
    job = queue.add("any", {})
    process = inline()
    assert process.stderr is not None
    for line in process.stderr:
        if f"work/{job.id} completed" in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stderr.read()


def test_a_module_that_cannot_be_imported_takes_no_job(inline: Start, queue: Queue) -> None:
    queue.add("any", {})
    for target, words in (
        ("nowhere_inline:work", ["nowhere_inline", "No job was taken"]),
        (
            "broken_inline:halve",
            ["No job was taken from any queue", 'broken_inline.py", line 2, in halve', "ZeroDivisionError"],
        ),
    ):
        process = inline(target=target)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 2
        for word in words:
            assert word in err
        assert "supervisor/cli" not in err
    assert queue.counts()["waiting"] == 1


def test_a_paused_queue_ends_a_burst_with_a_sentence(inline: Start, queue: Queue) -> None:
    queue.add("any", {})
    queue.pause()
    process = inline("--burst")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "oxherd resume work" in err


def test_a_job_that_looks_sees_that_it_is_cancelled(inline: Start, queue: Queue) -> None:
    process = inline("--burst")
    job = queue.add("a", {"until_cancelled": True}, attempts=3)
    assert process.stdout.readline() == "waiting\n"

    assert queue.cancel(job, "wrong size", by="ann") == "asked"

    assert process.wait(30) == 1
    assert queue.state(job.id) == "failed"
    assert queue.get(job.id).failed_reason == "cancelled by ann: wrong size"
