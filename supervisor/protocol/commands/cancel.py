"""Cancelling a job from anywhere: the request, how it is made, and how masters look for it.

A request is a field of the hash `<prefix>:<queue>:ox:cancel`, by the job's id; that id is published on the
channel of the same name. The hash is the truth, the message a hint: whoever hears one reads the hash. Any
program may write both (docs/explain/wire.md), so what stands there is a stranger's: bounded, and lenient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.errors import JobError, RedisRefused
from supervisor.protocol import fields
from supervisor.protocol.codes import Code, error_of
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.given import clipped
from supervisor.protocol.jsontext import decode, encode
from supervisor.protocol.keys import QueueKeys

KEPT_MS: Final = 24 * 60 * 60 * 1000
REASON_CHARS: Final = 1_000
BY_CHARS: Final = 200

ASKED: Final = 1
FAILED_BY_IT: Final = 2

OF_SCHEDULER: Final = (
    "Job {id} is the next run of a job scheduler, which would not go on without it; change or remove the "
    "scheduler. Nothing was changed"
)


class CancelRequest(msgspec.Struct, frozen=True):
    """Who wants that a job ends, and why. Both may be empty.

    on     when it was asked, epoch milliseconds of who asked; 0 when that is not known.
    text   as it stands in Redis.
    """

    reason: str
    by: str
    on: int
    text: bytes

    @property
    def sentence(self) -> str:
        """What becomes the job's `failedReason`; never empty."""
        said = f"cancelled by {self.by}" if self.by else "cancelled"
        return f"{said}: {self.reason}" if self.reason else said


def new_request(reason: str, by: str, now_ms: int) -> CancelRequest:
    reason, by = _in_one_line(reason, REASON_CHARS), _in_one_line(by, BY_CHARS)
    told = {fields.CANCEL_REASON: reason, fields.CANCEL_BY: by, fields.CANCEL_ON: now_ms}
    return CancelRequest(reason, by, now_ms, encode(told))


def read_request(text: bytes) -> CancelRequest:
    """What somebody has written: JSON of ours, or any text, which is the reason then."""
    try:
        told = decode(text)
    except ValueError:
        told = text.decode("utf-8", "backslashreplace")
    if not isinstance(told, dict):
        told = {fields.CANCEL_REASON: told}
    reason, by, on = (told.get(name) for name in (fields.CANCEL_REASON, fields.CANCEL_BY, fields.CANCEL_ON))
    return CancelRequest(
        _in_one_line(reason if isinstance(reason, str) else "", REASON_CHARS),
        _in_one_line(by if isinstance(by, str) else "", BY_CHARS),
        on if isinstance(on, int) and not isinstance(on, bool) else 0,
        text,
    )


def _in_one_line(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


class CancelJob(msgspec.Struct, frozen=True):
    """A client asks. Decodes to `ASKED` (it is active) or `FAILED_BY_IT`; whatever else it is, is raised."""

    script: ClassVar[str] = "cancelJob"

    queue: QueueKeys
    job_id: str
    request: CancelRequest
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta, self.queue.cancel)

    def args(self) -> Sequence[Arg]:
        return _arguments(self, "")

    def decode(self, reply: Reply) -> int:
        if isinstance(reply, list):
            raise RedisRefused(f"job {self.job_id} is as it was: {reply[1].decode('utf-8', 'replace')}")
        if reply == Code.OF_SCHEDULER:
            raise JobError(OF_SCHEDULER.format(id=clipped(self.job_id)), status=int(reply))
        if reply < 0:
            raise error_of(int(reply), job_id=self.job_id, call="cancelJob", state="active or waiting")
        return int(reply)


class EnforceCancel(msgspec.Struct, frozen=True):
    """A master has found a request for a job that it does not run. Decodes to `ASKED` when the job is active,
    to `FAILED_BY_IT`, or to 0 or less when there is nothing to be done.
    """

    script: ClassVar[str] = "cancelJob"

    queue: QueueKeys
    job_id: str
    request: CancelRequest
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta, self.queue.cancel)

    def args(self) -> Sequence[Arg]:
        return _arguments(self, "1")

    def decode(self, reply: Reply) -> int:
        if isinstance(reply, list):
            raise RedisRefused(f"job {self.job_id} is not cancelled: {reply[1].decode('utf-8', 'replace')}")
        return int(reply)


def _arguments(asked: CancelJob | EnforceCancel, found_by_a_master: str) -> Sequence[Arg]:
    request = asked.request
    return (
        *(asked.queue.base + ":", asked.job_id, asked.now_ms, request.sentence),
        *(request.text, KEPT_MS, found_by_a_master),
    )


class GetCancelRequests(msgspec.Struct, frozen=True):
    """The requests for these jobs; for all there are when none is named."""

    queue: QueueKeys
    job_ids: Sequence[str] = ()

    def requests(self) -> Sequence[Sequence[Arg]]:
        if self.job_ids:
            return (("HMGET", self.queue.cancel, *self.job_ids),)
        return (("HGETALL", self.queue.cancel),)

    def decode(self, reply: Reply) -> dict[str, CancelRequest]:
        (found,) = reply
        if self.job_ids:
            pairs = zip(self.job_ids, found, strict=True)
            return {job_id: read_request(text) for job_id, text in pairs if text is not None}
        ids, texts = found[::2], found[1::2]
        return {
            job_id.decode("utf-8", "replace"): read_request(text)
            for job_id, text in zip(ids, texts, strict=True)
        }
