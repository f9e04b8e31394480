"""Deduplication ids: who owns one, and letting it go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys


class GetDeduplicationOwner(msgspec.Struct, frozen=True):
    """The id of the job that stands for a deduplication id; None when there is none."""

    queue: QueueKeys
    deduplication_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("GET", self.queue.deduplication(self.deduplication_id)),)

    def decode(self, reply: Reply) -> str | None:
        owner: bytes | None = reply[0]
        return None if owner is None else owner.decode()


class RemoveDeduplication(msgspec.Struct, frozen=True):
    """Let a deduplication id go; with `job_id` only if that job owns it. Decodes to whether it was there."""

    script: ClassVar[str] = "removeDeduplication"

    queue: QueueKeys
    deduplication_id: str
    job_id: str = ""

    def keys(self) -> Sequence[str]:
        return (self.queue.deduplication(self.deduplication_id),)

    def args(self) -> Sequence[Arg]:
        return (self.job_id,)

    def decode(self, reply: Reply) -> bool:
        return bool(reply == 1)
