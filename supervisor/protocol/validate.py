"""What must be true before anything is sent. The texts are BullMQ's, so that users find them by searching.

Decides nothing about defaults: it is told values, and raises `UsageError` or `InvalidJob` with one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from supervisor.errors import DataTooLarge, InvalidJob, UsageError
from supervisor.protocol.fields import MAX_PRIORITY
from supervisor.protocol.given import check_text, clipped
from supervisor.protocol.keys import PARTS

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)")

# Python name -> the name in BullMQ's sentence, in the order in which that sentence tells them.
PARENT_POLICIES: Final = {
    "remove_dependency_on_failure": "removeDependencyOnFailure",
    "fail_parent_on_failure": "failParentOnFailure",
    "continue_parent_on_failure": "continueParentOnFailure",
    "ignore_dependency_on_failure": "ignoreDependencyOnFailure",
}


def check_queue_name(name: str) -> None:
    check_text(name, "the name of a queue")
    if not name:
        raise UsageError("Queue name must be provided")
    if ":" in name:
        raise UsageError("Queue name cannot contain :")


def check_prefix(prefix: str) -> None:
    check_text(prefix, "the prefix of a queue's keys")
    if not prefix:
        raise UsageError("the prefix of a queue's keys is empty")


def check_job_id(job_id: str, *, in_bulk: bool = False) -> None:
    """Refuse ids that only the queue itself may give. `in_bulk`: bulk adds and flows, which let `0:` pass."""
    if not in_bulk and (job_id == "0" or job_id.startswith("0:")):
        raise InvalidJob("JobId cannot be '0' or start with '0:'")
    if _is_whole_number(job_id):
        raise InvalidJob("Custom Id cannot be integers")
    if ":" in job_id and job_id.count(":") != 2:
        raise InvalidJob("Custom Id cannot contain :")
    if job_id in PARTS:
        # BullMQ takes them: then a job's hash stands where the queue's own key belongs, and nothing works.
        raise InvalidJob(f"Custom Id cannot be {job_id!r}: the queue has a key of that name")


def _is_whole_number(text: str) -> bool:
    """As JavaScript sees it: the text a double prints for an integer, and for no number at all."""
    if text == "NaN":
        return True
    if not _INTEGER.fullmatch(text) or text == "-0" or len(text) > 22:
        return False
    number = int(text)
    return abs(number) < 10**21 and _as_javascript(number) == text


def _as_javascript(number: int) -> str:
    """The decimal text of the double nearest to `number` (below 1e21): its shortest digits, zeros behind."""
    digits = repr(float(number)).partition("e")[0].replace(".", "").rstrip("0").lstrip("-")
    if not digits.strip("0"):
        return "0"
    shortest = digits + "0" * (len(str(abs(number))) - len(digits))
    return f"-{shortest}" if number < 0 else shortest


def check_priority(priority: Any) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise InvalidJob("Priority should not be float")
    if not 0 <= priority <= MAX_PRIORITY:
        # BullMQ lets negative ones through, to a place before all others of the queue; we do not.
        raise InvalidJob(f"Priority should be between 0 and {MAX_PRIORITY}")


def check_size(name: str, data: bytes, size_limit: int | None) -> None:
    """`data` is the encoded JSON text."""
    if size_limit is not None and len(data) > size_limit:
        raise DataTooLarge(f"The size of job {clipped(name)} exceeds the limit {size_limit} bytes")


def check_parent_policies(options: Mapping[str, Any]) -> None:
    """At most one of the four may be given; `options` has our Python names."""
    given = [wire for name, wire in PARENT_POLICIES.items() if options.get(name)]
    if len(given) > 1:
        raise InvalidJob(f"The following options cannot be used together: {', '.join(given)}")


def check_jitter(jitter: float) -> None:
    if isinstance(jitter, bool) or not isinstance(jitter, int | float) or not 0 <= jitter <= 1:
        raise InvalidJob("Jitter should be between 0 and 1")
