"""What a child's end does to its parent, as recorded in traces 06, 09 to 13, 18 and 19."""

from __future__ import annotations

import pytest

from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.commands.work import Completed, Failed
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.keys import QueueKeys

FLOW = QueueKeys("flow")
PARENT = FLOW.job("P")
CHILD = "bull:paint:1"


def family(wire, policy="", siblings=1, where="waiting-children", **parent_fields):
    """A parent with a first child, which is active, and `siblings` more."""
    wire.raw.hset(PARENT, mapping={"name": "p", "data": "{}", "delay": 0, "priority": 0, **parent_fields})
    if where == "active":
        wire.raw.lpush(FLOW.active, "P")
    else:
        wire.raw.zadd(f"bull:flow:{where}", {"P": wire.now_ms})
    flag = f',"{policy}":true' if policy else ""
    ref = ParentRef(PARENT, f'{{"id":"P","queueKey":"bull:flow"{flag}}}'.encode())
    wire.add(*(wire.job(parent=ref) for _ in range(siblings + 1)))
    return wire.fetch()[0]


def complete(wire, job, **parts):
    wire.exchange([Completed(job.id, job.token, b"10", **{"keep": KEEP_ALL, **parts})])


def fail(wire, job, keep=KEEP_ALL):
    wire.exchange([Failed(job.id, job.token, "child broke", "s", keep, 1)])


def pending(wire):
    return {member.decode() for member in wire.raw.smembers(PARENT + ":dependencies")}


def test_a_parent_is_released_by_its_last_child(wire):
    first = family(wire)

    complete(wire, first)
    assert wire.raw.hgetall(PARENT + ":processed") == {CHILD.encode(): b"10"}
    assert wire.ids(FLOW.waiting_children) == ["P"]
    complete(wire, wire.fetch()[0])

    assert wire.ids(FLOW.wait) == ["P"]
    assert wire.raw.zscore(FLOW.marker, "0") == 0
    assert wire.events(FLOW) == [{"event": "waiting", "jobId": "P", "prev": "waiting-children"}]


def test_a_released_parent_runs_next_or_by_its_priority_or_after_its_delay(wire):
    complete(wire, family(wire, siblings=0, priority=3))
    assert wire.raw.zscore(FLOW.prioritized, "P") == 3 * 2**32 + 1

    wire.raw.flushall()
    complete(wire, family(wire, siblings=0, delay=500))
    assert wire.raw.zscore(FLOW.delayed, "P") == (wire.now_ms + 500) * 4096
    assert wire.events(FLOW) == [{"event": "delayed", "jobId": "P", "delay": str(wire.now_ms + 500)}]
    assert wire.raw.zscore(FLOW.marker, "1") == wire.now_ms + 500

    wire.raw.flushall()
    wire.raw.lpush(FLOW.wait, "before")
    complete(wire, family(wire, siblings=0))
    assert wire.ids(FLOW.wait) == ["before", "P"]


def test_a_parent_in_a_paused_queue_is_released_without_waking_anybody(wire):
    wire.raw.hset(FLOW.meta, "paused", 1)

    complete(wire, family(wire, siblings=0))

    assert wire.ids(FLOW.wait) == ["P"]
    assert wire.raw.exists(FLOW.marker) == 0


def test_a_failed_child_fails_its_parent(wire):
    fail(wire, family(wire, "fpof"))

    assert pending(wire) == {"bull:paint:2"}
    assert wire.raw.zrange(PARENT + ":unsuccessful", 0, -1) == [CHILD.encode()]
    assert wire.hash("P", FLOW)["defa"] == f"child {CHILD} failed"
    assert wire.ids(FLOW.wait) == ["P"]
    assert wire.events(FLOW) == [{"event": "waiting", "jobId": "P", "prev": "waiting-children"}]


def test_a_delayed_parent_fails_without_waiting_for_its_time(wire):
    fail(wire, family(wire, "fpof", where="delayed", delay=90_000))

    assert wire.hash("P", FLOW)["delay"] == "0"
    assert wire.ids(FLOW.wait) == ["P"]


def test_an_active_parent_is_only_marked(wire):
    fail(wire, family(wire, "fpof", where="active"))

    assert wire.hash("P", FLOW)["defa"] == f"child {CHILD} failed"
    assert wire.ids(FLOW.active) == ["P"]
    assert wire.raw.exists(FLOW.wait) == 0


def test_a_failed_parent_stays_as_it_is(wire):
    first = family(wire, "fpof")
    wire.raw.zrem(FLOW.waiting_children, "P")
    wire.raw.zadd(FLOW.failed, {"P": wire.now_ms})
    fail(wire, first)

    assert "defa" not in wire.hash("P", FLOW)


def test_a_parent_that_continues_is_released_with_children_pending(wire):
    fail(wire, family(wire, "cpof"))

    assert wire.raw.hgetall(PARENT + ":failed") == {CHILD.encode(): b"child broke"}
    assert wire.ids(FLOW.wait) == ["P"]
    assert pending(wire) == {"bull:paint:2"}


@pytest.mark.parametrize(("policy", "told"), [("idof", {CHILD.encode(): b"child broke"}), ("rdof", {})])
def test_a_failure_that_does_not_count_lets_the_parent_wait_for_the_others(wire, policy, told):
    fail(wire, family(wire, policy))
    assert wire.ids(FLOW.waiting_children) == ["P"]

    fail(wire, wire.fetch()[0])
    assert wire.ids(FLOW.wait) == ["P"]
    assert wire.raw.hgetall(PARENT + ":failed").items() >= told.items()


def test_without_a_policy_the_parent_goes_on_waiting(wire):
    fail(wire, family(wire, siblings=0))

    assert pending(wire) == {CHILD}
    assert wire.ids(FLOW.waiting_children) == ["P"]


def test_a_failed_child_that_is_not_kept_is_no_longer_waited_for(wire):
    fail(wire, family(wire, siblings=0, priority=3), KeepJobs(count=0))

    assert wire.ids(FLOW.wait) == ["P"]


def test_a_failed_child_that_is_trimmed_later_is_no_longer_waited_for(wire):
    fail(wire, family(wire, siblings=0))
    wire.add(count=1)

    fail(wire, wire.fetch()[0], KeepJobs(count=1))

    assert wire.ids(FLOW.wait) == ["P"]


def test_a_completed_child_that_is_not_kept_leaves_its_value(wire):
    complete(wire, family(wire, siblings=0), keep=KeepJobs(count=0))

    assert wire.raw.hgetall(PARENT + ":processed") == {CHILD.encode(): b"10"}
    assert wire.raw.exists(wire.queue.job("1")) == 0


def test_a_parent_id_with_colons_is_found_by_the_childs_own_field(wire):
    wire.raw.hset(FLOW.job("a:b:c"), "name", "p")
    wire.raw.zadd(FLOW.waiting_children, {"a:b:c": 1})
    wire.add(wire.job(parent=ParentRef(FLOW.job("a:b:c"), b'{"id":"a:b:c","queueKey":"bull:flow"}')))

    complete(wire, wire.fetch()[0])

    assert wire.ids(FLOW.wait) == ["a:b:c"]


def test_a_parent_goes_on_waiting_while_another_child_is_pending(wire):
    fail(wire, family(wire, siblings=1), KeepJobs(count=0))

    assert wire.ids(FLOW.waiting_children) == ["P"]
    assert pending(wire) == {"bull:paint:2"}
