"""Whole queues and what is read of them (traces 14, 14b, 17, pause-resume, getters-ranges)."""

from __future__ import annotations

import pytest

from supervisor.protocol import fields
from supervisor.protocol.commands.job import AddLog
from supervisor.protocol.commands.queue import (
    PauseQueue,
    RateLimitQueue,
    RegisterQueue,
    RemoveGlobalRateLimit,
    SetGlobalConcurrency,
    SetGlobalRateLimit,
    WakeWorker,
    resume_queue,
)
from supervisor.protocol.commands.read import (
    GetCounts,
    GetJob,
    GetJobIds,
    GetJobs,
    GetLimits,
    GetLogs,
    GetMeta,
    GetState,
    IsPaused,
    QueueLimits,
)
from supervisor.protocol.commands.work import AnyStarted, Completed, CountWork, Failed, Limiter, WorkLeft
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.steps import drive_blocking


def resume(wire):
    drive_blocking(resume_queue(wire.queue), wire.run)


# --- what a queue tells of itself ---------------------------------------------------------------------


def test_a_new_queue_is_registered(wire):
    wire.run(RegisterQueue(wire.queue, "oxherd:0.1.0", 500))

    assert wire.run(GetMeta(wire.queue)) == {"opts.maxLenEvents": "500", "version": "oxherd:0.1.0"}


def test_what_another_client_wrote_is_not_replaced_but_our_older_version_is(wire):
    wire.raw.hset(wire.queue.meta, mapping={"opts.maxLenEvents": 77, "version": "bullmq:6.7.0"})
    wire.run(RegisterQueue(wire.queue, "oxherd:0.2.0"))
    assert wire.run(GetMeta(wire.queue)) == {"opts.maxLenEvents": "77", "version": "bullmq:6.7.0"}

    wire.raw.hset(wire.queue.meta, "version", "oxherd:0.1.0")
    wire.run(RegisterQueue(wire.queue, "oxherd:0.2.0"))
    assert wire.run(GetMeta(wire.queue))["version"] == "oxherd:0.2.0"


# --- pause and resume -----------------------------------------------------------------------------------


def test_a_paused_queue_keeps_its_lists_and_loses_its_marker(wire):
    wire.add(count=1)
    wire.forget_events()

    wire.run(PauseQueue(wire.queue))

    assert wire.run(IsPaused(wire.queue)) is True
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.markers() == {}
    assert wire.events() == [{"event": "paused"}]
    assert wire.fetch() == []


def test_resuming_wakes_a_worker_for_what_waits(wire):
    wire.run(PauseQueue(wire.queue))
    wire.add(wire.job(priority=3))
    wire.forget_events()

    resume(wire)

    assert wire.run(IsPaused(wire.queue)) is False
    assert wire.markers() == {"0": 0}
    assert wire.events() == [{"event": "resumed"}]


def test_resuming_with_nothing_waiting_marks_the_next_due(wire):
    wire.run(PauseQueue(wire.queue))
    wire.add(wire.job(delay_ms=50))
    wire.raw.delete(wire.queue.marker)

    resume(wire)

    assert wire.markers() == {"1": wire.now_ms + 50}


def test_what_bullmq_5_put_aside_comes_back_to_run_first_and_nothing_is_lost(wire):
    wire.run(PauseQueue(wire.queue))
    wire.raw.rpush(wire.queue.wait, "w2", "w1")
    wire.raw.rpush(wire.queue.paused, *(f"p{n}" for n in range(15_000)))
    wire.forget_events()

    resume(wire)

    assert wire.ids(wire.queue.wait) == ["w2", "w1", *(f"p{n}" for n in range(15_000))]
    assert wire.raw.exists(wire.queue.paused) == 0
    assert wire.events() == [{"event": "resumed"}]


def test_a_list_put_aside_alone_becomes_the_waiting_list(wire):
    wire.raw.hset(wire.queue.meta, "paused", 1)
    wire.raw.rpush(wire.queue.paused, "b", "a")

    resume(wire)

    assert wire.ids(wire.queue.wait) == ["b", "a"]


# --- limits -----------------------------------------------------------------------------------------------


def test_raising_the_concurrency_wakes_a_worker_for_what_waits(wire):
    wire.run(SetGlobalConcurrency(wire.queue, 1))
    wire.add(count=2)
    assert len(wire.fetch(5)) == 1
    wire.raw.delete(wire.queue.marker)

    wire.run(SetGlobalConcurrency(wire.queue, 2))
    assert wire.markers() == {"0": 0}
    assert len(wire.fetch(5)) == 1
    wire.run(SetGlobalConcurrency(wire.queue, None))
    assert wire.run(GetLimits(wire.queue)) == QueueLimits(None, None, None)


def test_an_empty_queue_is_woken_by_no_limit(wire):
    wire.run(SetGlobalConcurrency(wire.queue, 1))

    assert wire.markers() == {}


def test_the_global_rate_is_set_read_and_taken_away(wire):
    wire.run(SetGlobalRateLimit(wire.queue, 2, 1_000))
    assert wire.run(GetLimits(wire.queue)) == QueueLimits(None, 2, 1_000)
    wire.add(count=3)
    assert len(wire.fetch(3)) == 2

    wire.run(RemoveGlobalRateLimit(wire.queue))
    assert len(wire.fetch(3)) == 1


def test_a_queue_is_held_and_let_go_for_those_with_a_limiter(wire):
    wire.add(count=1)
    wire.run(RateLimitQueue(wire.queue, 60_000))
    assert wire.fetch(limiter=Limiter(5, 100)) == []
    wire.raw.delete(wire.queue.marker)

    wire.run(RateLimitQueue(wire.queue, 0))

    assert wire.markers() == {"0": 0}
    assert len(wire.fetch(limiter=Limiter(5, 100))) == 1


def test_a_marker_is_put_back_but_not_on_a_paused_queue(wire):
    wire.run(WakeWorker(wire.queue))
    assert wire.markers() == {"0": 0}

    wire.run(PauseQueue(wire.queue))
    wire.run(WakeWorker(wire.queue))
    assert wire.markers() == {}


# --- reading ------------------------------------------------------------------------------------------------


def fill(wire):
    """One job in each state but waiting-children: its name is its state."""
    wire.add(wire.job("completed"), wire.job("failed"), wire.job("active"))
    done, broken, _ = wire.fetch(3)
    wire.exchange(
        [
            Completed(done.id, done.token, b'{"a":1}', KEEP_ALL),
            Failed(broken.id, broken.token, "boom", "at x", KEEP_ALL, 1),
        ]
    )
    wire.add(
        wire.job("waiting", opts=b'{"attempts":3}'),
        wire.job("delayed", delay_ms=9_000),
        wire.job("prioritized", priority=2),
    )


def test_every_state_is_told(wire):
    fill(wire)
    wire.raw.zadd(wire.queue.waiting_children, {"P": 1})
    wire.raw.lpush(wire.queue.paused, "aside")

    states = {job_id: wire.run(GetState(wire.queue, job_id)) for job_id in ("P", "aside", "none")}

    assert states == {"P": "waiting-children", "aside": "waiting", "none": "unknown"}
    for number in range(1, 7):
        record = wire.run(GetJob(wire.queue, str(number)))
        assert wire.run(GetState(wire.queue, record.id)) == record.name


def test_counts_take_what_was_put_aside_as_waiting(wire):
    fill(wire)
    wire.raw.lpush(wire.queue.paused, "aside")

    counts = wire.run(GetCounts(wire.queue))

    assert counts == dict.fromkeys(fields.STATES, 1) | {"waiting": 2, "waiting-children": 0}


def test_a_record_has_every_field_typed_and_json_as_it_came(wire):
    fill(wire)

    done, broken, active, absent = wire.run(GetJobs(wire.queue, ["1", "2", "3", "99"]))

    assert (done.returned, done.attempts_made, done.finished_on) == (b'{"a":1}', 1, wire.now_ms)
    assert (broken.failed_reason, broken.stacktrace, broken.returned) == ("boom", b'["at x"]', None)
    assert (active.processed_on, active.finished_on, active.progress) == (wire.now_ms, None, None)
    assert absent is None
    assert wire.run(GetJob(wire.queue, "99")) is None


def test_a_record_keeps_what_it_does_not_know_and_reads_old_names(wire):
    wire.raw.hset(
        wire.queue.job("x"), mapping={"name": "n", "attemptsMade": 4, "atm": 1, "nrjid": "y", "ts": ""}
    )

    record = wire.run(GetJob(wire.queue, "x"))

    assert record.attempts_made == 4
    assert record.extra == {"nrjid": "y", "ts": ""}


@pytest.mark.parametrize(
    ("start", "end", "newest_first", "expected"),
    [
        (0, -1, False, ["1", "2", "3", "4"]),
        (0, -1, True, ["4", "3", "2", "1"]),
        (0, 1, False, ["1", "2"]),
        (1, 2, True, ["3", "2"]),
        (1, -2, False, ["2", "3"]),
        (3, 9, False, ["4"]),
        (9, 20, False, []),
        (9, 20, True, []),
    ],
)
def test_ids_come_in_either_order_and_in_ranges(wire, start, end, newest_first, expected):
    wire.add(count=4)
    assert wire.run(GetJobIds(wire.queue, "waiting", start, end, newest_first)) == expected

    wire.raw.zadd(wire.queue.completed, {str(number): number for number in range(1, 5)})
    assert wire.run(GetJobIds(wire.queue, "completed", start, end, newest_first)) == expected


def test_ids_that_were_put_aside_run_first_and_markers_are_no_ids(wire):
    wire.raw.rpush(wire.queue.wait, "b", "a", "0:0")
    wire.raw.rpush(wire.queue.paused, "d", "c")

    assert wire.run(GetJobIds(wire.queue, "waiting")) == ["c", "d", "a", "b"]
    assert wire.run(GetJobIds(wire.queue, "waiting", newest_first=True)) == ["b", "a", "d", "c"]


def test_the_log_is_read_oldest_first(wire):
    wire.add(count=1)
    for row in ("a", b"\xff", "c"):
        wire.run(AddLog(wire.queue, "1", row))

    assert wire.run(GetLogs(wire.queue, "1")) == ["a", "\ufffd", "c"]
    assert wire.run(GetLogs(wire.queue, "1", 1, 1)) == ["\ufffd"]


def test_what_is_left_to_do_is_counted(wire):
    fill(wire)
    wire.raw.lpush(wire.queue.paused, "aside")
    wire.raw.hset(wire.queue.meta, "paused", 1)

    assert wire.run(CountWork(wire.queue)) == WorkLeft(2, 1, True, ["5"])
    assert wire.run(AnyStarted(wire.queue, ["5", "99"])) is False
    assert wire.run(AnyStarted(wire.queue, ["5", "3"])) is True
