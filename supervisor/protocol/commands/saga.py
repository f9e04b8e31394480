"""The record of a saga: which steps a job has done, kept with the job for its next run to go on from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys

RECORD: Final = "ox:saga"  # a field of ours in the job's hash
NOTHING_DONE: Final = b"[]"


class GetRecord(msgspec.Struct, frozen=True):
    """The record as JSON text; of a job without one, the empty list."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGET", self.queue.job(self.job_id), RECORD),)

    def decode(self, reply: Reply) -> bytes:
        return reply[0] or NOTHING_DONE


class KeepRecord(msgspec.Struct, frozen=True):
    """Replace the record. Decodes to 0, or to a negative `Code` when the lock is not `token`'s any more."""

    script: ClassVar[str] = "keepRecord"

    queue: QueueKeys
    job_id: str
    token: str
    record: bytes

    def keys(self) -> Sequence[str]:
        return (self.queue.job(self.job_id), self.queue.lock(self.job_id))

    def args(self) -> Sequence[Arg]:
        return (self.token, self.record)

    def decode(self, reply: Reply) -> int:
        return int(reply)

    def repetition(self) -> KeepRecord:
        """The same call: kept twice is kept."""
        return self
