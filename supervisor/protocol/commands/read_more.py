"""Reading what dashboards ask: counts by priority, who is connected, metrics, what a queue tells of itself.

As in `read.py`, pipelines of plain requests: what only reads may be a moment old.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys

_A_PRIORITY: Final = 2**32  # scores of one priority; the counter is below
_FACT: Final = re.compile(r"(\S+?)=(\S*)")


class CountByPriority(msgspec.Struct, frozen=True):
    """How many jobs wait in each of these priorities; 0 is those without one."""

    queue: QueueKeys
    priorities: Sequence[int]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [self._request(priority) for priority in self.priorities]

    def _request(self, priority: int) -> Sequence[Arg]:
        if priority == 0:
            return ("LLEN", self.queue.wait)
        first = priority * _A_PRIORITY
        return ("ZCOUNT", self.queue.prioritized, first, first + _A_PRIORITY - 1)

    def decode(self, reply: Reply) -> dict[int, int]:
        return dict(zip(self.priorities, reply, strict=True))


class CountDueBefore(msgspec.Struct, frozen=True):
    """How many delayed jobs become due before this epoch millisecond."""

    queue: QueueKeys
    due_on: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("ZCOUNT", self.queue.delayed, "-inf", self.due_on * 4096 - 1),)

    def decode(self, reply: Reply) -> int:
        return int(reply[0])


class LogPage(msgspec.Struct, frozen=True):
    """Rows of a job's log, and how many there are in all."""

    rows: list[str]
    count: int


class GetLogPage(msgspec.Struct, frozen=True):
    """The rows from `start` to `end` (both counted, -1 is the last), told from either end."""

    queue: QueueKeys
    job_id: str
    start: int = 0
    end: int = -1
    newest_first: bool = False

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.logs(self.job_id)
        first, last = self.start, self.end
        if self.newest_first:
            first, last = -(self.end + 1), -(self.start + 1)
        return [("LRANGE", key, first, last), ("LLEN", key)]

    def decode(self, reply: Reply) -> LogPage:
        found, count = reply
        rows = [row.decode("utf-8", "replace") for row in found]
        return LogPage(rows[::-1] if self.newest_first else rows, count)


class Metrics(msgspec.Struct, frozen=True):
    """Jobs that ended one way, minute by minute, as far as workers keep count.

    count         how many since counting began.
    counted_on    when the newest full minute was written down, epoch milliseconds; 0 for never.
    counted       what `count` was then.
    points        jobs in each minute, newest first; the minute that runs is not among them.
    minutes       how many points are stored in all.
    """

    count: int
    counted_on: int
    counted: int
    points: list[int]
    minutes: int


class GetMetrics(msgspec.Struct, frozen=True):
    """What is counted of jobs that are `outcome` (completed or failed); points from `start` to `end`."""

    queue: QueueKeys
    outcome: str
    start: int = 0
    end: int = -1

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.metrics(self.outcome)
        names = (fields.METRIC_COUNT, fields.METRIC_LAST_ON, fields.METRIC_LAST_COUNT)
        points = f"{key}:data"
        return [("HMGET", key, *names), ("LRANGE", points, self.start, self.end), ("LLEN", points)]

    def decode(self, reply: Reply) -> Metrics:
        (count, last_on, last_count), points, minutes = reply
        return Metrics(
            _number(count), _number(last_on), _number(last_count), [_number(one) for one in points], minutes
        )


class Connection(msgspec.Struct, frozen=True):
    """One connection of a worker or of a listener, as the server sees it.

    name         the worker's own name, if it has one.
    client_name  the whole name the connection bears.
    address      where it comes from.
    age_s        how long it has been open.
    facts        all that the server tells of it.
    """

    name: str
    client_name: str
    address: str
    age_s: int
    facts: Mapping[str, str]


class ListClients(msgspec.Struct, frozen=True):
    """Every connection of the server. In a cluster: of the node that is asked."""

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("CLIENT", "LIST"),)

    def decode(self, reply: Reply) -> list[dict[str, str]]:
        lines = reply[0].decode("utf-8", "replace").splitlines()
        return [dict(_FACT.findall(line)) for line in lines]


def workers_among(clients: Sequence[Mapping[str, str]], queue: QueueKeys) -> list[Connection]:
    """Those that fetch from the queue, whatever program they belong to."""
    plain = queue.client_name("")
    named = queue.client_name(":w:")
    return [
        _connection(client, client["name"].removeprefix(plain).removeprefix(":w:"))
        for client in clients
        if client.get("name") == plain or client.get("name", "").startswith(named)
    ]


def listeners_among(clients: Sequence[Mapping[str, str]], queue: QueueKeys) -> list[Connection]:
    """Those that follow its event stream."""
    name = queue.listener_name
    return [_connection(client, "") for client in clients if client.get("name") == name]


def _connection(client: Mapping[str, str], name: str) -> Connection:
    return Connection(name, client["name"], client.get("addr", ""), _number(client.get("age")), client)


class QueueMeta(msgspec.Struct, frozen=True):
    """What a queue tells of itself. None where nobody has said it.

    version      of the client library that made it, `oxherd:0.1.0` or `bullmq:6.7.0`.
    max_events   how many events are kept, about.
    rest         what is stored beside these, as text.
    """

    version: str | None
    paused: bool
    max_events: int | None
    concurrency: int | None
    rate_max: int | None
    rate_duration_ms: int | None
    rest: Mapping[str, str]


def meta_of(stored: Mapping[str, str]) -> QueueMeta:
    """What the members of the key `meta` mean."""
    rest = dict(stored)

    def whole(name: str) -> int | None:
        text = rest.pop(name, None)
        return None if text is None or not text.isdecimal() else int(text)

    return QueueMeta(
        version=rest.pop(fields.META_VERSION, None),
        paused=rest.pop(fields.META_PAUSED, None) is not None,
        max_events=whole(fields.META_MAX_EVENTS),
        concurrency=whole(fields.META_CONCURRENCY),
        rate_max=whole(fields.META_MAX),
        rate_duration_ms=whole(fields.META_DURATION),
        rest=rest,
    )


def _number(raw: Any) -> int:
    try:
        return int(raw)
    except (TypeError, ValueError):
        return 0
