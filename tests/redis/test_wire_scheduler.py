"""Job schedulers on the wire: what an upsert stores, when the next run is, and who adds it."""

from __future__ import annotations

import json

import pytest

from supervisor.errors import JobError
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.scheduler import (
    CountSchedulers,
    GetScheduler,
    GetSchedulerIds,
    GetSchedulers,
    NextIteration,
    RemoveScheduler,
    UpsertScheduler,
)
from supervisor.protocol.commands.work import Completed
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.schedule import Schedule, every, following_run, next_by_pattern, template_of

MINUTE_MS = 60_000


@pytest.fixture
def plan(wire):
    """Upsert a scheduler; returns its `NextRun`."""

    def upsert(schedule: Schedule, scheduler_id: str = "s", name: str = "tick", data=None, **options):
        checked = schedule.checked(wire.now_ms)
        template = template_of(name, data, options, defaults={}, max_data_bytes=1_000)
        cron_ms = None
        if checked.pattern:
            cron_ms = (
                wire.now_ms
                if checked.immediately
                else next_by_pattern(checked.pattern, checked.tz, after_ms=wire.now_ms)
            )
        return wire.run(UpsertScheduler(wire.queue, scheduler_id, checked, template, wire.now_ms, cron_ms))

    return upsert


@pytest.fixture
def go_on(wire):
    """What a worker does with a job it has fetched: the id of the next run's job, a refusal, or None."""

    def advance(job):
        run = following_run(job.opts, job.scheduler_id, wire.now_ms)
        if run is None:
            return None
        return wire.run(NextIteration(wire.queue, job.scheduler_id, job.id, run, wire.now_ms))

    return advance


def record(wire, scheduler_id="s"):
    return {
        k.decode(): v.decode() for k, v in wire.raw.hgetall(f"{wire.queue.repeat}:{scheduler_id}").items()
    }


def test_the_first_run_of_every_is_due_at_once(wire, plan):
    run = plan(every(MINUTE_MS), data={"a": 1}, priority=0)
    assert (run.due_on, run.delay_ms, run.job_id) == (wire.now_ms, 0, f"repeat:s:{wire.now_ms}")
    assert wire.ids(wire.queue.wait) == [run.job_id]
    job = wire.hash(run.job_id)
    assert job["rjk"] == "s"
    assert json.loads(job["opts"]) == {
        "priority": 0,
        "repeat": {"every": MINUTE_MS, "count": 1},
        "repeatJobKey": "s",
        "jobId": run.job_id,
        "delay": 0,
        "timestamp": wire.now_ms,
    }
    assert record(wire)["data"] == '{"a":1}'
    assert record(wire)["ic"] == "1"


def test_a_fetched_run_tells_its_scheduler_and_adds_the_next(wire, plan, go_on):
    plan(every(MINUTE_MS), data={"a": 1})
    (job,) = wire.fetch()
    assert job.scheduler_id == "s"
    wire.now_ms += 10
    added = go_on(job)
    assert added == f"repeat:s:{wire.now_ms - 10 + MINUTE_MS}"
    following = wire.hash(added)
    assert (following["data"], following["delay"]) == ('{"a":1}', str(MINUTE_MS - 10))
    assert json.loads(following["opts"])["repeat"]["count"] == 2
    assert record(wire)["ic"] == "2"


def test_the_same_run_adds_the_next_one_only_once(wire, plan, go_on):
    """However often it is sent: a lost reply, a retry, another master."""
    plan(every(MINUTE_MS))
    (job,) = wire.fetch()
    assert go_on(job) is not None
    assert go_on(job) is None
    assert wire.raw.zcard(wire.queue.delayed) == 1
    assert record(wire)["ic"] == "2"


def test_runs_that_were_missed_are_left_out_and_the_grid_is_kept(wire, plan, go_on):
    start = plan(every(MINUTE_MS)).due_on
    wire.now_ms += 5 * MINUTE_MS + 1_000
    (job,) = wire.fetch()
    assert go_on(job) == f"repeat:s:{start + 6 * MINUTE_MS}"


def test_an_offset_is_counted_from_whole_multiples(wire, plan):
    run = plan(every(MINUTE_MS, offset_ms=7_000))
    assert run.due_on % MINUTE_MS == 7_000
    assert wire.now_ms < run.due_on <= wire.now_ms + MINUTE_MS
    assert record(wire)["offset"] == "7000"


def test_a_start_date_is_the_first_run(wire, plan):
    assert plan(Schedule(every_ms=MINUTE_MS, start_on=wire.now_ms + 5_000)).delay_ms == 5_000


def test_an_upsert_replaces_the_pending_job_and_keeps_its_time(wire, plan, go_on):
    plan(every(MINUTE_MS))
    (job,) = wire.fetch()
    pending = go_on(job)
    again = plan(every(MINUTE_MS), name="tock", data=[1])
    assert again.job_id == pending
    assert wire.hash(pending)["name"] == "tock"
    assert wire.ids(wire.queue.delayed) == [pending]
    wire.now_ms += 10
    assert plan(every(2 * MINUTE_MS)).due_on == wire.now_ms  # another rhythm begins anew
    assert wire.raw.exists(wire.queue.job(pending)) == 0


def test_an_upsert_on_a_paused_queue_leaves_one_pending_job(wire, plan):
    wire.raw.hset(wire.queue.meta, "paused", 1)
    plan(every(MINUTE_MS))
    wire.now_ms += 10
    again = plan(every(MINUTE_MS))
    assert wire.ids(wire.queue.wait) == [again.job_id]
    assert wire.raw.zcard(wire.queue.delayed) == 0


def test_a_cron_run_remembers_the_time_it_was_for(wire, plan, go_on):
    first = plan(Schedule(pattern="*/2 * * * * *"))
    assert json.loads(wire.hash(first.job_id)["opts"])["prevMillis"] == first.due_on
    wire.now_ms = first.due_on
    (job,) = wire.fetch()
    assert go_on(job) == f"repeat:s:{first.due_on + 2_000}"


def test_the_limit_and_the_end_stop_a_scheduler(wire, plan, go_on):
    plan(Schedule(every_ms=MINUTE_MS, limit=1), "limited")
    plan(Schedule(every_ms=MINUTE_MS, end_on=wire.now_ms + 1_000), "ended")
    limited, ended = wire.fetch(2)
    assert go_on(limited) is None
    assert go_on(ended) is None
    assert wire.raw.zcard(wire.queue.delayed) == 0


def test_a_run_whose_place_is_taken_comes_one_later(wire, plan, go_on):
    start = plan(every(MINUTE_MS)).due_on
    wire.raw.hset(wire.queue.job(f"repeat:s:{start + MINUTE_MS}"), "name", "somebody")
    (job,) = wire.fetch()
    assert go_on(job) == f"repeat:s:{start + 2 * MINUTE_MS}"


def test_a_cron_run_whose_place_is_taken_is_refused_so_that_a_later_one_is_asked_for(wire, plan, go_on):
    first = plan(Schedule(pattern="* * * * * *", immediately=True))
    (job,) = wire.fetch()
    wire.raw.hset(wire.queue.job(f"repeat:s:{first.due_on + 1_000}"), "name", "somebody")
    assert go_on(job) is Code.ID_COLLISION


def test_an_upsert_finds_no_slot_when_the_next_33_are_taken(wire, plan):
    for slot in range(33):
        wire.raw.hset(wire.queue.job(f"repeat:s:{wire.now_ms + slot * MINUTE_MS}"), "name", "somebody")
    with pytest.raises(JobError, match="time slots already have jobs") as refused:
        plan(every(MINUTE_MS))
    assert refused.value.status == Code.SLOTS_BUSY


def test_removing_a_scheduler_removes_its_delayed_job_and_tells(wire, plan, go_on):
    plan(every(MINUTE_MS))
    (job,) = wire.fetch()
    pending = go_on(job)
    wire.forget_events()
    assert wire.run(RemoveScheduler(wire.queue, "s")) is True
    assert wire.events() == [{"event": "removed", "jobId": pending, "prev": "delayed"}]
    assert wire.run(RemoveScheduler(wire.queue, "s")) is False
    assert wire.raw.exists(wire.queue.repeat, wire.queue.job(pending), f"{wire.queue.repeat}:s") == 0
    assert go_on(job) is None


def test_schedulers_are_listed_in_pages_by_their_next_run(wire, plan):
    for place, name in enumerate("abc"):
        plan(Schedule(every_ms=MINUTE_MS, start_on=wire.now_ms + (place + 1) * 1_000), name)
    entries = wire.run(GetSchedulerIds(wire.queue, 0, 1, False))
    assert [scheduler_id for scheduler_id, _ in entries] == ["a", "b"]
    assert wire.run(GetSchedulerIds(wire.queue, 0, 0, True))[0][0] == "c"
    assert [each.every_ms for each in wire.run(GetSchedulers(wire.queue, entries))] == [MINUTE_MS] * 2
    assert wire.run(CountSchedulers(wire.queue)) == 3
    one = wire.run(GetScheduler(wire.queue, "a"))
    assert (one.id, one.next_on, one.iterations, one.legacy) == ("a", wire.now_ms + 1_000, 1, False)
    assert wire.run(GetScheduler(wire.queue, "nobody")) is None


def test_repeatables_of_old_clients_are_recognised(wire):
    wire.raw.zadd(wire.queue.repeat, {"md5": 5, "name:::: 0 1 * * *": 6, "name::::60000": 7, "orphan": 8})
    wire.raw.hset(f"{wire.queue.repeat}:md5", mapping={"name": "n", "pattern": "0 0 1 1 *"})
    entries = wire.run(GetSchedulerIds(wire.queue, 0, -1, False))
    found = wire.run(GetSchedulers(wire.queue, entries))
    assert [each and (each.name, each.legacy) for each in found] == [
        ("n", True),
        ("name", True),
        ("name", True),
        None,
    ]


def test_the_data_of_an_old_repeatable_is_kept_though_only_its_job_has_it(wire, go_on):
    wire.raw.zadd(wire.queue.repeat, {"md5": wire.now_ms})
    wire.raw.hset(f"{wire.queue.repeat}:md5", mapping={"name": "n", "every": MINUTE_MS})
    opts = json.dumps({"repeat": {"every": MINUTE_MS, "count": 1}}).encode()
    wire.add(wire.job("n", data=b'{"a":1}', opts=opts, job_id=f"repeat:md5:{wire.now_ms}"))
    wire.raw.hset(wire.queue.job(f"repeat:md5:{wire.now_ms}"), "rjk", "md5")
    (job,) = wire.fetch()
    assert wire.hash(go_on(job))["data"] == '{"a":1}'


def test_an_id_of_any_text_is_kept(wire, plan, go_on):
    odd = 'a:b "c" é/ [*]'
    plan(every(MINUTE_MS), odd)
    (job,) = wire.fetch()
    added = go_on(job)
    assert json.loads(wire.hash(added)["opts"])["jobId"] == added == f"repeat:{odd}:{wire.now_ms + MINUTE_MS}"


def test_a_corrupt_key_is_named_and_nothing_is_written(wire, plan):
    wire.raw.set(wire.queue.repeat, "nonsense")
    with pytest.raises(JobError, match="is a string, not a zset"):
        plan(every(MINUTE_MS))
    assert wire.raw.exists(wire.queue.wait, wire.queue.id, f"{wire.queue.repeat}:s") == 0


def test_the_run_that_a_worker_did_not_finish_adds_no_second_one(wire, plan, go_on):
    plan(every(MINUTE_MS), attempts=3)
    (job,) = wire.fetch()
    pending = go_on(job)
    wire.exchange([Completed(job.id, job.token, b"1", KEEP_ALL)])
    assert go_on(job) is None
    assert wire.ids(wire.queue.delayed) == [pending]
