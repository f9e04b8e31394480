"""What is left of jobs that are in no state: found by looking, removed by a script that makes sure.

Read      every key of the queue, page by page, and its lists
Removed   hashes of jobs, and what belongs to a job whose hash is gone
Never     what is not a job: metrics, schedulers, deduplication ids, and keys that are ours
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

PAGE: Final = 1_000
_SIDES: Final = (":logs", ":dependencies", ":processed", ":failed", ":unsuccessful", ":lock")
_ZSETS: Final = (
    fields.COMPLETED,
    fields.FAILED,
    fields.DELAYED,
    fields.PRIORITIZED,
    fields.WAITING_CHILDREN,
)
_LISTS: Final = (fields.WAIT, fields.ACTIVE, fields.PAUSED)
# Words that begin other keys than a job's: `metrics:failed` is no side key of a job `metrics`.
_NOT_JOBS: Final = frozenset(
    {*_ZSETS, *_LISTS, "id", "stalled", "stalled-check", "limiter", "meta", "events", "pc", "marker"}
    | {"de", "dn", "ox", "metrics", "delay", "priority"}
)
_ESCAPED: Final = re.compile(r"([\[\]*?\\])")


@dataclass(frozen=True, slots=True)
class ScanKeys:
    """One page of a queue's keys. Decodes to the cursor of the next page, and the names after the prefix."""

    queue: QueueKeys
    cursor: int = 0

    def requests(self) -> Sequence[Sequence[Arg]]:
        pattern = _ESCAPED.sub(r"\\\1", self.queue.base) + ":*"
        return (("SCAN", self.cursor, "MATCH", pattern, "COUNT", PAGE),)

    def decode(self, reply: Reply) -> tuple[int, list[str]]:
        cursor, keys = reply[0]
        start = len(self.queue.base.encode()) + 1
        return int(cursor), [key[start:].decode("utf-8", "surrogateescape") for key in keys]


@dataclass(frozen=True, slots=True)
class ListedIds:
    """One page of the ids in the three lists."""

    queue: QueueKeys
    start: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        end = self.start + PAGE - 1
        return [("LRANGE", f"{self.queue.base}:{name}", self.start, end) for name in _LISTS]

    def decode(self, reply: Reply) -> set[str]:
        return {job_id.decode("utf-8", "surrogateescape") for page in reply for job_id in page}


@dataclass(frozen=True, slots=True)
class Suspects:
    """Of these ids those that are in no sorted set, and have the hash of a job or are plain."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        requests: list[Sequence[Arg]] = []
        for job_id in self.job_ids:
            raw = job_id.encode("utf-8", "surrogateescape")
            requests += [("ZSCORE", f"{self.queue.base}:{name}", raw) for name in _ZSETS]
            key = self.queue.base.encode() + b":" + raw
            requests += [("TYPE", key), ("EXISTS", key + b":lock")]
        return requests

    def decode(self, reply: Reply) -> list[str]:
        width = len(_ZSETS) + 2
        found = []
        for at, job_id in enumerate(self.job_ids):
            *scores, kind, locked = reply[at * width : (at + 1) * width]
            is_job = kind in (b"hash", b"none") and not (kind == b"none" and ":" in job_id)
            if is_job and not locked and all(score is None for score in scores):
                found.append(job_id)
        return found


@dataclass(frozen=True, slots=True)
class RemoveOrphans:
    """Remove what is left of these jobs if they are in no state. Decodes to how many were."""

    script: ClassVar[str] = "removeOrphans"

    queue: QueueKeys
    job_ids: Sequence[str]

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        raw = [job_id.encode("utf-8", "surrogateescape") for job_id in self.job_ids]
        return (self.queue.base + ":", *raw)

    def decode(self, reply: Reply) -> int:
        return int(reply)


def remove_orphans(queue: QueueKeys, *, limit: int | None = None) -> Steps[int]:
    """Remove what is left of jobs that are in no state; how many jobs that was."""
    listed: set[str] = set()
    start = 0
    while page := (yield ListedIds(queue, start)):
        listed |= page
        start += PAGE
    removed, cursor, seen = 0, 0, set[str]()
    while True:
        cursor, names = yield ScanKeys(queue, cursor)
        fresh = sorted({*_job_ids(names)} - listed - seen)
        seen.update(fresh)
        for job_id in (yield Suspects(queue, fresh)) if fresh else ():
            if limit is not None and removed >= limit:
                return removed
            removed += yield RemoveOrphans(queue, [job_id])  # one at a time: each looks through the lists
        if not cursor:
            return removed


def _job_ids(names: Iterable[str]) -> Iterable[str]:
    """The ids to which these keys may belong."""
    for name in names:
        side = next((side for side in _SIDES if name.endswith(side)), "")
        job_id = name.removesuffix(side)
        first, _, rest = job_id.partition(":")
        if first in _NOT_JOBS:
            continue
        if first == "repeat" and not re.search(r":\d+$", rest):
            continue  # the scheduler itself
        yield job_id
