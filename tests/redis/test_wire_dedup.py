"""Deduplication on the wire, where the recorded traces do not go (management.md section 2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.errors import InvalidJob
from supervisor.protocol.commands.add import NotAdded
from supervisor.protocol.commands.deduplication import GetDeduplicationOwner, RemoveDeduplication
from supervisor.protocol.commands.work import Completed
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.new_job import JobSpec, encode_job


def job(wire, n: int = 0, **options: Any):
    parts = {name: options.pop(name) for name in ("delay_ms", "job_id") if name in options}
    spec = JobSpec("j", {"n": n}, {"deduplication": {"id": "D", **options}, **parts})  # type: ignore[typeddict-item]
    return encode_job(spec, now_ms=wire.now_ms)


def owner(wire) -> str | None:
    return wire.run(GetDeduplicationOwner(wire.queue, "D"))


def told(wire, event: str) -> list[dict[str, str]]:
    return [entry for entry in wire.events() if entry["event"] == event]


def finish(wire, fetched) -> None:
    wire.exchange([Completed(fetched.id, fetched.token, b"1", KEEP_ALL)])


def test_two_in_one_call_are_one_job_and_the_counter_counts_both(wire):
    assert wire.add(job(wire, 1), job(wire, 2)) == ["1", "1"]

    assert wire.raw.get(wire.queue.id) == b"2"
    assert wire.hash("1")["deid"] == "D"
    assert wire.hash("2") == {}
    assert told(wire, "deduplicated") == [
        {"event": "deduplicated", "jobId": "1", "deduplicationId": "D", "deduplicatedJobId": "2"}
    ]


def test_a_job_that_is_there_already_is_a_duplicate_and_claims_nothing(wire):
    wire.add(wire.job(job_id="mine"))

    assert wire.add(job(wire, job_id="mine")) == ["mine"]

    assert owner(wire) is None
    assert len(told(wire, "duplicated")) == 1


def test_replace_keeps_the_time_to_live_unless_it_extends(wire):
    key = wire.queue.deduplication("D")
    wire.add(job(wire, delay_ms=9_000, ttl_ms=60_000, replace=True))
    wire.raw.pexpire(key, 1_000)
    wire.add(job(wire, delay_ms=9_000, ttl_ms=60_000, replace=True))
    assert owner(wire) == "2"
    assert 0 < wire.raw.pttl(key) <= 1_000

    wire.add(job(wire, delay_ms=9_000, ttl_ms=60_000, replace=True, extend=True))
    assert owner(wire) == "3"
    assert wire.raw.pttl(key) > 1_000
    assert wire.ids(wire.queue.delayed) == ["3"]
    assert wire.hash("1") == wire.hash("2") == {}


def test_an_owner_that_is_not_delayed_is_not_replaced_and_that_is_told(wire):
    """management.md appendix B: BullMQ drops this job without a word."""
    assert wire.add(job(wire, replace=True), job(wire, replace=True)) == ["1", "1"]

    assert [entry["deduplicatedJobId"] for entry in told(wire, "deduplicated")] == ["2"]


def test_the_latest_job_of_a_running_owner_is_added_when_it_ends(wire):
    wire.add(job(wire, 1, keep_last_if_active=True))
    (fetched,) = wire.fetch()
    wire.add(job(wire, 2, keep_last_if_active=True), job(wire, 3, keep_last_if_active=True))
    assert wire.raw.hget(wire.queue.base + ":dn:D", "jid") == b"3"

    finish(wire, fetched)

    assert wire.ids(wire.queue.wait) == ["3"]
    assert json.loads(wire.hash("3")["data"]) == {"n": 3}
    assert owner(wire) == "3"


def test_keep_last_if_active_holds_the_id_without_an_end(wire):
    wire.add(job(wire, keep_last_if_active=True, ttl_ms=1_000))

    assert wire.raw.pttl(wire.queue.deduplication("D")) == -1


def test_a_waiting_owner_holds_nothing_back(wire):
    assert wire.add(job(wire, 1, keep_last_if_active=True), job(wire, 2, keep_last_if_active=True)) == [
        "1",
        "1",
    ]

    assert not wire.raw.exists(wire.queue.base + ":dn:D")


def test_rescheduling_moves_the_owner_and_its_marker(wire):
    wire.add(job(wire, 1, delay_ms=60_000, reschedule=True))
    wire.add(job(wire, 2, delay_ms=5_000, reschedule=True))

    ((_, score),) = wire.raw.zrange(wire.queue.delayed, 0, -1, withscores=True)
    assert int(score) // 4096 == wire.now_ms + 5_000
    assert wire.markers() == {"1": wire.now_ms + 5_000}
    assert wire.hash("1")["delay"] == "5000"
    assert json.loads(wire.hash("1")["data"]) == {"n": 1}


def test_an_id_whose_key_is_no_text_refuses_that_job_alone(wire):
    wire.raw.lpush(wire.queue.deduplication("D"), "x")

    refused, added = wire.add(job(wire), wire.job())

    assert isinstance(refused, NotAdded) and "de:D" in refused.text
    assert added == "1"


def test_the_id_goes_with_its_job_but_not_with_another(wire):
    wire.add(job(wire))
    assert not wire.run(RemoveDeduplication(wire.queue, "D", "7"))
    assert owner(wire) == "1"
    assert wire.run(RemoveDeduplication(wire.queue, "D", "1"))
    assert owner(wire) is None
    assert not wire.run(RemoveDeduplication(wire.queue, "D"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "Deduplication id must be provided"),
        ({"id": ""}, "Deduplication id must be provided"),
        ({"id": 7}, "is text, not int"),
        ({"id": "\ud800"}, "surrogate"),
        ({"id": "D", "ttl": 5}, "or a mapping of these"),
        ({"id": "D", "ttl_ms": -1}, "ttl_ms"),
        ({"id": "D", "ttl_ms": True}, "ttl_ms"),
        ({"id": "D", "extend": True}, "needs a ttl_ms"),
        ({"id": "D", "replace": 1}, "True or False"),
        ({"id": "D", "replace": True, "reschedule": True}, "not both"),
        ("D", "deduplication is Deduplication("),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(value: Any, words: str):
    with pytest.raises(InvalidJob) as refused:
        encode_job(JobSpec("j", {}, {"deduplication": value}), now_ms=1)
    assert words in str(refused.value)


def test_a_child_cannot_be_deduplicated():
    options = {"deduplication": Deduplication("D"), "parent": {"id": "1", "queue": "bull:other"}}
    with pytest.raises(InvalidJob, match=r"^Deduplication and parent options cannot be used together$"):
        encode_job(JobSpec("j", {}, options), now_ms=1)  # type: ignore[arg-type]
