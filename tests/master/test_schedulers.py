"""Schedulers kept going by masters: each run adds the next, however many masters there are."""

from __future__ import annotations

import json
import time

from running import until

from supervisor.client.schedulers import (
    Schedule,
    by_cron,
    every,
    get_scheduler,
    list_schedulers,
    remove_scheduler,
    upsert_scheduler,
)


def runs(queue, count, state="completed"):
    return until(
        lambda: len(found := queue.jobs(state, 0, -1)) >= count and found, f"{count} runs are {state}"
    )


def due_times(jobs):
    return [int(job.id.rpartition(":")[2]) for job in jobs]


def test_two_masters_run_each_slot_of_a_schedule_once(oxherd, queue, raw):
    queue.run(upsert_scheduler("tick", every(200), data={"do": "echo"}))
    for _ in range(2):
        oxherd("--concurrency", "2")
    done = runs(queue, 8)

    times = sorted(due_times(done))
    assert len(set(times)) == len(times)
    assert {(time - times[0]) % 200 for time in times} == {0}
    assert queue.counts()["failed"] == 0
    queue.run(remove_scheduler("tick"))
    iterations = raw.xrange("bull:work:events")
    added = [entry[b"jobId"] for _, entry in iterations if entry[b"event"] == b"added"]
    assert len(set(added)) == len(added)


def test_a_cron_schedule_goes_on_from_run_to_run(oxherd, queue):
    queue.run(upsert_scheduler("tick", by_cron("* * * * * *"), name="second", data={"do": "echo"}))
    run = oxherd()
    done = runs(queue, 3)
    assert {job.name for job in done} == {"second"}
    assert all(time % 1_000 == 0 for time in due_times(done))
    run.until("scheduler.advanced")
    scheduler = queue.run(get_scheduler("tick"))
    assert scheduler.iterations >= 3


def test_a_limit_ends_a_schedule(oxherd, queue):
    queue.run(upsert_scheduler("twice", Schedule(every_ms=100, limit=2), data={"do": "echo"}))
    run = oxherd()
    runs(queue, 2)
    until(lambda: queue.counts()["active"] == 0, "nothing runs")
    assert queue.counts()["delayed"] == 0
    run.until("scheduler.advanced")
    assert len(run.events("scheduler.advanced")) == 1


def test_a_failing_run_is_retried_and_adds_the_next_run_once(oxherd, queue):
    queue.run(upsert_scheduler("f", every(60_000), data={"do": "fail_once"}, options={"attempts": 2}))
    oxherd()
    (job,) = runs(queue, 1)
    assert job.attempts_made == 2
    assert queue.counts()["delayed"] == 1
    assert queue.run(get_scheduler("f")).iterations == 2


def test_a_master_that_is_killed_leaves_a_schedule_that_the_next_one_goes_on_with(oxherd, queue):
    queue.run(upsert_scheduler("tick", every(200), data={"do": "echo"}))
    first = oxherd("--lock-duration", "1s", "--stalled-interval", "1s")
    runs(queue, 2)
    first.process.kill()
    first.ended()
    before = len(queue.jobs("completed", 0, -1))
    oxherd("--lock-duration", "1s", "--stalled-interval", "1s")
    times = due_times(runs(queue, before + 3))
    assert len(set(times)) == len(times)
    assert len(queue.run(list_schedulers())) == 1


def test_a_schedule_that_cannot_be_understood_is_told_and_its_job_still_runs(oxherd, queue, raw):
    opts = json.dumps({"repeat": {"pattern": "0 0 15W * *", "count": 1}, "repeatJobKey": "bad"})
    now = time.time_ns() // 1_000_000
    raw.zadd("bull:work:repeat", {"bad": now})
    raw.hset("bull:work:repeat:bad", mapping={"name": "n", "pattern": "0 0 15W * *", "ic": 1})
    job = {"name": "n", "data": '{"do":"echo"}', "opts": opts, "timestamp": now, "delay": 0, "priority": 0}
    raw.hset(f"bull:work:repeat:bad:{now}", mapping=job | {"rjk": "bad"})
    raw.lpush("bull:work:wait", f"repeat:bad:{now}")
    run = oxherd()
    runs(queue, 1)
    assert "W, the nearest weekday" in run.until("scheduler.stuck")["why"]


def test_an_old_repeatable_goes_on_with_its_data_and_the_log_says_what_to_do(oxherd, queue, raw):
    now = time.time_ns() // 1_000_000
    opts = json.dumps({"repeat": {"every": 60_000, "count": 1}, "attempts": 0})
    raw.zadd("bull:work:repeat", {"md5": now})
    raw.hset("bull:work:repeat:md5", mapping={"name": "n", "every": 60_000})
    job = {"name": "n", "data": '{"do":"echo"}', "opts": opts, "timestamp": now, "delay": 0, "priority": 0}
    raw.hset(f"bull:work:repeat:md5:{now}", mapping=job | {"rjk": "md5"})
    raw.lpush("bull:work:wait", f"repeat:md5:{now}")
    run = oxherd()
    assert "then remove this one" in run.until("scheduler.legacy")["advice"]
    (following,) = queue.jobs("delayed")
    assert following.data == {"do": "echo"}


def test_a_worker_on_a_terminal_keeps_a_schedule_going_too(oxherd, queue):
    queue.run(upsert_scheduler("tick", every(200), data={"do": "echo"}))
    oxherd("--inline")
    times = due_times(runs(queue, 3))
    assert len(set(times)) == len(times)
    assert queue.run(get_scheduler("tick")).iterations >= 3
