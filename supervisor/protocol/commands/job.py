"""Single jobs: what may be told to one of them, in any state or in a given one.

A refusal of the script is raised by `decode` as the `JobError` with BullMQ's code and text; what the key of
another type hides is raised as `RedisRefused`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from supervisor.errors import RedisRefused
from supervisor.protocol import fields
from supervisor.protocol.codes import error_of
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys


def _accepted(reply: Reply, job_id: str, call: str, state: str = fields.ACTIVE) -> int:
    """The script's answer; negative ones are raised."""
    if isinstance(reply, list):
        raise RedisRefused(f"job {job_id} is as it was: {reply[1].decode('utf-8', 'replace')}")
    code = int(reply)
    if code < 0:
        raise error_of(code, job_id=job_id, call=call, state=state)
    return code


class UpdateProgress(msgspec.Struct, frozen=True):
    """Store progress, as JSON text, and tell it."""

    script: ClassVar[str] = "updateProgress"

    queue: QueueKeys
    job_id: str
    value: bytes

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id, self.value)

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "updateProgress")


class UpdateData(msgspec.Struct, frozen=True):
    """Replace a job's data, as JSON text."""

    script: ClassVar[str] = "updateData"

    queue: QueueKeys
    job_id: str
    data: bytes

    def keys(self) -> Sequence[str]:
        return (self.queue.job(self.job_id),)

    def args(self) -> Sequence[Arg]:
        return (self.data,)

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "updateData")


class AddLog(msgspec.Struct, frozen=True):
    """Append a row to the job's log. Decodes to the number of rows there are then."""

    script: ClassVar[str] = "addLog"

    queue: QueueKeys
    job_id: str
    row: str | bytes
    keep: int | None = None

    def keys(self) -> Sequence[str]:
        return (self.queue.job(self.job_id), self.queue.logs(self.job_id))

    def args(self) -> Sequence[Arg]:
        row = self.row.encode("utf-8", "backslashreplace") if isinstance(self.row, str) else self.row
        return (row, self.keep or 0)

    def decode(self, reply: Reply) -> int:
        return _accepted(reply, self.job_id, "addLog")


class ClearLog(msgspec.Struct, frozen=True):
    """Forget the rows of a job's log but the newest `keep`."""

    script: ClassVar[str] = "clearLog"

    queue: QueueKeys
    job_id: str
    keep: int = 0

    def keys(self) -> Sequence[str]:
        return (self.queue.logs(self.job_id),)

    def args(self) -> Sequence[Arg]:
        return (self.keep,)

    def decode(self, reply: Reply) -> None:
        return None


class RetryJob(msgspec.Struct, frozen=True):
    """A failed (or completed) job waits again."""

    script: ClassVar[str] = "retryJob"

    queue: QueueKeys
    job_id: str
    state: str = fields.FAILED
    reset_attempts_made: bool = False
    reset_attempts_started: bool = False

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        resets = (int(self.reset_attempts_made), int(self.reset_attempts_started))
        return (self.queue.base + ":", self.job_id, self.state, *resets)

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "reprocessJob", self.state)


class PromoteJob(msgspec.Struct, frozen=True):
    """A delayed job waits at once."""

    script: ClassVar[str] = "promoteJob"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id)

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "promote", fields.DELAYED)


class ChangeDelay(msgspec.Struct, frozen=True):
    """A delayed job is due `delay_ms` after `now_ms`."""

    script: ClassVar[str] = "changeDelay"

    queue: QueueKeys
    job_id: str
    delay_ms: int
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id, self.now_ms, self.delay_ms)

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "changeDelay", fields.DELAYED)


class ChangePriority(msgspec.Struct, frozen=True):
    """Another priority; `lifo` puts the job before all others of it."""

    script: ClassVar[str] = "changePriority"

    queue: QueueKeys
    job_id: str
    priority: int
    lifo: bool = False

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id, self.priority, int(self.lifo))

    def decode(self, reply: Reply) -> None:
        _accepted(reply, self.job_id, "changePriority")


class RemoveJob(msgspec.Struct, frozen=True):
    """Delete a job with its log; its children stay. Decodes to False when a worker holds its lock."""

    script: ClassVar[str] = "removeJob"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id)

    def decode(self, reply: Reply) -> bool:
        return _accepted(reply, self.job_id, "removeJob") == 1


class ExtendLock(msgspec.Struct, frozen=True):
    """Renew one lock. Decodes to whether it was ours."""

    script: ClassVar[str] = "extendLocks"

    queue: QueueKeys
    job_id: str
    token: str
    duration_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.stalled, self.queue.lock(self.job_id))

    def args(self) -> Sequence[Arg]:
        return (self.duration_ms, self.token, self.job_id)

    def decode(self, reply: Reply) -> bool:
        return not reply


class ReleaseLock(msgspec.Struct, frozen=True):
    """Give up one lock. Decodes to whether it was ours."""

    script: ClassVar[str] = "releaseLock"

    queue: QueueKeys
    job_id: str
    token: str

    def keys(self) -> Sequence[str]:
        return (self.queue.lock(self.job_id),)

    def args(self) -> Sequence[Arg]:
        return (self.token,)

    def decode(self, reply: Reply) -> bool:
        return bool(reply == 1)
