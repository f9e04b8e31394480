"""Job options: what is stored, and what is refused with which sentence before anything is sent."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from supervisor.client.core import Context, bulk
from supervisor.errors import DataTooLarge, InvalidJob, JobError, RedisRefused, RedisUnavailable
from supervisor.protocol.backoff_choice import Backoff, custom, exponential, fixed
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import NotAdded
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import MAX_DATA_BYTES, JobSpec, check_defaults, encode_job

NOW = 1_795_000_000_000


def stored(**options: Any) -> dict[str, Any]:
    job = encode_job(JobSpec("j", {}, options), now_ms=NOW)  # type: ignore[arg-type]
    return json.loads(job.opts)


def test_a_job_without_options_stores_its_attempts_alone():
    assert stored() == {"attempts": 0}


def test_every_option_is_stored_under_its_name_on_the_wire():
    assert stored(
        delay_ms=5,
        priority=3,
        job_id="a-1",
        lifo=False,
        attempts=4,
        backoff=1_000,
        timeout_ms=60_000,
        remove_on_complete=True,
        remove_on_fail=7,
        keep_logs=9,
        stack_trace_limit=0,
        size_limit=100,
        timestamp=NOW,
    ) == {
        "delay": 5,
        "priority": 3,
        "jobId": "a-1",
        "lifo": False,
        "attempts": 4,
        "backoff": {"type": "fixed", "delay": 1_000},
        "timeout": 60_000,
        "removeOnComplete": True,
        "removeOnFail": 7,
        "kl": 9,
        "stackTraceLimit": 0,
        "sizeLimit": 100,
        "timestamp": NOW,
    }


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [
        (250, {"type": "fixed", "delay": 250}),
        (fixed(250), {"type": "fixed", "delay": 250}),
        (exponential(1_000, jitter=0.5), {"type": "exponential", "delay": 1_000, "jitter": 0.5}),
        (custom("by-moon", 10), {"type": "by-moon", "delay": 10}),
        ({"kind": "exponential", "delay_ms": 5}, {"type": "exponential", "delay": 5}),
    ],
)
def test_backoff_is_stored_in_one_shape(backoff: Any, expected: dict[str, Any]):
    assert stored(backoff=backoff)["backoff"] == expected


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (False, False),
        (3, 3),
        (-1, -1),
        (KeepJobs(count=2, age_s=3600), {"count": 2, "age": 3600}),
        ({"age_s": 60, "limit": 10}, {"age": 60, "limit": 10}),
    ],
)
def test_keep_is_stored_as_it_was_meant(keep: Any, expected: Any):
    assert stored(remove_on_complete=keep)["removeOnComplete"] == expected


def test_an_option_that_is_none_was_not_given():
    assert stored(delay_ms=None, remove_on_complete=None, job_id=None, backoff=None) == {"attempts": 0}


def test_an_empty_id_lets_the_queue_choose():
    job = encode_job(JobSpec("j", {}, {"job_id": ""}), now_ms=NOW)
    assert job.job_id is None
    assert json.loads(job.opts) == {"attempts": 0}


def test_a_jobs_own_option_goes_before_the_queues_default_even_when_it_is_none():
    defaults = check_defaults({"attempts": 3, "remove_on_complete": True})
    spec = JobSpec("j", {}, {"remove_on_complete": None, "attempts": 5})
    assert json.loads(encode_job(spec, now_ms=NOW, defaults=defaults).opts) == {"attempts": 5}
    assert json.loads(encode_job(JobSpec("j", {}), now_ms=NOW, defaults=defaults).opts) == {
        "attempts": 3,
        "removeOnComplete": True,
    }


def test_what_decides_the_place_goes_to_the_script_beside_the_options():
    job = encode_job(
        JobSpec("j", [1], {"delay_ms": 9, "priority": 2, "lifo": True, "job_id": "x"}), now_ms=NOW
    )
    assert (job.timestamp, job.delay_ms, job.priority, job.lifo, job.job_id) == (NOW, 9, 2, True, "x")
    assert job.data == b"[1]"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delay": 5}, "a job has no option 'delay'; did you mean 'delay_ms'?"),
        ({"zzz": 5}, "a job has no option 'zzz'"),
        ({"delay_ms": 1.5}, "delay_ms is a whole number, not float"),
        ({"delay_ms": -1}, "delay_ms is between 0 and"),
        ({"delay_ms": 10**15}, "delay_ms is between 0 and"),
        ({"attempts": True}, "attempts is a whole number, not bool"),
        ({"attempts": "3"}, "attempts is a whole number, not str"),
        ({"lifo": 1}, "lifo is True or False, not int"),
        ({"priority": 1.5}, "Priority should not be float"),
        ({"priority": -1}, "Priority should be between 0 and 2097151"),
        ({"priority": 2_097_152}, "Priority should be between 0 and 2097151"),
        ({"job_id": 7}, "job_id is text, not int"),
        ({"job_id": "7"}, "Custom Id cannot be integers"),
        ({"job_id": "0:x"}, "JobId cannot be '0' or start with '0:'"),
        ({"job_id": "a:b"}, "Custom Id cannot contain :"),
        ({"job_id": "\ud83d"}, "job_id holds half of a surrogate pair"),
        ({"backoff": "1s"}, "backoff is a whole number, not str"),
        ({"backoff": {"type": "fixed"}}, "backoff has kind, delay_ms and jitter, not ['type']"),
        ({"remove_on_fail": "all"}, "remove_on_fail is True, False, a number of jobs"),
        ({"remove_on_fail": {}}, "remove_on_fail is True, False, a number of jobs"),
        ({"remove_on_fail": {"age": 5}}, "remove_on_fail is True, False, a number of jobs"),
        ({"remove_on_fail": {"age_s": -5}}, "remove_on_fail.age_s is between 0"),
        ({"timestamp": -1}, "timestamp is between 0 and"),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(options: dict[str, Any], sentence: str):
    with pytest.raises(InvalidJob) as refused:
        stored(**options)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan"), "much"])
def test_jitter_is_a_share(jitter: Any):
    with pytest.raises(InvalidJob, match="Jitter should be between 0 and 1"):
        fixed(10, jitter=jitter)


@pytest.mark.parametrize("delay_ms", [-1, 1.5, True, None])
def test_a_backoff_lasts_whole_milliseconds(delay_ms: Any):
    with pytest.raises(InvalidJob, match="whole number of milliseconds"):
        exponential(delay_ms)


def test_a_backoff_has_a_kind():
    with pytest.raises(InvalidJob, match="the kind is text"):
        Backoff("")


@pytest.mark.parametrize("name", [7, None, b"bytes"])
def test_a_name_is_text(name: Any):
    with pytest.raises(InvalidJob, match="the name of a job is text, not"):
        encode_job(JobSpec(name, {}), now_ms=NOW)


def test_data_that_json_cannot_say_is_refused_with_its_type_and_place():
    data = {"pages": [{"n": 1}, {"when": complex(1)}]}
    with pytest.raises(InvalidJob) as refused:
        encode_job(JobSpec("resize", data), now_ms=NOW)
    assert "job 'resize'" in str(refused.value)
    assert "complex" in str(refused.value)
    assert "at .pages[1].when" in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_is_no_number_in_json_is_refused(value: Any):
    with pytest.raises(InvalidJob, match="NaN or an Infinity"):
        encode_job(JobSpec("j", value), now_ms=NOW)


def test_a_loop_in_the_data_is_refused_and_not_followed_for_ever():
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(InvalidJob):
        encode_job(JobSpec("j", data), now_ms=NOW)


def test_what_json_can_say_in_another_way_is_taken():
    job = encode_job(JobSpec("j", {"when": datetime(2026, 1, 2), 3: "é"}), now_ms=NOW)
    assert json.loads(job.data) == {"when": "2026-01-02T00:00:00", "3": "é"}
    job = encode_job(JobSpec("j", {"half": "\ud83d", "big": 2**70}), now_ms=NOW)
    assert json.loads(job.data) == {"half": "\ud83d", "big": 2**70}


def test_size_is_measured_in_bytes_of_the_encoded_data():
    text = "é" * 10
    assert encode_job(JobSpec("j", text, {"size_limit": 22}), now_ms=NOW).data == f'"{text}"'.encode()
    with pytest.raises(DataTooLarge, match="The size of job j exceeds the limit 21 bytes"):
        encode_job(JobSpec("j", text, {"size_limit": 21}), now_ms=NOW)


def test_no_job_is_larger_than_what_a_runner_can_be_sent():
    with pytest.raises(DataTooLarge, match=f"exceeds the limit {MAX_DATA_BYTES} bytes"):
        encode_job(JobSpec("j", "x" * MAX_DATA_BYTES), now_ms=NOW)


def test_defaults_are_checked_when_the_queue_is_made():
    with pytest.raises(InvalidJob, match="attempts is a whole number"):
        check_defaults({"attempts": "many"})  # type: ignore[typeddict-item]
    with pytest.raises(InvalidJob, match="job_id cannot be a default"):
        check_defaults({"job_id": "x"})


def context() -> Context:
    return Context(QueueKeys("q"), lambda: NOW, {})


def test_one_bad_job_keeps_a_whole_bulk_from_being_sent():
    with pytest.raises(InvalidJob, match="Priority should not be float"):
        bulk(context(), [("a", 1), ("b", 2, {"priority": 0.5}), ("c", 3)])


@pytest.mark.parametrize("job", ["name", ("name",), ("name", 1, {}, 4), {"name": "j"}, None])
def test_a_job_of_a_bulk_is_a_tuple(job: Any):
    with pytest.raises(InvalidJob, match="a JobSpec or a tuple"):
        bulk(context(), [job])


def test_the_options_of_a_bulk_job_are_a_mapping():
    with pytest.raises(InvalidJob, match="the options of job 'a' are a mapping, not int"):
        bulk(context(), [("a", 1, 5)])


def test_jobs_of_a_bulk_that_share_their_options_are_encoded_as_each_alone():
    """What options say is looked at once for all jobs that are given the very same."""
    urgent, late = {"priority": 1, "size_limit": 9}, {"delay_ms": 5, "attempts": 3}
    specs = [JobSpec("a", "x", urgent), JobSpec("b", "y"), JobSpec("c", "z", late), JobSpec("d", 1, urgent)]
    specs += [JobSpec("e", 2), JobSpec("f", 3, dict(late))]

    many = bulk(context(), specs).encoded

    assert list(many) == [encode_job(spec, now_ms=context().clock()) for spec in specs]
    with pytest.raises(DataTooLarge):
        bulk(context(), [*specs, ("g", "as urgent, but too large", urgent)])


def test_a_bulk_of_thousands_is_cut_into_calls_of_a_hundred():
    many = bulk(context(), [("j", n) for n in range(1_234)])
    commands = many.commands()
    assert [len(command.jobs) for command in commands] == [100] * 12 + [34]
    assert [job.data for command in commands for job in command.jobs][:3] == [b"0", b"1", b"2"]


def test_the_first_error_of_a_bulk_is_raised():
    many = bulk(context(), [("j", n) for n in range(200)])
    with pytest.raises(RedisUnavailable, match="gone"):
        many.jobs([["1"] * 100, RedisUnavailable("gone", sent=True)])
    with pytest.raises(RedisRefused, match="job 'j' was not added: WRONGTYPE"):
        many.jobs([["1"] * 100, ["1"] * 99 + [NotAdded(Code.GUILTY, "WRONGTYPE")]])
    with pytest.raises(JobError) as refused:
        many.jobs([["1"] * 100, [NotAdded(-7), *["1"] * 99]])
    assert refused.value.status == -7
    assert len(many.jobs([["1"] * 100] * 2)) == 200
