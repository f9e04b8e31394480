"""The event stream of a queue: how it is read and what its entries mean (core.md section 4.5).

Fields that BullMQ defines get their Python names and are parsed. Anybody may publish to the stream: what
else stands in an entry keeps its name and stays text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.jsontext import decode
from supervisor.protocol.keys import QueueKeys

START: Final = "0-0"
GAP: Final = "ox:gap"
EVENTS_PER_READ: Final = 1_000


class QueueEvent(msgspec.Struct, frozen=True):
    """One entry of the stream.

    id       its place; to go on later after this entry, start there.
    name     `added`, `waiting`, `active`, `progress`, `completed`, `failed`, `drained`...
    job_id   the job it is about; None when it is about the queue.
    told_on  epoch milliseconds by the server's clock.
    values   the rest: `returned`, `failed_reason`, `progress`, `prev`, `due_on`, `attempts_made`...
    """

    id: str
    name: str
    job_id: str | None
    told_on: int
    values: Mapping[str, Any] = msgspec.field(default_factory=dict)


class LastEvent(msgspec.Struct, frozen=True):
    """The place of the newest entry; `START` of an empty stream."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [["XREVRANGE", self.queue.events, "+", "-", "COUNT", 1]]

    def decode(self, reply: Reply) -> str:
        (entries,) = reply
        return str(entries[0][0].decode()) if entries else START


class ReadEvents(msgspec.Struct, frozen=True):
    """The entries after `since`, at most `count`. Waits up to `block_ms` for one; 0 does not wait.

    A waiting read holds its connection, so it needs one of its own.
    """

    queue: QueueKeys
    since: str
    block_ms: int = 0
    count: int = EVENTS_PER_READ

    def requests(self) -> Sequence[Sequence[Arg]]:
        wait: list[Arg] = ["BLOCK", self.block_ms] if self.block_ms > 0 else []
        return [["XREAD", "COUNT", self.count, *wait, "STREAMS", self.queue.events, self.since]]

    def decode(self, reply: Reply) -> list[QueueEvent]:
        (streams,) = reply
        return [event_of(entry_id, parts) for _, entries in streams or () for entry_id, parts in entries]


class FollowEvents(msgspec.Struct, frozen=True):
    """The entries after `since` as `ReadEvents` reads them, and before them a `GAP` where some are missing.

    A stream keeps its newest entries. While `since` or something older is still there, nothing after it was
    dropped; the oldest entry is asked for after the read, so that a gap is never overlooked. One may be told
    though nothing was missed, when all up to `since` and no more was dropped.

    The gap's `values` are `after` and, if known, `before`: the ids between which events may be missing. When
    the stream was made anew with ids before `since` (by a server whose clock is behind) it is read from its
    start, and the gap's `id` says so.
    """

    queue: QueueKeys
    since: str
    block_ms: int = 0
    count: int = EVENTS_PER_READ

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.events
        return [
            *ReadEvents(self.queue, self.since, self.block_ms, self.count).requests(),
            ["XRANGE", key, "-", "+", "COUNT", 1],
            ["XREVRANGE", key, "+", "-", "COUNT", 1],
        ]

    def decode(self, reply: Reply) -> list[QueueEvent]:
        streams, oldest, newest = reply
        events = [event_of(entry_id, parts) for _, entries in streams or () for entry_id, parts in entries]
        if _place(self.since) == (0, 0) or not oldest:
            return events
        if not events and _place(newest[0][0].decode()) < _place(self.since):
            return [_gap(START, self.since, oldest[0][0].decode())]
        if events and _place(oldest[0][0].decode()) > _place(self.since):
            return [_gap(self.since, self.since, events[0].id), *events]
        return events


def _gap(place: str, after: str, before: str) -> QueueEvent:
    told_on, _ = _place(before)
    return QueueEvent(place, GAP, None, told_on, {"after": after, "before": before})


def _place(entry_id: str) -> tuple[int, int]:
    told_on, _, count = entry_id.partition("-")
    return int(told_on), int(count or 0)


def event_of(entry_id: bytes, parts: Sequence[bytes]) -> QueueEvent:
    """Decode one entry; a value that is not what BullMQ writes there stays text."""
    texts = [part.decode(errors="replace") for part in parts]
    members = dict(zip(texts[::2], texts[1::2], strict=False))
    name = members.pop(fields.EVENT_NAME, "")
    place = entry_id.decode()
    return QueueEvent(
        id=place,
        name=name,
        job_id=members.pop(fields.EVENT_JOB_ID, None),
        told_on=int(place.partition("-")[0]),
        values=dict(_member(name, key, text) for key, text in members.items()),
    )


def _member(event: str, key: str, text: str) -> tuple[str, Any]:
    if event == fields.EVENT_PROGRESS and key == fields.DATA:
        return fields.EVENT_PROGRESS, _parsed(text)
    known = fields.EVENT_FIELDS.get(key)
    if known is None:
        return key, text
    if key in fields.EVENT_JSON or key in fields.EVENT_WHOLE:
        return known, _parsed(text)
    return known, text


def _parsed(text: str) -> Any:
    try:
        return decode(text.encode())
    except ValueError:
        return text
