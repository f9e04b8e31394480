"""A job as a record: what its hash says, and what is said of a hash that somebody broke."""

from __future__ import annotations

import pytest

from supervisor.client.job import Job, added_job, job_of
from supervisor.protocol.job_record import JobRecord
from supervisor.protocol.new_job import JobSpec, encode_job


def test_a_record_reads_as_values():
    job = job_of(
        "thumbnails",
        JobRecord(
            id="17",
            name="resize",
            data=b'{"page":1}',
            opts=b'{"attempts":3,"backoff":{"type":"fixed","delay":5}}',
            timestamp=1,
            attempts_made=2,
            progress=b'{"pct":50}',
            returned=b'"done"',
            stacktrace=b'["one","two"]',
            failed_reason="boom",
            processed_by="w1",
        ),
    )
    assert (job.queue, job.id, job.name, job.data) == ("thumbnails", "17", "resize", {"page": 1})
    assert (job.attempts, job.attempts_made, job.progress, job.returned) == (3, 2, {"pct": 50}, "done")
    assert (job.stacktrace, job.failed_reason, job.processed_by) == (("one", "two"), "boom", "w1")
    assert job.problems == ()


def test_what_is_not_stored_reads_as_bullmq_reads_it():
    job = job_of("q", JobRecord(id="1"))
    assert (job.data, job.progress, job.returned, job.stacktrace, job.attempts) == ({}, 0, None, (), 0)
    assert (job.failed_reason, job.finished_on, job.parent) == (None, None, None)


def test_broken_json_is_named_and_hides_nothing_else():
    job = job_of("q", JobRecord(id="1", data=b"{", opts=b"[1", stacktrace=b'{"no":"list"}', returned=b"7"))
    assert (job.data, job.options, job.attempts, job.stacktrace, job.returned) == (None, {}, 0, (), 7)
    said = [problem.split(" cannot be read as JSON")[0] for problem in job.problems]
    assert said == ["its options", "its data"]


def test_options_that_are_no_object_are_none():
    assert job_of("q", JobRecord(id="1", opts=b"5")).options == {}
    assert job_of("q", JobRecord(id="1", opts=b'{"attempts":"x"}')).attempts == 0


def test_an_added_job_is_what_was_sent():
    spec = JobSpec("resize", {"page": 1}, {"attempts": 2, "delay_ms": 5, "priority": 3})
    job = added_job("q", encode_job(spec, now_ms=99), "8", spec.data)
    assert (job.id, job.data, job.timestamp, job.delay_ms, job.priority) == ("8", {"page": 1}, 99, 5, 3)
    assert (job.attempts, job.options) == (2, {"attempts": 2, "delay": 5, "priority": 3})


def test_a_job_is_frozen():
    with pytest.raises(AttributeError):
        Job(id="1", queue="q").name = "other"  # type: ignore[misc]
