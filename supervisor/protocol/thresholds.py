"""Thresholds: when a queue's own numbers say that somebody should look.

Decides   which sentences are true of a queue, of three kinds: too many jobs wait, too large a share of the
          finished ones failed, the oldest one waits too long
Not here  who is told: `oxherd status --check` makes an exit status of it, the master a line in its log
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.read import GetCounts
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

_A_PRIORITY: Final = 2**32


class Thresholds(msgspec.Struct, frozen=True):
    """What is still all right; None for any.

    max_waiting        jobs that could run now and do not, with a priority or without.
    max_failed_share   of the finished jobs that are kept, 0 to 1. Where completed jobs are removed and failed
                       ones stay, this share tells nothing.
    max_age_ms         how long the oldest waiting job has been due.
    """

    max_waiting: int | None = None
    max_failed_share: float | None = None
    max_age_ms: int | None = None


class Alert(msgspec.Struct, frozen=True):
    """One threshold that is passed. `kind` is waiting, failed or age; `value` and `limit` are in its unit."""

    kind: str
    value: float
    limit: float
    sentence: str


def passed(queue: QueueKeys, thresholds: Thresholds, now_ms: int) -> Steps[list[Alert]]:
    """What is wrong with the queue, one alert for each threshold that is passed."""
    counts = yield GetCounts(queue)
    found = [_waiting(counts, thresholds.max_waiting), _failed(counts, thresholds.max_failed_share)]
    if thresholds.max_age_ms is not None:
        due_on = yield from oldest_due_on(queue)
        found.append(_age(due_on, now_ms, thresholds.max_age_ms))
    return [alert for alert in found if alert is not None]


def oldest_due_on(queue: QueueKeys) -> Steps[int | None]:
    """Since when the oldest waiting job could have run, epoch milliseconds; None when none waits.

    Looked at are the job that runs next and the next of the last priority, which is the one that starves.
    """
    job_ids, last_priority = yield _FirstOfEach(queue)
    if last_priority is not None:
        job_ids += yield _FirstOfPriority(queue, last_priority)
    if not job_ids:
        return None
    moments = yield _DueOn(queue, job_ids)
    return min((moment for moment in moments if moment is not None), default=None)


def _waiting(counts: dict[str, int], limit: int | None) -> Alert | None:
    waiting = counts[fields.WAITING] + counts[fields.PRIORITIZED]
    if limit is None or waiting <= limit:
        return None
    return Alert("waiting", waiting, limit, f"{waiting:,} jobs wait, more than {limit:,}")


def _failed(counts: dict[str, int], limit: float | None) -> Alert | None:
    failed = counts[fields.FAILED]
    finished = failed + counts[fields.COMPLETED]
    if limit is None or not finished or failed / finished <= limit:
        return None
    share = failed / finished
    said = f"{failed:,} of {finished:,} finished jobs failed ({share:.1%}), more than {limit * 100:.4g}%"
    return Alert("failed", share, limit, said)


def _age(due_on: int | None, now_ms: int, limit_ms: int) -> Alert | None:
    if due_on is None or now_ms - due_on <= limit_ms:
        return None
    age_ms = now_ms - due_on
    said = f"the oldest job has waited {age_ms / 1000:,.0f} s, longer than {limit_ms / 1000:,.4g} s"
    return Alert("age", age_ms, limit_ms, said)


class _FirstOfEach(msgspec.Struct, frozen=True):
    """The jobs that run next, and the last priority that any has."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [
            ("LINDEX", self.queue.wait, -1),
            ("LINDEX", self.queue.paused, -1),
            ("ZREVRANGE", self.queue.prioritized, 0, 0, "WITHSCORES"),
        ]

    def decode(self, reply: Reply) -> tuple[list[str], int | None]:
        *lists, last = reply
        ids = [one.decode("utf-8", "replace") for one in lists if one is not None]
        return ids, int(float(last[1])) // _A_PRIORITY if last else None


class _FirstOfPriority(msgspec.Struct, frozen=True):
    queue: QueueKeys
    priority: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        key, least = self.queue.prioritized, self.priority * _A_PRIORITY
        return [("ZRANGEBYSCORE", key, least, "+inf", "LIMIT", 0, 1)]

    def decode(self, reply: Reply) -> list[str]:
        return [one.decode("utf-8", "replace") for one in reply[0]]


class _DueOn(msgspec.Struct, frozen=True):
    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("HMGET", self.queue.job(each), fields.TIMESTAMP, fields.DELAY) for each in self.job_ids]

    def decode(self, reply: Reply) -> list[int | None]:
        return [_sum(*pair) for pair in reply]


def _sum(timestamp: bytes | None, delay: bytes | None) -> int | None:
    try:
        return None if timestamp is None else int(timestamp) + int(delay or 0)
    except ValueError:
        return None
