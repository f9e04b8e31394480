"""Cancelling, whole: `oxherd run` under jobs that do not want to end; requests that come at bad moments."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from running import Running, until

from supervisor.blocking import Queue
from supervisor.errors import JobFailed, JobNotFound, JobNotInState

BY = {"reason": "wrong size", "by": "ann"}
SENTENCE = "cancelled by ann: wrong size"
KEY = "bull:work:ox:cancel"
AT_MOST_S = 5.0


def started(queue: Queue, job_id: str) -> None:
    until(lambda: queue.logs(job_id) == ["started"], f"job {job_id} has started")


def ended(queue: Queue, job_id: str) -> str:
    """The failed reason of a job that has failed for good."""
    until(lambda: queue.state(job_id) in ("completed", "failed"), f"job {job_id} ended")
    assert queue.state(job_id) == "failed"
    return queue.get(job_id).failed_reason or ""


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


# What the job does, and the last step that it takes to end it: none where it looks for itself.
ENDS = {
    "polite": "",
    "raises_its_own": "",
    "loop": "knock",
    "sleep": "knock",
    "swallows_exceptions": "knock",
    "asks": "knock",
    "coroutine": "knock",
    "swallows_everything": "kill",
    "in_c": "kill",
    "hashes": "kill",
    "ignores_signals": "kill",
    "deaf_coroutine": "kill",
    "blocks_the_loop": "kill",
}


def test_a_job_ends_whatever_it_does_and_is_not_tried_again(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    """All at once, beside one that nobody cancels."""
    running = oxherd("--concurrency", str(len(ENDS) + 1), target="stubborn")
    neighbour = queue.add("returns", {})
    jobs = {queue.add(name, {}, attempts=5).id: name for name in ENDS}
    for job_id in (*jobs, neighbour.id):
        started(queue, job_id)
    asked_at = time.monotonic()

    assert {queue.cancel(job_id, **BY) for job_id in jobs} == {"asked"}

    for job_id in jobs:
        assert ended(queue, job_id) == SENTENCE
    assert time.monotonic() - asked_at < AT_MOST_S
    steps = dict.fromkeys(jobs, "")
    for line in running.events("cancel.pressed"):
        steps[line["job_id"]] = line["step"]
    assert {jobs[job_id]: step for job_id, step in steps.items()} == ENDS
    assert {queue.get(job_id).attempts_made for job_id in jobs} == {1}
    assert not raw.exists(KEY)
    assert queue.state(neighbour.id) == "active"
    for n in range(20):
        assert queue.result(queue.add("echo", n), timeout_ms=10_000) == n
    queue.cancel(neighbour, **BY)
    assert queue.result(neighbour, timeout_ms=10_000) == {"why": SENTENCE}


def test_the_verdict_of_who_was_killed_shows_where_it_was(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    oxherd("--cancel-grace", "0", target="stubborn")
    job = queue.add("swallows_everything", {})
    started(queue, job.id)
    queue.cancel(job, **BY)

    assert ended(queue, job.id) == SENTENCE
    assert "in swallows_everything" in queue.get(job.id).stacktrace[-1]
    assert any("cause cancelled" in row for row in queue.logs(job.id))


@pytest.mark.parametrize("name", ["subprocess", "deaf_subprocess", "pool"])
def test_what_a_job_has_started_ends_with_it(
    oxherd: Callable[..., Running], queue: Queue, tmp_path: Path, name: str
) -> None:
    oxherd("--concurrency", "1", "--cancel-grace", "200ms", target="stubborn")
    file = tmp_path / "pids"
    job = queue.add(name, {"file": str(file)})
    many = 2 if name == "pool" else 1
    until(lambda: file.exists() and len(file.read_text().split()) == many, "its processes are there")
    pids = [int(pid) for pid in file.read_text().split()]
    asked_at = time.monotonic()

    queue.cancel(job, **BY)

    assert ended(queue, job.id) == SENTENCE
    assert time.monotonic() - asked_at < AT_MOST_S
    until(lambda: gone(pids), "its processes are gone", AT_MOST_S)
    assert queue.result(queue.add("echo", 5), timeout_ms=10_000) == 5


def test_a_job_that_sees_it_and_returns_is_completed(oxherd: Callable[..., Running], queue: Queue) -> None:
    oxherd(target="stubborn")
    job = queue.add("returns", {})
    started(queue, job.id)
    queue.cancel(job, **BY)

    assert queue.result(job, timeout_ms=10_000) == {"why": SENTENCE}


def test_clean_up_runs_before_the_kill(oxherd: Callable[..., Running], queue: Queue) -> None:
    oxherd(target="stubborn")
    job = queue.add("cleans_up", {})
    started(queue, job.id)
    queue.cancel(job, **BY)

    assert ended(queue, job.id) == SENTENCE
    assert queue.logs(job.id)[1] == "cleaned up"


def test_who_raises_cancelled_unasked_is_cancelled_by_its_own_word(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    oxherd(target="stubborn")
    job = queue.add("cancels_itself", {}, attempts=3)

    assert ended(queue, job.id) == "nothing to be done"
    assert queue.get(job.id).attempts_made == 1


def test_two_requests_are_one_and_a_third_comes_too_late(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    oxherd(target="stubborn")
    job = queue.add("sleep", {})
    started(queue, job.id)

    assert queue.cancel(job, **BY) == "asked"
    assert queue.cancel(job, reason="another", by="bob") == "asked"
    assert ended(queue, job.id).startswith("cancelled by ")
    with pytest.raises(JobNotInState):
        queue.cancel(job)
    with pytest.raises(JobNotFound):
        queue.cancel("no-such-job")


def test_a_paused_queue_s_jobs_are_cancelled_too(oxherd: Callable[..., Running], queue: Queue) -> None:
    oxherd(target="stubborn")
    job = queue.add("sleep", {})
    started(queue, job.id)
    queue.pause()
    waiting = queue.add("sleep", {})

    assert queue.cancel(waiting, **BY) == "cancelled"
    assert queue.cancel(job, **BY) == "asked"
    assert ended(queue, job.id) == SENTENCE


def test_a_request_that_nobody_was_told_of_is_found_within_half_a_lock_duration(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    """A lost message: the key alone is written."""
    oxherd("--lock-duration", "8s", target="stubborn")
    job = queue.add("polite", {})
    started(queue, job.id)
    raw.hset(KEY, job.id, json.dumps(BY))
    asked_at = time.monotonic()

    assert ended(queue, job.id) == SENTENCE
    assert time.monotonic() - asked_at < 7, "half of it is 4 s"


def test_a_message_about_a_job_that_does_not_run_keeps_it_from_running(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    """As a program of somebody else's does it, for jobs in every state."""
    running = oxherd("--concurrency", "1", target="stubborn")
    busy = queue.add("returns", {})
    started(queue, busy.id)
    jobs = [queue.add("echo", 5), queue.add("echo", 5, delay_ms=60_000), queue.add("echo", 5, priority=2)]
    done = busy.id
    for job_id in (*(job.id for job in jobs), "no-such-job"):
        raw.hset(KEY, job_id, json.dumps(BY))
        raw.publish(KEY, job_id)
    raw.publish(KEY, b"\xff" * 5_000)
    raw.publish(KEY, b"")

    for job in jobs:
        assert ended(queue, job.id) == SENTENCE
    assert queue.state(done) == "active"
    until(lambda: not raw.exists(KEY), "the requests are forgotten")
    running.until("cancel.enforced", 3)
    queue.cancel(busy)


def test_a_request_from_before_the_master_came_is_found_when_it_starts(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    job = queue.add("echo", 5, delay_ms=60_000)
    raw.hset(KEY, mapping={job.id: json.dumps(BY), "gone": "x"})
    oxherd(target="stubborn")

    assert ended(queue, job.id) == SENTENCE
    until(lambda: not raw.exists(KEY), "both requests are forgotten")


def test_a_job_that_is_cancelled_while_it_stalls_does_not_run_on_another_worker(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    first = oxherd("--lock-duration", "1s", "--stalled-interval", "1s", target="stubborn")
    job = queue.add("sleep", {}, attempts=3)
    started(queue, job.id)
    os.kill(first.pid, signal.SIGKILL)
    first.ended()
    assert queue.cancel(job, **BY) == "asked"

    oxherd("--lock-duration", "1s", "--stalled-interval", "1s", target="stubborn")

    assert ended(queue, job.id) == SENTENCE
    assert queue.logs(job.id).count("started") <= 2
    assert not raw.exists(KEY)


def test_a_master_that_stops_still_cancels(oxherd: Callable[..., Running], queue: Queue) -> None:
    running = oxherd(target="stubborn")
    job = queue.add("sleep", {})
    started(queue, job.id)
    running.signal(signal.SIGTERM)
    running.until("stop.requested")
    queue.cancel(job, **BY)

    assert ended(queue, job.id) == SENTENCE
    assert running.ended() == 0


def test_a_stop_that_cuts_off_a_cancelled_job_does_not_hand_it_back(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    running = oxherd(target="stubborn")
    job = queue.add("swallows_everything", {})
    started(queue, job.id)
    queue.cancel(job, **BY)
    running.until("cancel.asked")
    running.signal(signal.SIGQUIT)

    assert running.ended() == 0
    assert ended(queue, job.id) == SENTENCE


def test_a_stop_is_no_cancel_a_job_that_raises_cancelled_for_it_is_handed_back(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    """I9: a deploy burns no attempt."""
    running = oxherd("--stop-grace", "100ms", target="stubborn")
    job = queue.add("polite", {})
    started(queue, job.id)
    running.signal(signal.SIGTERM)

    assert running.ended() == 0
    assert queue.state(job.id) == "waiting"
    assert queue.get(job.id).attempts_made == 0


def test_a_connection_that_is_cut_is_opened_again_and_nothing_is_missed(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis
) -> None:
    running = oxherd(target="stubborn")
    job = queue.add("polite", {})
    started(queue, job.id)
    until(lambda: raw.pubsub_numsub(KEY)[0][1] == 1, "the master listens")
    raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    raw.hset(KEY, job.id, json.dumps(BY))

    running.until("cancel.unheard")
    assert ended(queue, job.id) == SENTENCE


def test_a_master_that_may_not_subscribe_looks_when_it_renews(
    oxherd: Callable[..., Running], queue: Queue, raw: redis.Redis, redis_url: str
) -> None:
    raw.execute_command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
    try:
        url = redis_url.replace("unix://", "unix://deaf:secret@")
        running = oxherd("--redis", url, "--lock-duration", "2s", target="stubborn")
        assert "NOPERM" in running.until("cancel.unheard")["why"]
        job = queue.add("polite", {})
        started(queue, job.id)
        queue.cancel(job, **BY)
        assert ended(queue, job.id) == SENTENCE
    finally:
        raw.execute_command("ACL", "DELUSER", "deaf")


def test_cancels_that_come_as_jobs_end_never_hit_the_next(
    oxherd: Callable[..., Running], queue: Queue
) -> None:
    """Two hundred jobs in one runner, every second one cancelled at some moment about its end."""
    oxherd("--concurrency", "1", "--cancel-grace", "0", target="stubborn")
    queue.result(queue.add("echo", 0), timeout_ms=10_000)
    chance = random.Random(4)
    jobs = queue.add_bulk([("moment", 15)] * 200)
    victims = {job.id for job in jobs[::2]}
    refused: set[str] = set()

    def cancel(url: str) -> None:
        with Queue("work", url=url) as other:
            for job in jobs[::2]:
                seen = until(lambda job=job: (found := other.get(job.id)).processed_on and found, "it begins")
                if seen.finished_on:
                    refused.add(job.id)
                    continue  # we are too slow for it: on with those that are at work now
                time.sleep(chance.random() * 0.02)
                try:
                    other.cancel(job.id, **BY)
                except JobNotInState:
                    refused.add(job.id)

    thread = threading.Thread(target=cancel, args=(queue._url,))
    thread.start()
    thread.join(60)

    outcomes: dict[str, str] = {}
    for job in jobs:
        try:
            queue.result(job, timeout_ms=30_000)
            outcomes[job.id] = "completed"
        except JobFailed as error:
            outcomes[job.id] = str(error)
    hit = {job_id for job_id, what in outcomes.items() if what == SENTENCE}
    assert hit
    assert hit <= victims
    assert set(outcomes.values()) <= {"completed", SENTENCE}
