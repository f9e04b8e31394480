"""What is left of jobs that are in no state: found by looking, removed by a script that makes sure.

Read      every key of the queue, page by page, and its lists, before and after
Removed   hashes of jobs, and what belongs to a job whose hash is gone
Never     what is not a job: metrics, schedulers, deduplication ids, and keys that are ours

Redis cannot say in a bounded time that an id is in no list. So the lists are read from end to end after the
hash of each suspect was; an id that is in none of the pages, and whose hash has not changed until the script
looks at the ends of the lists once more, has been in no list all the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

PAGE: Final = 1_000
AT_ONCE: Final = 50
OVERLAP: Final = 10  # ids that two pages have in common
FURTHEST_BACK: Final = 20 * PAGE
TRIES: Final = 3
LOOK_AGAIN: Final = -1
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
_MARKS: Final = (
    fields.TIMESTAMP,
    fields.DELAY,
    fields.PRIORITY,
    fields.PROCESSED_ON,
    fields.FINISHED_ON,
    fields.ATTEMPTS_STARTED,
    fields.ATTEMPTS_MADE,
    fields.STALLED_COUNT,
)
_ESCAPED: Final = re.compile(r"([\[\]*?\\])")


class ScanKeys(msgspec.Struct, frozen=True):
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


class ListPage(msgspec.Struct, frozen=True):
    """Ids of a list from a place on, a thousand at most."""

    queue: QueueKeys
    name: str
    start: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("LRANGE", f"{self.queue.base}:{self.name}", self.start, self.start + PAGE - 1),)

    def decode(self, reply: Reply) -> list[str]:
        return [job_id.decode("utf-8", "surrogateescape") for job_id in reply[0]]


class Suspects(msgspec.Struct, frozen=True):
    """Of these ids those that are in no sorted set, and have the hash of a job or are plain."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        requests: list[Sequence[Arg]] = []
        for job_id in self.job_ids:
            raw = _raw(job_id)
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


class Marks(msgspec.Struct, frozen=True):
    """What of the hash of each job changes whenever it goes from one state to another."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        base = self.queue.base.encode() + b":"
        return [("HMGET", base + _raw(job_id), *_MARKS) for job_id in self.job_ids]

    def decode(self, reply: Reply) -> dict[str, bytes]:
        marks = (b"".join((value or b"") + b"\n" for value in values) for values in reply)
        return dict(zip(self.job_ids, marks, strict=True))


class RemoveOrphans(msgspec.Struct, frozen=True):
    """Remove what is left of these jobs if they are in no state. Decodes to how many, or to `LOOK_AGAIN`.

    marks   their ids, each with its mark.
    heads   what stood first in `wait` and in `paused` when they were read, empty for nothing.
    """

    script: ClassVar[str] = "removeOrphans"

    queue: QueueKeys
    marks: Mapping[str, bytes]
    heads: tuple[str, str]

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        args: list[Arg] = [self.queue.base + ":", *map(_raw, self.heads)]
        for job_id, mark in self.marks.items():
            args += [_raw(job_id), mark]
        return args

    def decode(self, reply: Reply) -> int:
        return int(reply)


def remove_orphans(queue: QueueKeys, *, limit: int | None = None) -> Steps[int]:
    """Remove what is left of jobs that are in no state; how many jobs that was.

    In a queue whose lists change faster than they can be read none are removed.
    """
    marks: dict[str, bytes] = yield from _suspects(queue)
    removed = 0
    for _ in range(TRIES if marks else 0):
        seen, heads = yield from _read_lists(queue)
        left = [job_id for job_id in marks if job_id not in seen]
        while heads and left and (limit is None or removed < limit):
            count = AT_ONCE if limit is None else min(AT_ONCE, limit - removed)
            some = {job_id: marks.pop(job_id) for job_id in left[:count]}
            gone: int = yield RemoveOrphans(queue, some, heads)
            if gone == LOOK_AGAIN:
                marks |= some
                break
            left, removed = left[count:], removed + gone
        else:
            if heads:
                break
    return removed


def _suspects(queue: QueueKeys) -> Steps[dict[str, bytes]]:
    """Jobs that seem to be in no state, each with its mark."""
    listed: set[str] = set()
    for name in _LISTS:
        start = 0
        while page := (yield ListPage(queue, name, start)):
            listed.update(page)
            start += PAGE
    marks: dict[str, bytes] = {}
    cursor, seen = 0, set[str]()
    while True:
        cursor, names = yield ScanKeys(queue, cursor)
        fresh = sorted({*_job_ids(names)} - listed - seen)
        seen.update(fresh)
        found = (yield Suspects(queue, fresh)) if fresh else []
        if found:
            marks |= yield Marks(queue, found)
        if not cursor:
            return marks


def _read_lists(queue: QueueKeys) -> Steps[tuple[set[str], tuple[str, str] | None]]:
    """The ids in `wait` and `paused`, and those that stood first; None when they change too fast."""
    lists = (fields.WAIT, fields.PAUSED)
    firsts = []
    for name in lists:
        page = yield ListPage(queue, name, 0)
        firsts.append(page[0] if page else "")
    seen: set[str] = set()
    for name in lists:
        if not (yield from _read_list(queue, name, seen)):
            return seen, None
    heads = []
    for name, first in zip(lists, firsts, strict=True):
        head = yield from _catch_up(queue, name, first, seen)
        if head is None:
            return seen, None
        heads.append(head)
    return seen, (heads[0], heads[1])


def _read_list(queue: QueueKeys, name: str, seen: set[str]) -> Steps[bool]:
    """Read a list from end to end while it changes: each page begins with ids that the one before had.

    Jobs that come to the front move the others back, and some are seen twice. Where jobs went away the place
    is looked for further to the front; where even that is in vain, it begins anew.
    """
    here: set[str] = set()
    start, back, begun = 0, 0, 1
    while True:
        page = yield ListPage(queue, name, max(start - back, 0))
        if start > back and not (page and here.issuperset(page[:OVERLAP])):
            back += PAGE // 2
            continue
        if 0 < start <= back:
            begun += 1
            if begun > TRIES:
                return False
            here.clear()
        here.update(page)
        seen.update(page)
        start = max(start - back, 0) + len(page) - OVERLAP
        back = 0
        if len(page) < PAGE:
            return True


def _catch_up(queue: QueueKeys, name: str, first: str, seen: set[str]) -> Steps[str | None]:
    """See what came to the front of a list since `first` stood there; who stands there now."""
    for _ in range(TRIES):
        head, start = None, 0
        for _ in range(FURTHEST_BACK // PAGE):
            page = yield ListPage(queue, name, start)
            seen.update(page)
            if head is None:
                head = page[0] if page else ""
            if first in page or len(page) < PAGE:
                break
            start += PAGE
        else:
            return None
        if start == 0:
            return head
        first = head
    return None


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


def _raw(job_id: str) -> bytes:
    return job_id.encode("utf-8", "surrogateescape")
