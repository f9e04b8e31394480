"""What `oxherd status --hosts` shows: the masters that beat, and those that have vanished.

What a heartbeat says anybody may have written: it is shown as text, and what is missing is shown as `-`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from supervisor.cli.render import as_json, clean, note, out, span, table
from supervisor.cli.session import Session
from supervisor.client.queue import epoch_ms
from supervisor.errors import RedisRefused
from supervisor.protocol.commands.hosts import HostId, HostKeys, ReadHosts, SeenHosts
from supervisor.transport.aio import Redis

Who = tuple[str, str, str]
NOBODY: Final[Mapping[Who, Mapping[str, Any]]] = MappingProxyType({})
_WHO: Final = ("host", "pid", "version", "queues", "busy")
_HOW: Final = ("jobs/s", "wait p95", "run p95", "limits by", "heard", "")
_LONGEST_MS: Final = 1e15  # what a heartbeat says anybody may have written
VANISHED: Final = "vanished"
DEGRADED: Final = "degraded"


async def show_hosts(session: Session, names: Sequence[str]) -> int:
    """Those that serve one of the queues, or all; 1 when there is none, or one has vanished."""
    keys = HostKeys(session.prefix)
    async with await session.connect() as redis:
        seen = await redis.execute(SeenHosts(keys))
        records = await redis.execute(ReadHosts(keys, list(seen))) if seen else []
    now = epoch_ms()
    hosts = [
        _host(host_id, seen_on, record, now)
        for (host_id, seen_on), record in zip(seen.items(), records, strict=True)
    ]
    # Of one that has vanished nobody knows the queues any more, so it is always told of.
    hosts = [each for each in hosts if not names or each["state"] == VANISHED or _serves(each, names)]
    if session.json:
        for each in hosts:
            out(as_json(each))
    elif hosts:
        out(_as_table(hosts))
    gone = [each for each in hosts if each["state"] == VANISHED]
    if len(gone) == len(hosts):
        of = f" that serves {', '.join(names)}" if names else ""
        note(f"oxherd: no master{clean(of)} says that it lives (prefix {session.prefix!r})")
    for each in gone:
        note(
            f"oxherd: the master with pid {each['pid']} on {clean(each['host'])} has vanished: it was last "
            f"heard {span(each['seen_ago_ms'])} ago and never said that it stops"
        )
    return 1 if gone or not hosts else 0


async def told_degraded(
    redis: Redis, prefix: str, asked: Mapping[Who, Mapping[str, Any]] = NOBODY
) -> dict[str, list[str]]:
    """Of each queue that a living master takes no jobs of, as they cannot be run: who says so, and why.

    A heartbeat is some seconds old, which is said. `asked`: the snapshots of masters that were asked just
    now, whose word is newer.
    """
    keys = HostKeys(prefix)
    try:
        seen = await redis.execute(SeenHosts(keys))
        records = await redis.execute(ReadHosts(keys, list(seen))) if seen else []
    except RedisRefused:
        return {}  # who may count the jobs need not be allowed to read this
    found: dict[str, list[str]] = {}
    now = epoch_ms()
    for (host_id, seen_on), record in zip(seen.items(), records, strict=True):
        if record is None or record.get("prefix") != prefix:
            continue
        host = _host(host_id, seen_on, record, now)
        fresh = asked.get(who(host))
        for queue in host["queues"] if fresh is None else fresh["queues"]:
            if queue.get("degraded"):
                heard = "" if fresh is not None else f" ({span(host['seen_ago_ms'])} ago)"
                by = f"the master with pid {_text(host['pid'])} on {host['host']}{heard}"
                found.setdefault(str(queue.get("name")), []).append(f"{by}: {queue['degraded']}")
    return found


def who(known: Mapping[str, Any]) -> Who:
    """Which master a heartbeat or a snapshot is of: containers may share a host's name, and their pids."""
    return (str(known.get("host")), str(known.get("pid")), str(known.get("started_on")))


def _host(host_id: str, seen_on: int, record: Mapping[str, Any] | None, now: int) -> dict[str, Any]:
    known = HostId.parse(host_id)
    told = record or {}
    queues = told.get("queues")
    return {
        **told,
        "id": host_id,
        "host": str(told.get("host", known.host if known else host_id)),
        "pid": told.get("pid", known.pid if known else None),
        "queues": [each for each in queues if isinstance(each, dict)] if isinstance(queues, list) else [],
        "state": VANISHED if record is None else _state(record),
        "seen_on": seen_on,
        "seen_ago_ms": max(0, now - seen_on),
    }


def _state(record: Mapping[str, Any]) -> str:
    queues = record.get("queues")
    if not isinstance(queues, list) or not all(isinstance(each, dict) for each in queues):
        return "unreadable"
    if record.get("degraded"):
        return DEGRADED
    return "quiet" if queues and all(each.get("quiet") for each in queues) else "up"


def _serves(host: Mapping[str, Any], names: Sequence[str]) -> bool:
    return any(each.get("name") in names for each in host["queues"])


def _as_table(hosts: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            clean(each["host"]),
            _text(each["pid"]),
            _text(each.get("version")),
            clean(", ".join(str(queue.get("name", "?")) for queue in each["queues"])) or "-",
            f"{_text(each.get('busy'))}/{_text(each.get('slots'))}",
            _text(each.get("ended_per_s")),
            _p95(each.get("waited_ms")),
            _p95(each.get("ran_ms")),
            _text(each.get("limits_by")),
            span(each["seen_ago_ms"]),
            each["state"],
        ]
        for each in hosts
    ]
    return table((*_WHO, *_HOW), rows, right=(1, 4, 5, 6, 7, 9))


def _p95(told: Any) -> str:
    value = told.get("p95") if isinstance(told, dict) else None
    return span(value) if isinstance(value, int | float) and value < _LONGEST_MS else "-"


def _text(value: Any) -> str:
    return "-" if value is None else clean(str(value))
