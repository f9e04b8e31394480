"""What a master asks now and then: should it have fetched something, and how deep is the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.read import GetCounts
from supervisor.protocol.keys import QueueKeys


class QueueLook(msgspec.Struct, frozen=True):
    """A queue at one moment.

    waiting   jobs that could be fetched now, were the queue open.
    closed    why nobody may fetch; empty when everybody may.
    """

    waiting: int
    closed: str = ""


class LookForWork(msgspec.Struct, frozen=True):
    """Does a job wait that somebody could fetch? A `ReadCommand`; decodes to a `QueueLook`."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        queue = self.queue
        return (
            ("LLEN", queue.wait),
            ("ZCARD", queue.prioritized),
            ("LLEN", queue.active),
            ("HMGET", queue.meta, fields.META_PAUSED, fields.META_CONCURRENCY),
        )

    def decode(self, reply: Reply) -> QueueLook:
        waiting, prioritized, active, (paused, most) = reply
        closed = ""
        if paused is not None:
            closed = "it is paused"
        elif most is not None and most.isdigit() and active >= int(most):
            closed = f"it is at its global concurrency of {int(most)}"
        return QueueLook(waiting + prioritized, closed)


class QueueDepth(msgspec.Struct, frozen=True):
    """A queue at one moment.

    jobs     how many are in each state.
    paused   for all workers.
    exists   False: nobody has used it, or it was obliterated.
    """

    jobs: Mapping[str, int]
    paused: bool
    exists: bool


class GetDepth(msgspec.Struct, frozen=True):
    """How many jobs are in each state? A `ReadCommand`; decodes to a `QueueDepth`."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        meta = self.queue.meta
        own = (("HEXISTS", meta, fields.META_PAUSED), ("EXISTS", meta))
        return (*GetCounts(self.queue).requests(), *own)

    def decode(self, reply: Reply) -> QueueDepth:
        *counted, paused, exists = reply
        jobs = GetCounts(self.queue).decode(counted)
        return QueueDepth(jobs, bool(paused), bool(exists) or any(jobs.values()))
