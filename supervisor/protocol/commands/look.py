"""What a master asks now and then to see whether it should have fetched something."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
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
