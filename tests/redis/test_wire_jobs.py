"""Single jobs: progress, log, data, and moving one by hand (traces 16, 23, promote, remove)."""

from __future__ import annotations

import pytest

from supervisor.errors import JobError, JobNotFound, JobNotInState, RedisRefused
from supervisor.protocol import fields
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.commands.job import (
    AddLog,
    ChangeDelay,
    ChangePriority,
    ExtendLock,
    PromoteJob,
    ReleaseLock,
    RemoveJob,
    RetryJob,
    UpdateData,
    UpdateProgress,
)
from supervisor.protocol.commands.work import Completed, Failed
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

FLOW = QueueKeys("flow")


def fail_one(wire, **parts):
    wire.add(wire.job(**parts))
    (job,) = wire.fetch()
    wire.exchange([Failed(job.id, job.token, "F", "s", KEEP_ALL, 1)])
    wire.forget_events()
    return job


def test_progress_is_stored_and_told(wire):
    wire.add(count=1)
    wire.forget_events()

    wire.run(UpdateProgress(wire.queue, "1", b'{"pct":5}'))

    assert wire.hash("1")["progress"] == '{"pct":5}'
    assert wire.events() == [{"event": "progress", "jobId": "1", "data": '{"pct":5}'}]


def test_the_log_keeps_its_newest_rows(wire):
    wire.add(count=1)

    assert [wire.run(AddLog(wire.queue, "1", row, 2)) for row in ("l1", "l2", "l3")] == [1, 2, 2]
    assert wire.ids(wire.queue.logs("1")) == ["l2", "l3"]
    assert wire.run(AddLog(wire.queue, "1", "l4")) == 3


def test_data_is_replaced_without_an_event(wire):
    wire.add(count=1)
    wire.forget_events()

    wire.run(UpdateData(wire.queue, "1", b'{"z":1}'))

    assert wire.hash("1")["data"] == '{"z":1}'
    assert wire.events() == []


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (lambda queue: UpdateProgress(queue, "9", b"1"), "updateProgress"),
        (lambda queue: UpdateData(queue, "9", b"1"), "updateData"),
        (lambda queue: AddLog(queue, "9", "row"), "addLog"),
        (lambda queue: ChangeDelay(queue, "9", 5, 5), "changeDelay"),
        (lambda queue: ChangePriority(queue, "9", 5), "changePriority"),
        (lambda queue: RetryJob(queue, "9"), "reprocessJob"),
    ],
)
def test_a_job_that_is_not_there_is_told_as_bullmq_tells_it_and_none_is_made(wire, command, call):
    with pytest.raises(JobNotFound, match=f"^Missing key for job 9. {call}$") as error:
        wire.run(command(wire.queue))

    assert error.value.status == Code.NO_JOB
    assert wire.raw.dbsize() == 0


def test_a_delayed_job_is_due_at_another_time(wire):
    wire.add(wire.job(delay_ms=50_000))
    wire.forget_events()
    wire.now_ms += 5

    wire.run(ChangeDelay(wire.queue, "1", 70_000, wire.now_ms))

    due = wire.now_ms + 70_000
    assert wire.raw.zscore(wire.queue.delayed, "1") == due * 4096
    assert wire.hash("1")["delay"] == "70000"
    assert wire.markers() == {"1": due}
    assert wire.events() == [{"event": "delayed", "jobId": "1", "delay": str(due)}]


@pytest.mark.parametrize(("priority", "key"), [(0, "wait"), (3, "prioritized")])
def test_a_delayed_job_is_promoted(wire, priority, key):
    wire.add(wire.job(delay_ms=50_000, priority=priority))
    wire.forget_events()

    wire.run(PromoteJob(wire.queue, "1"))

    assert wire.ids(getattr(wire.queue, key)) == ["1"]
    assert wire.hash("1")["delay"] == "0"
    assert wire.markers()["0"] == 0
    assert wire.events() == [{"event": "waiting", "jobId": "1", "prev": "delayed"}]


def test_a_job_that_is_not_delayed_is_not_promoted(wire):
    wire.add(count=1)

    with pytest.raises(JobNotInState, match=r"^Job 1 is not in the delayed state\. promote$"):
        wire.run(PromoteJob(wire.queue, "1"))
    with pytest.raises(JobNotInState):
        wire.run(ChangeDelay(wire.queue, "1", 5, 5))


def test_a_waiting_job_changes_its_priority(wire):
    wire.add(count=2)

    wire.run(ChangePriority(wire.queue, "1", 7))
    assert wire.raw.zscore(wire.queue.prioritized, "1") == 7 * 2**32 + 1
    wire.run(ChangePriority(wire.queue, "1", 7, lifo=True))
    assert wire.raw.zscore(wire.queue.prioritized, "1") == 7 * 2**32
    wire.run(ChangePriority(wire.queue, "1", 0))
    assert wire.ids(wire.queue.wait) == ["1", "2"]
    wire.run(ChangePriority(wire.queue, "1", 0, lifo=True))
    assert wire.ids(wire.queue.wait) == ["2", "1"]
    assert wire.hash("1")["priority"] == "0"


def test_a_job_in_another_state_keeps_the_priority_for_later(wire):
    wire.add(wire.job(delay_ms=50))

    wire.run(ChangePriority(wire.queue, "1", 7))

    assert wire.hash("1")["priority"] == "7"
    assert wire.ids(wire.queue.delayed) == ["1"]
    assert wire.raw.exists(wire.queue.prioritized) == 0


def test_a_failed_job_waits_again(wire):
    fail_one(wire)

    wire.run(RetryJob(wire.queue, "1"))

    stored = wire.hash("1")
    assert not {"failedReason", "finishedOn", "processedOn"} & stored.keys()
    assert (stored["atm"], stored["ats"]) == ("1", "1")
    assert wire.ids(wire.queue.wait) == ["1"]
    assert wire.raw.exists(wire.queue.failed) == 0
    assert wire.events() == [{"event": "waiting", "jobId": "1", "prev": "failed"}]


def test_a_retry_forgets_attempts_when_asked_and_keeps_lifo_and_priority(wire):
    fail_one(wire, opts=b'{"lifo":true,"attempts":1}')
    wire.add(count=1)

    wire.run(RetryJob(wire.queue, "1", reset_attempts_made=True, reset_attempts_started=True))

    assert not {"atm", "ats"} & wire.hash("1").keys()
    assert wire.ids(wire.queue.wait) == ["2", "1"]
    wire.raw.delete(wire.queue.wait)
    fail_one(wire, priority=4)
    wire.run(RetryJob(wire.queue, "3"))
    assert wire.ids(wire.queue.prioritized) == ["3"]


def test_a_job_in_another_state_is_not_retried(wire):
    fail_one(wire)

    with pytest.raises(JobNotInState, match=r"^Job 1 is not in the completed state\. reprocessJob$"):
        wire.run(RetryJob(wire.queue, "1", fields.COMPLETED))


def test_a_completed_job_waits_again(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    wire.exchange([Completed(job.id, job.token, b"1", KEEP_ALL)])

    wire.run(RetryJob(wire.queue, "1", fields.COMPLETED))

    assert "returnvalue" not in wire.hash("1")
    assert wire.ids(wire.queue.wait) == ["1"]


@pytest.mark.parametrize("policy", ["fpof", "idof"])
def test_a_parent_waits_again_for_a_child_that_is_retried(wire, policy):
    wire.raw.hset(FLOW.job("P"), "name", "p")
    parent = ParentRef(FLOW.job("P"), f'{{"id":"P","queueKey":"bull:flow","{policy}":true}}'.encode())
    fail_one(wire, parent=parent)
    assert wire.raw.exists(FLOW.job("P") + ":dependencies") == 0

    wire.run(RetryJob(wire.queue, "1"))

    assert wire.raw.smembers(FLOW.job("P") + ":dependencies") == {b"bull:paint:1"}
    assert wire.raw.exists(FLOW.job("P") + ":unsuccessful", FLOW.job("P") + ":failed") == 0


@pytest.mark.parametrize(
    ("parts", "prev"), [({}, "wait"), ({"delay_ms": 5}, "delayed"), ({"priority": 1}, "prioritized")]
)
def test_a_job_is_removed_from_where_it_is_with_its_log(wire, parts, prev):
    wire.add(wire.job(**parts))
    wire.run(AddLog(wire.queue, "1", "row"))
    wire.forget_events()

    assert wire.run(RemoveJob(wire.queue, "1")) is True

    assert wire.raw.exists(wire.queue.job("1"), wire.queue.logs("1"), getattr(wire.queue, prev)) == 0
    assert wire.events() == [{"event": "removed", "jobId": "1", "prev": prev}]


def test_a_locked_job_is_not_removed(wire):
    wire.add(count=1)
    wire.fetch()

    assert wire.run(RemoveJob(wire.queue, "1")) is False
    assert wire.ids(wire.queue.active) == ["1"]


def test_the_pending_job_of_a_scheduler_is_not_removed(wire):
    wire.add(wire.job(job_id="repeat:s:77", delay_ms=5))
    wire.raw.hset(wire.queue.job("repeat:s:77"), "rjk", "s")
    wire.raw.zadd(wire.queue.repeat, {"s": 77})

    with pytest.raises(JobError) as error:
        wire.run(RemoveJob(wire.queue, "repeat:s:77"))
    assert error.value.status == Code.OF_SCHEDULER

    wire.raw.zadd(wire.queue.repeat, {"s": 78})
    assert wire.run(RemoveJob(wire.queue, "repeat:s:77")) is True


def test_removing_what_is_not_there_is_no_error_and_no_event(wire):
    assert wire.run(RemoveJob(wire.queue, "9")) is True
    assert wire.events() == []


def test_the_last_child_removed_releases_its_parent(wire):
    wire.raw.hset(FLOW.job("P"), mapping={"name": "p", "priority": 3, "delay": 500})
    wire.raw.zadd(FLOW.waiting_children, {"P": 1})
    wire.add(wire.job(parent=ParentRef(FLOW.job("P"), b'{"id":"P","queueKey":"bull:flow"}')))

    wire.run(RemoveJob(wire.queue, "1"))

    assert wire.ids(FLOW.wait) == ["P"]
    assert wire.events(FLOW) == [{"event": "waiting", "jobId": "P", "prev": "waiting-children"}]


def test_removing_the_owner_frees_its_deduplication_id(wire):
    wire.add(count=2)
    for job_id in ("1", "2"):
        wire.raw.hset(wire.queue.job(job_id), "deid", "d")
    wire.raw.set("bull:paint:de:d", "1")

    wire.run(RemoveJob(wire.queue, "2"))
    assert wire.raw.get("bull:paint:de:d") == b"1"
    wire.run(RemoveJob(wire.queue, "1"))
    assert wire.raw.exists("bull:paint:de:d") == 0


def test_one_lock_is_renewed_and_given_up_by_its_owner_alone(wire):
    wire.add(count=1)
    (job,) = wire.fetch(lock_ms=5_000)

    assert wire.run(ExtendLock(wire.queue, "1", "other", 60_000)) is False
    assert wire.run(ExtendLock(wire.queue, "1", job.token, 60_000)) is True
    assert wire.raw.pttl(wire.queue.lock("1")) > 5_000
    assert wire.run(ReleaseLock(wire.queue, "1", "other")) is False
    assert wire.run(ReleaseLock(wire.queue, "1", job.token)) is True
    assert wire.raw.exists(wire.queue.lock("1")) == 0


@pytest.mark.parametrize(
    "command",
    [
        lambda queue: PromoteJob(queue, "1"),
        lambda queue: ChangePriority(queue, "1", 3),
    ],
)
def test_a_key_of_another_type_leaves_the_job_as_it_was(wire, command):
    wire.add(wire.job(delay_ms=5))
    wire.raw.set(wire.queue.prioritized, "x")

    with pytest.raises(RedisRefused, match="job 1 is as it was: the key bull:paint:prioritized is a string"):
        wire.run(command(wire.queue))
    assert wire.ids(wire.queue.delayed) == ["1"]
