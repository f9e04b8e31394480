"""Locks held, locks lost: renewing them, and bringing back the jobs whose lock is gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys


class Lease(msgspec.Struct, frozen=True):
    """A job id with the token its lock should hold."""

    job_id: str
    token: str


class ExtendLocks(msgspec.Struct, frozen=True):
    """Renew locks. Decodes to the ids whose lock is lost."""

    script: ClassVar[str] = "extendLocks"

    queue: QueueKeys
    leases: Sequence[Lease]
    duration_ms: int

    def keys(self) -> list[str]:
        return [self.queue.stalled, *(self.queue.lock(lease.job_id) for lease in self.leases)]

    def args(self) -> list[Arg]:
        return [self.duration_ms, *(part for lease in self.leases for part in (lease.token, lease.job_id))]

    def decode(self, reply: Reply) -> frozenset[str]:
        return frozenset(job_id.decode() for job_id in reply)


class ExtendLock(msgspec.Struct, frozen=True):
    """Renew one lock in a call of one key: a cluster serves it while it moves the slot. False: it is lost."""

    script: ClassVar[str] = "extendLock"

    queue: QueueKeys
    lease: Lease
    duration_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.lock(self.lease.job_id),)

    def args(self) -> Sequence[Arg]:
        return (self.lease.token, self.duration_ms)

    def decode(self, reply: Reply) -> bool:
        return bool(reply)


class RecoverStalled(msgspec.Struct, frozen=True):
    """One stalled check (core.md section 8). Decodes to the ids that were put back."""

    script: ClassVar[str] = "recoverStalled"

    queue: QueueKeys
    now_ms: int
    interval_ms: int
    max_stalled: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.now_ms, self.interval_ms, self.max_stalled)

    def decode(self, reply: Reply) -> list[str]:
        return [job_id.decode("utf-8", "replace") for job_id in reply]
