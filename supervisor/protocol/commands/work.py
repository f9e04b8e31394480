"""What a master sends while it works: outcomes and fetches in one call, locks, the stalled check.

The one door to these commands; they live by meaning in `outcomes`, `exchange` and `locks`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.exchange import Exchange, FetchedJob, FinishAndFetch, Limiter
from supervisor.protocol.commands.locks import ExtendLock, ExtendLocks, Lease, RecoverStalled
from supervisor.protocol.commands.outcomes import (
    AwaitsChildren,
    Completed,
    Failed,
    HandedBack,
    Outcome,
    Postponed,
    RateLimited,
    Retried,
    Told,
    Written,
)
from supervisor.protocol.job_record import number_of
from supervisor.protocol.keys import QueueKeys

__all__ = [
    "AnyStarted",
    "AwaitsChildren",
    "Completed",
    "CountWork",
    "Exchange",
    "ExtendLock",
    "ExtendLocks",
    "Failed",
    "FetchedJob",
    "FinishAndFetch",
    "HandedBack",
    "Lease",
    "Limiter",
    "Outcome",
    "Postponed",
    "RateLimited",
    "RecoverStalled",
    "Retried",
    "Told",
    "WorkLeft",
    "Written",
]

_DELAYED_LOOKED_AT = 1_000


class WorkLeft(msgspec.Struct, frozen=True):
    """waiting and prioritized counts, the paused flag, and the first 1,000 delayed ids (for `HGET ats`)."""

    waiting: int
    prioritized: int
    paused: bool
    delayed_ids: Sequence[str]


class CountWork(msgspec.Struct, frozen=True):
    """What `run --burst` asks: is anything left? A `ReadCommand`; decodes to a `WorkLeft`."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        queue = self.queue
        return (
            ("LLEN", queue.wait),
            ("LLEN", queue.paused),
            ("ZCARD", queue.prioritized),
            ("HEXISTS", queue.meta, fields.META_PAUSED),
            ("ZRANGE", queue.delayed, 0, _DELAYED_LOOKED_AT - 1),
        )

    def decode(self, reply: Reply) -> WorkLeft:
        waiting, paused_list, prioritized, paused, delayed = reply
        return WorkLeft(
            waiting=waiting + paused_list,
            prioritized=prioritized,
            paused=bool(paused),
            delayed_ids=[job_id.decode("utf-8", "replace") for job_id in delayed],
        )


class AnyStarted(msgspec.Struct, frozen=True):
    """Was any of these jobs started before (`ats` > 0)? A delayed one that was is a retry."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("HGET", self.queue.job(job_id), fields.ATTEMPTS_STARTED) for job_id in self.job_ids]

    def decode(self, reply: Reply) -> bool:
        return any(number_of(raw) > 0 for raw in reply)
