"""What is told of an abnormal end is written in the call that writes the outcome, or not at all."""

from __future__ import annotations

import json

import pytest

from supervisor.client.job import job_of
from supervisor.protocol import fields
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.job import RetryJob
from supervisor.protocol.commands.work import Completed, Failed, HandedBack, Retried, Told, Written
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.job_record import record_of
from supervisor.protocol.keys import QueueKeys

DEAD = QueueKeys("paint-dead")


def told(cause="signal", rows=("verdict: it crashed",), **parts):
    return Told(json.dumps({"cause": cause}).encode(), rows, **parts)


def take(wire, **parts):
    wire.add(wire.job(**parts))
    (job,) = wire.fetch()
    wire.forget_events()
    return job


def failed(job, keep=KEEP_ALL, **parts):
    return Failed(job.id, job.token, "boom", None, keep, 1, **parts)


def crash_and_fetch(wire, job, **parts):
    """A crash that is tried again at once, and the next attempt."""
    (again,) = wire.exchange([Retried(job.id, job.token, "boom", None, told=told(**parts))], count=1).jobs
    return again


def verdicts(wire, job_id="1"):
    return json.loads(wire.hash(job_id)[fields.VERDICTS])


def logs(wire, job_id="1"):
    return wire.ids(wire.queue.logs(job_id))


def test_a_failure_brings_its_record_its_rows_and_its_count(wire):
    job = take(wire)

    outcome = failed(job, told=told(rows=("one", "two"), is_crash=True))
    assert wire.exchange([outcome]).written == [Written(Code.DONE)]

    assert verdicts(wire) == [{"cause": "signal"}]
    assert wire.hash("1")[fields.CRASHES] == "1"
    assert logs(wire) == ["one", "two"]


@pytest.mark.parametrize("outcome", [Completed, Failed, Retried, HandedBack])
def test_what_nothing_is_told_of_gets_no_field_and_no_log(wire, outcome):
    job = take(wire)
    made = {
        Completed: lambda: Completed(job.id, job.token, b"null", KEEP_ALL),
        Failed: lambda: failed(job),
        Retried: lambda: Retried(job.id, job.token, "boom", None),
        HandedBack: lambda: HandedBack(job.id, job.token),
    }[outcome]()

    wire.exchange([made])

    assert not {fields.CRASHES, fields.VERDICTS} & set(wire.hash("1"))
    assert logs(wire) == []


def test_crashes_are_counted_apart_from_attempts_and_brought_by_the_fetch(wire):
    first = take(wire)
    second = crash_and_fetch(wire, first, is_crash=True)
    third = crash_and_fetch(wire, second, is_crash=False)

    assert [each.crashes for each in (first, second, third)] == [0, 1, 1]
    assert [each.attempts_made for each in (first, second, third)] == [0, 1, 2]


def test_a_job_that_is_handed_back_may_tell_why_and_counts_nothing(wire):
    job = take(wire)

    wire.exchange([HandedBack(job.id, job.token, told("no_runner"))])

    assert verdicts(wire) == [{"cause": "no_runner"}]
    assert fields.CRASHES not in wire.hash("1")


def test_the_last_verdicts_stay_each_on_its_line(wire):
    job = take(wire)
    for cause in "abcdef":
        job = crash_and_fetch(wire, job, cause=cause)

    assert [each["cause"] for each in verdicts(wire)] == list("bcdef")
    assert len(wire.hash("1")[fields.VERDICTS].splitlines()) == 7


def test_long_records_push_out_old_ones_but_never_the_newest(wire):
    job = take(wire)
    for cause in ("a" * 20_000, "b" * 20_000, "c" * 40_000):
        job = crash_and_fetch(wire, job, cause=cause)
        assert len(verdicts(wire)) == 1 and verdicts(wire)[0]["cause"] == cause


def test_the_log_keeps_as_many_rows_as_the_job_says(wire):
    job = take(wire)

    wire.exchange([failed(job, told=told(rows=("one", "two", "three"), keep_rows=2))])

    assert logs(wire) == ["two", "three"]


def test_nonsense_in_our_fields_does_not_keep_a_job_from_its_end(wire):
    job = take(wire)
    wire.raw.hset(wire.queue.job("1"), mapping={fields.CRASHES: "many", fields.VERDICTS: "{]"})
    wire.raw.set(wire.queue.logs("1"), "no list")

    assert wire.exchange([failed(job, told=told(is_crash=True))]).written == [Written(Code.DONE)]

    assert verdicts(wire)[-1] == {"cause": "signal"}
    assert wire.ids(wire.queue.failed) == ["1"]


def test_a_crash_count_that_is_none_is_fetched_as_nought(wire):
    wire.add(wire.job())
    wire.raw.hset(wire.queue.job("1"), fields.CRASHES, "many")
    (job,) = wire.fetch()
    assert job.crashes == 0


def test_nothing_is_told_where_the_lock_is_not_ours(wire):
    """I3, I4: a record of a job that somebody else has would be a lie."""
    job = take(wire)
    wire.raw.set(wire.queue.lock("1"), "someone-else")

    assert wire.exchange([failed(job, told=told(is_crash=True))]).written[0].code == Code.OTHER_LOCK

    assert not {fields.CRASHES, fields.VERDICTS} & set(wire.hash("1"))
    assert logs(wire) == []


def test_a_job_that_is_not_kept_leaves_no_log_behind(wire):
    job = take(wire)

    wire.exchange([failed(job, KeepJobs(count=0), told=told())])

    assert not wire.raw.exists(wire.queue.job("1"), wire.queue.logs("1"))


def test_the_dead_letter_carries_the_verdicts(wire):
    job = take(wire)

    wire.exchange([failed(job, KeepJobs(count=0), told=told(is_crash=True), dead_letter=DEAD)])

    extra = json.loads(wire.hash("1", DEAD)["data"])[fields.LETTER_EXTRA]
    assert extra[fields.CRASHES] == "1"
    assert json.loads(extra[fields.VERDICTS]) == [{"cause": "signal"}]


def test_a_retry_forgets_the_crashes_and_keeps_the_verdicts(wire):
    job = take(wire)
    wire.exchange([failed(job, told=told(is_crash=True))])

    wire.run(RetryJob(wire.queue, "1"))

    assert fields.CRASHES not in wire.hash("1")
    assert verdicts(wire) == [{"cause": "signal"}]


def test_any_text_can_be_told(wire):
    job = take(wire)
    record = json.dumps({"output": 'line\n"quoted" \\ \x00 é 🐂 }'}).encode()

    wire.exchange([failed(job, told=Told(record, ['row "1"\n', "half \ud83d a pair"]))])

    assert verdicts(wire) == [json.loads(record)]
    assert logs(wire)[0] == 'row "1"\n'


def test_a_reader_gets_crashes_and_verdicts_as_values(wire):
    job = take(wire)
    wire.exchange([failed(job, told=told(is_crash=True))])

    flat = [part for pair in wire.raw.hgetall(wire.queue.job("1")).items() for part in pair]
    read = job_of("paint", record_of("1", flat))

    assert (read.crashes, read.verdicts, dict(read.extra)) == (1, ({"cause": "signal"},), {})


def test_one_more_run_with_more_memory_is_marked_in_the_hash_and_burns_nothing(wire):
    """No attempt and no crash is counted; the job is the first of its queue again."""
    job = take(wire)
    assert not job.bigger
    handed = HandedBack(job.id, job.token, told("memory_limit", is_bigger=True))

    (again,) = wire.exchange([handed], count=1).jobs

    assert (again.id, again.bigger, again.crashes, again.attempts_made) == (job.id, True, 0, 0)
    assert again.attempts_started == job.attempts_started
    assert verdicts(wire) == [{"cause": "memory_limit"}]


def test_one_more_run_that_fails_is_followed_by_attempts_with_the_larger_memory(wire):
    """With less, each would meet its limit again, and be owed another run that nobody counts."""
    job = take(wire)
    handed = HandedBack(job.id, job.token, told("memory_limit", is_bigger=True))
    (again,) = wire.exchange([handed], count=1).jobs

    third = crash_and_fetch(wire, again, is_crash=True)

    assert (third.bigger, third.attempts_made, third.crashes) == (True, 1, 1)


def test_a_job_that_is_retried_by_hand_begins_with_the_memory_of_any_other(wire):
    job = take(wire)
    handed = HandedBack(job.id, job.token, told("memory_limit", is_bigger=True))
    (again,) = wire.exchange([handed], count=1).jobs
    wire.exchange([failed(again)])

    wire.run(RetryJob(wire.queue, job.id))

    (third,) = wire.fetch()
    assert not third.bigger
