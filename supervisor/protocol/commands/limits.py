"""What holds a queue back: its own concurrency and rate, and a limiter that is held by hand. Reading only."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys


def _whole(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


class IsMaxed(msgspec.Struct, frozen=True):
    """Whether as many jobs are active as the queue's own concurrency allows."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGET", self.queue.meta, fields.META_CONCURRENCY), ("LLEN", self.queue.active))

    def decode(self, reply: Reply) -> bool:
        most = _whole(reply[0])
        return most is not None and reply[1] >= most


class GetRateLimitTtl(msgspec.Struct, frozen=True):
    """How many milliseconds nothing is started for the rate's sake; 0 when something is.

    max_jobs   as the limiter of a worker; else the queue's own rate counts, and without one any limiter does.
    """

    queue: QueueKeys
    max_jobs: int | None = None

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (
            ("GET", self.queue.limiter),
            ("PTTL", self.queue.limiter),
            ("HGET", self.queue.meta, fields.META_MAX),
        )

    def decode(self, reply: Reply) -> int:
        counted, left_ms, own = _whole(reply[0]) or 0, int(reply[1]), _whole(reply[2])
        most = self.max_jobs if self.max_jobs is not None else own
        return max(left_ms, 0) if most is None or counted >= most else 0
