"""A job's hash with Python names: numbers as numbers, texts as texts, JSON as the bytes it came in.

Decides only names and numbers. What the JSON says is the reader's to parse, because only the reader can
say what is to become of a job whose JSON is broken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from supervisor.protocol import fields


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One job's hash. A field that is not there is None, or what BullMQ takes it for.

    data, opts, progress, returned, stacktrace, parent, verdicts
                                                         JSON text as stored.
    extra                                                fields that have no name here, as text.
    """

    id: str
    name: str = ""
    data: bytes = b"{}"
    opts: bytes = b"{}"
    timestamp: int = 0
    delay_ms: int = 0
    priority: int = 0
    attempts_made: int = 0
    attempts_started: int = 0
    stalled_count: int = 0
    progress: bytes | None = None
    returned: bytes | None = None
    stacktrace: bytes | None = None
    failed_reason: str | None = None
    processed_on: int | None = None
    finished_on: int | None = None
    processed_by: str | None = None
    deferred_failure: str | None = None
    parent: bytes | None = None
    parent_key: str | None = None
    deduplication_id: str | None = None
    scheduler_id: str | None = None
    crashes: int = 0
    verdicts: bytes | None = None
    used: bytes | None = None
    extra: Mapping[str, str] = msgspec.field(default_factory=dict)


_RAW: Final = {
    fields.DATA: "data",
    fields.OPTS: "opts",
    fields.PROGRESS: "progress",
    fields.RETURN_VALUE: "returned",
    fields.STACKTRACE: "stacktrace",
    fields.PARENT: "parent",
    fields.VERDICTS: "verdicts",
    fields.USED: "used",
}
_TEXTS: Final = {
    fields.NAME: "name",
    fields.FAILED_REASON: "failed_reason",
    fields.PROCESSED_BY: "processed_by",
    fields.DEFERRED_FAILURE: "deferred_failure",
    fields.PARENT_KEY: "parent_key",
    fields.DEDUPLICATION_ID: "deduplication_id",
    fields.SCHEDULER_ID: "scheduler_id",
}
_NUMBERS: Final = {
    fields.TIMESTAMP: "timestamp",
    fields.DELAY: "delay_ms",
    fields.PRIORITY: "priority",
    fields.ATTEMPTS_MADE: "attempts_made",
    fields.ATTEMPTS_STARTED: "attempts_started",
    fields.STALLED_COUNT: "stalled_count",
    fields.PROCESSED_ON: "processed_on",
    fields.FINISHED_ON: "finished_on",
    fields.CRASHES: "crashes",
}


def record_of(job_id: str, flat: Sequence[bytes]) -> JobRecord | None:
    """The record of an HGETALL reply; None when it is empty."""
    if not flat:
        return None
    known: dict[str, object] = {}
    extra: dict[str, str] = {}
    legacy_attempts: int | None = None
    for raw_name, value in zip(flat[::2], flat[1::2], strict=True):
        name = _text(raw_name)
        if name in _RAW:
            known[_RAW[name]] = value
        elif name in _TEXTS:
            known[_TEXTS[name]] = _text(value)
        elif name in _NUMBERS:
            known[_NUMBERS[name]] = number_of(value)
        elif name == fields.ATTEMPTS_MADE_LEGACY:
            legacy_attempts = number_of(value)
        else:
            extra[name] = _text(value)
    if legacy_attempts is not None:
        known["attempts_made"] = legacy_attempts
    return JobRecord(id=job_id, extra=extra, **known)  # type: ignore[arg-type]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def number_of(raw: bytes | int | None) -> int:
    """What a field says as an integer. Others write these fields: nonsense in one counts as 0."""
    if raw is None:
        return 0
    try:
        return int(raw)
    except ValueError:
        try:
            return int(float(raw))
        except (ValueError, OverflowError):
            return 0
