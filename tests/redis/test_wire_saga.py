"""The record of a saga on the wire."""

from __future__ import annotations

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.saga import GetRecord, KeepRecord
from supervisor.protocol.commands.work import HandedBack

RECORD = b'[["seat",4]]'


def keep(wire, job, token=None):
    return wire.run(KeepRecord(wire.queue, job.id, token or job.token, RECORD))


def test_a_record_is_kept_with_the_job_and_given_back(wire):
    wire.add(count=1)
    (job,) = wire.fetch()
    assert wire.run(GetRecord(wire.queue, job.id)) == b"[]"

    assert keep(wire, job) == keep(wire, job) == 0

    assert wire.run(GetRecord(wire.queue, job.id)) == RECORD
    assert wire.hash(job.id)["ox:saga"] == RECORD.decode()


def test_only_the_attempt_that_holds_the_lock_keeps_a_record(wire):
    """I4: every write carries the token."""
    wire.add(count=1)
    (job,) = wire.fetch()
    assert keep(wire, job, "another's") == Code.OTHER_LOCK

    wire.exchange([HandedBack(job.id, job.token)])
    assert keep(wire, job) == Code.NO_LOCK
    wire.raw.delete(wire.queue.job(job.id))
    assert keep(wire, job) == Code.NO_JOB
    assert not wire.raw.exists(wire.queue.job(job.id))
