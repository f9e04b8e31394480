"""What is refused before anything is sent, with BullMQ's own sentences (core.md sections 1, 2.2 and 2.3)."""

from __future__ import annotations

import pytest

from supervisor.errors import DataTooLarge, InvalidJob, UsageError
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.validate import (
    check_jitter,
    check_job_id,
    check_parent_policies,
    check_priority,
    check_queue_name,
    check_size,
)


@pytest.mark.parametrize("name", ["mail", "a b", "a/b.c", "{q}", "träge"])
def test_queue_names_are_nearly_free(name):
    check_queue_name(name)
    assert QueueKeys(name).wait == f"bull:{name}:wait"


@pytest.mark.parametrize(("name", "text"), [("", "must be provided"), ("a:b", "cannot contain :")])
def test_a_queue_name_that_would_break_the_keys_is_refused(name, text):
    with pytest.raises(UsageError, match=f"^Queue name {text}$"):
        QueueKeys(name)


@pytest.mark.parametrize(
    "job_id",
    [
        "007",
        "1.5",
        "1e3",
        "a:b:c",
        "id/1",
        "9007199254740993",
        "123456789012345683968",
        "1" + "0" * 21,
        "-",
        "+1",
        " 1",
        "-0",
        "1_0",
        "٣",
    ],
)
def test_ids_that_bullmq_takes_are_taken(job_id):
    check_job_id(job_id)


@pytest.mark.parametrize(
    ("job_id", "text"),
    [
        ("0", "JobId cannot be '0' or start with '0:'"),
        ("0:5", "JobId cannot be '0' or start with '0:'"),
        ("wait", "Custom Id cannot be 'wait': the queue has a key of that name"),
        ("meta", "Custom Id cannot be 'meta': the queue has a key of that name"),
        ("stalled-check", "Custom Id cannot be 'stalled-check': the queue has a key of that name"),
        ("12", "Custom Id cannot be integers"),
        ("-5", "Custom Id cannot be integers"),
        ("NaN", "Custom Id cannot be integers"),
        ("9007199254740992", "Custom Id cannot be integers"),
        ("123456789012345680000", "Custom Id cannot be integers"),
        ("a:b", "Custom Id cannot contain :"),
        ("a:b:c:d", "Custom Id cannot contain :"),
    ],
)
def test_ids_that_are_the_queues_own_are_refused(job_id, text):
    with pytest.raises(InvalidJob) as error:
        check_job_id(job_id)
    assert str(error.value) == text


def test_in_bulk_only_the_first_rule_is_left_out():
    check_job_id("0:a:b", in_bulk=True)
    with pytest.raises(InvalidJob, match="integers"):
        check_job_id("0", in_bulk=True)


@pytest.mark.parametrize(
    ("priority", "text"),
    [
        (1.5, "Priority should not be float"),
        (1.0, "Priority should not be float"),
        (True, "Priority should not be float"),
        ("3", "Priority should not be float"),
        (2_097_152, "Priority should be between 0 and 2097151"),
        (-1, "Priority should be between 0 and 2097151"),
    ],
)
def test_priorities_out_of_range_are_refused(priority, text):
    with pytest.raises(InvalidJob) as error:
        check_priority(priority)
    assert str(error.value) == text


@pytest.mark.parametrize("priority", [0, 1, 2_097_151])
def test_priorities_in_range_are_taken(priority):
    check_priority(priority)


def test_the_size_of_data_is_counted_in_bytes():
    check_size("j", b"12345", 5)
    check_size("j", b"12345", None)
    with pytest.raises(DataTooLarge, match=r"^The size of job j exceeds the limit 4 bytes$"):
        check_size("j", b"12345", 4)


def test_only_one_parent_policy_is_taken():
    check_parent_policies({"fail_parent_on_failure": True, "ignore_dependency_on_failure": False})
    with pytest.raises(InvalidJob) as error:
        check_parent_policies({"ignore_dependency_on_failure": True, "fail_parent_on_failure": True})
    assert str(error.value) == (
        "The following options cannot be used together: failParentOnFailure, ignoreDependencyOnFailure"
    )


@pytest.mark.parametrize("jitter", [-0.1, 1.1, float("nan"), "0.5"])
def test_jitter_is_a_share(jitter):
    check_jitter(0)
    check_jitter(1)
    with pytest.raises(InvalidJob, match=r"^Jitter should be between 0 and 1$"):
        check_jitter(jitter)
