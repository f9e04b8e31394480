"""Many jobs of a queue at once, each operation as the slices it takes.

A slice is one script call that looks at no more than some hundred jobs, so that Redis is never held for long
however many there are (measured in docs/explain/performance.md). What a slice leaves undone the next one
does; how far an operation goes is settled by what is there at its beginning, so it ends however many jobs are
added meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.errors import RedisRefused, UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.queue import PauseQueue
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

# Jobs a slice looks at: one to two milliseconds of Redis, so that a busy host has some to lose.
REMOVED_AT_ONCE: Final = 100
MOVED_AT_ONCE: Final = 100

_ANY_NUMBER: Final = 2**53

NOT_PAUSED: Final = -1
STILL_ACTIVE: Final = -2

# Where the jobs of a state are, the parts of the queue's keys.
_PLACES: Final = {state: (state,) for state in fields.STATES} | {fields.WAITING: (fields.WAIT, fields.PAUSED)}
_LISTS: Final = frozenset({fields.WAIT, fields.PAUSED, fields.ACTIVE})


def _checked(reply: Reply, what: str) -> Reply:
    """The answer of a script; that something has a wrong type is raised."""
    if isinstance(reply, list) and reply and reply[0] == -100:
        raise RedisRefused(f"{what}: {reply[1].decode('utf-8', 'replace')}")
    return reply


class Count(msgspec.Struct, frozen=True):
    """How many ids stand in one of a queue's lists or sorted sets."""

    queue: QueueKeys
    place: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("LLEN" if self.place in _LISTS else "ZCARD", f"{self.queue.base}:{self.place}"),)

    def decode(self, reply: Reply) -> int:
        return int(reply[0])


class Drained(msgspec.Struct, frozen=True):
    """looked_at   ids of this slice; kept   those of schedulers that stay at the end; removed   jobs."""

    looked_at: int
    kept: int
    removed: int


class DrainQueue(msgspec.Struct, frozen=True):
    """One slice of `drain_queue`."""

    script: ClassVar[str] = "drainQueue"

    queue: QueueKeys
    place: str
    count: int
    kept: int
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.place, self.count, self.kept, self.now_ms)

    def decode(self, reply: Reply) -> Drained:
        return Drained(*_checked(reply, "the queue is not drained"))


def drain_queue(queue: QueueKeys, now_ms: int, *, delayed: bool = False) -> Steps[int]:
    """Remove the jobs that wait, and with `delayed` those that are delayed; how many.

    The job for which a scheduler waits stays: without it there would be no next one.
    """
    removed = 0
    for place in (fields.WAIT, fields.PAUSED, *((fields.DELAYED,) if delayed else ()), fields.PRIORITIZED):
        left, kept = (yield Count(queue, place)), 0
        while left > 0:
            slice_: Drained = yield DrainQueue(queue, place, min(left, REMOVED_AT_ONCE), kept, now_ms)
            if not slice_.looked_at:
                break
            left, kept, removed = left - slice_.looked_at, slice_.kept, removed + slice_.removed
    return removed


class Cleaned(msgspec.Struct, frozen=True):
    """The ids that one slice removed, and the place from which the next goes on."""

    removed: tuple[str, ...]
    stayed: int
    last: bytes
    looked_at: int  # less than 0 when a part of the list must be looked at once more
    carried: int


class CleanJobs(msgspec.Struct, frozen=True):
    """One slice of `clean_jobs`."""

    script: ClassVar[str] = "cleanJobs"

    queue: QueueKeys
    place: str
    moment_ms: int
    now_ms: int
    most: int
    count: int = REMOVED_AT_ONCE
    removed_before: int = 0
    stayed: int = 0
    last: bytes = b""
    carried: int = 0

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (
            self.queue.base + ":",
            self.place,
            self.moment_ms,
            self.now_ms,
            self.count,
            self.most,
            self.removed_before,
            self.stayed,
            self.last,
            self.carried,
        )

    def decode(self, reply: Reply) -> Cleaned:
        removed, stayed, last, looked_at, carried = _checked(reply, "no jobs are removed")
        return Cleaned(tuple(job_id.decode() for job_id in removed), stayed, last, looked_at, carried)


def clean_jobs(
    queue: QueueKeys, state: str, now_ms: int, *, grace_ms: int = 0, limit: int | None = None
) -> Steps[list[str]]:
    """Remove the jobs in `state` that are older than `grace_ms`, at most `limit`; their ids."""
    removed: list[str] = []
    for place in _PLACES[state]:
        left: int = yield Count(queue, place)
        if place == fields.PAUSED and not left:
            continue  # BullMQ 5 alone has this list
        slice_ = Cleaned((), 0, b"", 0, 0)
        while True:
            count = REMOVED_AT_ONCE if slice_.carried else max(min(left, REMOVED_AT_ONCE), 1)
            slice_ = yield CleanJobs(
                queue,
                place,
                now_ms - grace_ms,
                now_ms,
                most=_ANY_NUMBER if limit is None else limit - len(removed),
                count=count,
                removed_before=len(removed),
                stayed=slice_.stayed,
                last=slice_.last,
                carried=slice_.carried,
            )
            removed += slice_.removed
            left -= slice_.looked_at
            if not slice_.carried and (not slice_.looked_at or left <= 0 or len(removed) == limit):
                break
        if len(removed) == limit:
            break
    return removed


class ObliterateQueue(msgspec.Struct, frozen=True):
    """One slice of `obliterate_queue`. Decodes to whether there is more to do."""

    script: ClassVar[str] = "obliterateQueue"

    queue: QueueKeys
    force: bool
    now_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", REMOVED_AT_ONCE, int(self.force), self.now_ms)

    def decode(self, reply: Reply) -> bool:
        code = int(_checked(reply, "the queue is not obliterated"))
        if code == NOT_PAUSED:
            raise UsageError("Cannot obliterate non-paused queue")
        if code == STILL_ACTIVE:
            raise UsageError("Cannot obliterate queue with active jobs")
        return code == 1


def obliterate_queue(queue: QueueKeys, now_ms: int, *, force: bool = False) -> Steps[None]:
    """Pause a queue and remove it with all its jobs; with `force` also those that workers hold."""
    yield PauseQueue(queue)
    while (yield ObliterateQueue(queue, force, now_ms)):
        pass


class Moved(msgspec.Struct, frozen=True):
    """looked_at   ids of this slice; moved   jobs that wait now."""

    looked_at: int
    moved: int


class RetryJobs(msgspec.Struct, frozen=True):
    """One slice of `retry_jobs`."""

    script: ClassVar[str] = "retryJobs"

    queue: QueueKeys
    state: str
    until_ms: int
    count: int
    reset_attempts: bool = False

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        reset = int(self.reset_attempts)
        return (self.queue.base + ":", self.state, self.until_ms, self.count, reset, 0)

    def decode(self, reply: Reply) -> Moved:
        return Moved(*_checked(reply, "jobs are as they were"))


def retry_jobs(
    queue: QueueKeys, state: str, until_ms: int, *, limit: int | None = None, reset_attempts: bool = False
) -> Steps[int]:
    """Let jobs that ended in `state` until a moment wait again, the oldest first; how many."""
    moved = 0
    while limit is None or moved < limit:
        count = MOVED_AT_ONCE if limit is None else min(MOVED_AT_ONCE, limit - moved)
        slice_: Moved = yield RetryJobs(queue, state, until_ms, count, reset_attempts)
        moved += slice_.moved
        if slice_.looked_at < count:
            break
    return moved


class PromoteJobs(msgspec.Struct, frozen=True):
    """One slice of `promote_jobs`."""

    script: ClassVar[str] = "promoteJobs"

    queue: QueueKeys
    count: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.count)

    def decode(self, reply: Reply) -> Moved:
        return Moved(*_checked(reply, "jobs are as they were"))


def promote_jobs(queue: QueueKeys, *, limit: int | None = None) -> Steps[int]:
    """Let delayed jobs run now, those due first at first; how many."""
    moved = 0
    left: int = yield Count(queue, fields.DELAYED)
    left = left if limit is None else min(left, limit)
    while left > 0:
        slice_: Moved = yield PromoteJobs(queue, min(left, MOVED_AT_ONCE))
        if not slice_.looked_at:
            break
        left, moved = left - slice_.looked_at, moved + slice_.moved
    return moved


class TrimEvents(msgspec.Struct, frozen=True):
    """One slice of `trim_events`. Decodes to how many events are forgotten."""

    script: ClassVar[str] = "trimEvents"

    queue: QueueKeys
    keep: int

    def keys(self) -> Sequence[str]:
        return (self.queue.events,)

    def args(self) -> Sequence[Arg]:
        return (self.keep,)

    def decode(self, reply: Reply) -> int:
        return int(reply)


def trim_events(queue: QueueKeys, keep: int) -> Steps[int]:
    """Forget a queue's oldest events until about `keep` are left; how many."""
    forgotten = 0
    while trimmed := (yield TrimEvents(queue, keep)):
        forgotten += trimmed
    return forgotten


class RemoveDeprecatedPriority(msgspec.Struct, frozen=True):
    """Delete the sorted set in which BullMQ 3 kept priorities. Decodes to whether it was there."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("DEL", f"{self.queue.base}:{fields.DEPRECATED_PRIORITY}"),)

    def decode(self, reply: Reply) -> bool:
        return bool(reply[0])
