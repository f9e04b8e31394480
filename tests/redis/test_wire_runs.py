"""Completed jobs that nobody waits for are written together: nothing of that is to be seen."""

from __future__ import annotations

import pytest

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import Completed, Failed, Retried
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs


def batch(wire, count):
    wire.add(count=count)
    jobs = wire.fetch(count)
    wire.forget_events()
    return jobs


def completed(job, keep=KEEP_ALL):
    return Completed(job.id, job.token, b"1", keep)


def failed(job):
    return Failed(job.id, job.token, "boom", "s", KEEP_ALL, 1)


def retried(job):
    return Retried(job.id, job.token, "boom", "s", 0)


def codes(exchange):
    return [result.code for result in exchange.written]


def test_they_are_told_in_the_order_of_the_outcomes_whatever_stands_between(wire):
    a, b, c, d, e, f, g = batch(wire, 7)

    exchange = wire.exchange(
        [completed(a), completed(b), failed(c), completed(d), retried(e), completed(f), completed(g)]
    )

    assert codes(exchange) == [Code.DONE] * 7
    told = [(event["event"], event["jobId"]) for event in wire.events()]
    assert [each for each in told if each[0] != "retries-exhausted"] == [
        ("completed", a.id),
        ("completed", b.id),
        ("failed", c.id),
        ("completed", d.id),
        ("waiting", e.id),
        ("completed", f.id),
        ("completed", g.id),
    ]


def test_a_refused_one_among_them_is_told_alone(wire):
    jobs = batch(wire, 4)
    wire.raw.set(wire.queue.lock(jobs[1].id), "another")
    wire.raw.lrem(wire.queue.active, 0, jobs[2].id)

    exchange = wire.exchange([completed(job) for job in jobs])

    assert codes(exchange) == [Code.DONE, Code.OTHER_LOCK, Code.NOT_IN_STATE, Code.DONE]
    assert wire.ids(wire.queue.completed) == [jobs[0].id, jobs[3].id]
    assert wire.raw.get(wire.queue.lock(jobs[1].id)) == b"another"
    assert wire.raw.exists(*(wire.queue.lock(jobs[i].id) for i in (0, 2, 3))) == 0


@pytest.mark.parametrize("command", ["-zadd", "-hset", "-xadd"])
def test_an_error_in_the_middle_of_a_run_leaves_its_jobs_active_under_their_locks(wire, command):
    """I4: half a job is nobody's; what could not be written can be tried again."""
    jobs = batch(wire, 3)
    outcomes = [completed(job) for job in jobs]
    wire.request("ACL", "SETUSER", "default", command)
    try:
        exchange = wire.exchange(outcomes)
    finally:
        wire.request("ACL", "SETUSER", "default", "+@all")

    assert codes(exchange) == [Code.GUILTY] * 3
    assert all(result.text for result in exchange.written)
    assert sorted(wire.ids(wire.queue.active)) == sorted(job.id for job in jobs)
    assert all(wire.raw.pttl(wire.queue.lock(job.id)) > 0 for job in jobs)
    assert codes(wire.exchange(outcomes)) == [Code.DONE] * 3


def test_one_that_is_trimmed_by_another_of_the_call_is_gone(wire):
    jobs = batch(wire, 3)

    wire.exchange([completed(jobs[0]), completed(jobs[1]), completed(jobs[2], KeepJobs(count=1))])

    assert wire.ids(wire.queue.completed) == [jobs[2].id]


# --- a parent and its child in one call ---------------------------------------------------------------


def parent_and_child(wire):
    """The parent is active and has a child, active too."""
    parent, child = batch(wire, 2)
    told = f'{{"id":"{parent.id}","queueKey":"bull:paint","fpof":true}}'
    wire.raw.hset(wire.queue.job(child.id), mapping={"parentKey": wire.queue.job(parent.id), "parent": told})
    wire.raw.sadd(wire.queue.job(parent.id) + ":dependencies", wire.queue.job(child.id))
    return parent, child


def test_a_parent_may_end_behind_its_last_child(wire):
    parent, child = parent_and_child(wire)

    assert codes(wire.exchange([completed(child), completed(parent)])) == [Code.DONE, Code.DONE]


def test_a_parent_may_not_end_before_its_child(wire):
    parent, child = parent_and_child(wire)

    exchange = wire.exchange([completed(parent), completed(child)])

    assert codes(exchange) == [Code.PENDING_CHILDREN, Code.DONE]


def test_a_parent_whose_child_fails_in_the_same_call_cannot_be_completed(wire):
    parent, child = parent_and_child(wire)

    assert codes(wire.exchange([failed(child), completed(parent)])) == [Code.DONE, Code.FAILED_CHILDREN]


def test_a_job_that_becomes_a_parents_child_in_the_call_is_waited_for(wire):
    """A held-back job starts when its forerunner ends, and its parent ends in the same call."""
    parent, owner = batch(wire, 2)
    wire.raw.hset(wire.queue.job(owner.id), "deid", "d")
    wire.raw.set("bull:paint:de:d", owner.id)
    dependencies = wire.queue.job(parent.id) + ":dependencies"
    held = {"name": "n", "data": "{}", "opts": "{}", "jid": "next", "pdk": dependencies}
    wire.raw.hset("bull:paint:dn:d", mapping=held)

    exchange = wire.exchange([completed(owner), completed(parent)])

    assert codes(exchange) == [Code.DONE, Code.PENDING_CHILDREN]


# --- taking many ------------------------------------------------------------------------------------------


def test_many_are_taken_in_their_order_from_both_lines(wire):
    wire.add(*(wire.job(priority=1) for _ in range(3)), *(wire.job() for _ in range(4)))

    assert [job.id for job in wire.fetch(3)] == ["4", "5", "6"]
    assert [job.id for job in wire.fetch(9)] == ["7", "1", "2", "3"]
    assert wire.ids(wire.queue.active) == ["3", "2", "1", "7", "6", "5", "4"]


def test_what_few_jobs_have_is_read_with_the_rest(wire):
    wire.add(count=2)
    rare = {
        "atm": 2,
        "stc": 1,
        "defa": "why",
        "parent": '{"id":"P"}',
        "rjk": "s",
        "ox:crashes": 3,
        "ox:bigger": 1,
    }
    wire.raw.hset(wire.queue.job("1"), mapping=rare)

    plain, job = reversed(wire.fetch(2))

    assert (job.attempts_made, job.stalled_count, job.deferred, job.parent) == (2, 1, "why", b'{"id":"P"}')
    assert (job.scheduler_id, job.crashes, job.bigger) == ("s", 3, True)
    assert (plain.attempts_made, plain.stalled_count, plain.deferred, plain.parent) == (0, 0, None, None)
    assert (plain.scheduler_id, plain.crashes, plain.bigger) == (None, 0, False)
