"""`oxherd status`: how many jobs of which queues are in which state."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click
import msgspec
from msgspec import structs

from supervisor.cli.command import Common, command
from supervisor.cli.hosts_seen import NOBODY, Who, show_hosts, told_degraded, who
from supervisor.cli.masters import ask, running
from supervisor.cli.render import as_json, clean, note, out, table
from supervisor.cli.session import Session, converse
from supervisor.cli.values import DURATION, PERCENT
from supervisor.client.alerts import Thresholds, alerts
from supervisor.client.core import Context
from supervisor.client.queue import epoch_ms
from supervisor.config.model import Config
from supervisor.errors import MasterNotFound, MasterRefused, RedisRefused
from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.read import GetCounts, GetMeta, IsPaused
from supervisor.protocol.commands.read_more import ListClients, workers_among
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive
from supervisor.transport.aio import Redis

_STATES: Final = (
    fields.WAITING,
    fields.PRIORITIZED,
    fields.DELAYED,
    fields.ACTIVE,
    fields.COMPLETED,
    fields.FAILED,
    fields.WAITING_CHILDREN,
)
PROVEN_WITHIN_S: Final = 10.0
_KEYS_A_STEP: Final = 2_000


class _ScanQueues(msgspec.Struct, frozen=True):
    """One step through all keys. Decodes to the next cursor and the queues found on the way."""

    prefix: str
    cursor: str = "0"

    def requests(self) -> Sequence[Sequence[Arg]]:
        pattern = re.sub(r"([*?\[\]^\\])", r"\\\1", self.prefix) + ":*:meta"
        return [["SCAN", self.cursor, "MATCH", pattern, "COUNT", _KEYS_A_STEP, "TYPE", "hash"]]

    def decode(self, reply: Reply) -> tuple[str, set[str]]:
        ((cursor, keys),) = reply
        names = (key.decode("utf-8", "replace")[len(self.prefix) + 1 : -len(":meta")] for key in keys)
        return cursor.decode(), {name for name in names if name and ":" not in name}


@command(
    "status",
    exits="0 done, 1 there is no such queue, or one is broken, or with --check: a master takes no jobs, or a "
    "threshold is passed; with --hosts: no master lives, or one has vanished; 2 wrong usage or config, "
    "3 Redis unreachable",
    example="oxherd status thumbnails --check --max-waiting 1000 --max-age 10m",
)
@click.argument("queues", metavar="[QUEUE...]", nargs=-1)
@click.option("--hosts", is_flag=True, help="the masters that serve the queues, on all hosts, instead")
@click.option(
    "--check",
    is_flag=True,
    help="say which master of yours on this host does no work, and what passes a threshold, one sentence "
    "each, and exit 1",
)
@click.option("--max-waiting", type=click.IntRange(min=0), metavar="N", help="so many jobs may wait")
@click.option(
    "--max-failed",
    type=PERCENT,
    metavar="SHARE",
    help="so large a share of the finished jobs that are kept may have failed: 5%",
)
@click.option(
    "--max-age", type=DURATION, metavar="DURATION", help="so long may the oldest waiting job have been due"
)
def status(
    common: Common,
    queues: tuple[str, ...],
    hosts: bool,
    check: bool,
    max_waiting: int | None,
    max_failed: float | None,
    max_age: int | None,
) -> int:
    """Count the jobs of each QUEUE by state.

    Without names: all queues of the prefix, found by walking over all keys of the database. Workers are
    connections that fetch from the queue, whatever program they belong to; nothing is changed. Thresholds
    that are not given are those of [alerts] in the config. A queue is degraded while a master, on whatever
    host, takes none of its jobs because they cannot be run; with --check that is exit 1. What another
    host's master says of itself is as old as its last heartbeat, which is told. --check without thresholds
    also asks the masters of this user on this host for their proof of work at this moment: one that takes no
    jobs, or none at all, is exit 1.

    With --hosts: each `oxherd run` with this prefix, wherever it is, as its heartbeat tells; one that has
    missed three beats without having stopped has vanished, and is told of for a day.
    """
    given = Thresholds(max_waiting, max_failed, max_age)
    if given != Thresholds() and not check:
        raise click.UsageError("a threshold is looked at by --check alone")
    if hosts and check:
        raise click.UsageError("--hosts and --check are two questions; ask one at a time")
    if hosts:
        return converse(common, lambda session: show_hosts(session, queues))
    if not check:
        return converse(common, lambda session: _status(session, queues, None))
    idle: list[str] = []
    here: dict[Who, dict[str, Any]] = {}
    if given == Thresholds():
        idle += _idle(common, queues, here, needed=not _has_thresholds(common.load().config))
    found = converse(common, lambda session: _status(session, queues, given, here))
    for sentence in idle:
        note(f"oxherd: {clean(sentence)}")
    return found or int(bool(idle))


def _idle(
    common: Common, queues: Sequence[str], here: dict[Who, dict[str, Any]], *, needed: bool
) -> Iterator[str]:
    """One sentence for each master here that takes no jobs of the queues. `needed`: there must be one.

    What each has said goes to `here`.
    """
    asked = 0
    for each in running(common):
        try:
            known = ask(each, "snapshot", within_s=PROVEN_WITHIN_S)
        except (MasterNotFound, MasterRefused) as error:
            yield str(error)
            asked += 1
            continue
        here[who(known)] = known
        if queues and not {queue["name"] for queue in known["queues"]} & set(queues):
            continue
        asked += 1
        if not known["proof"]["ok"]:
            yield f"the master {each.pid} takes no jobs: {known['proof']['why']}"
    if needed and not asked:
        of = f" that serves {', '.join(queues)}" if queues else ""
        yield f"no master of yours runs on this host{of}, and no threshold was given to look at"


def _has_thresholds(config: Config) -> bool:
    return any(_configured(config, name) != Thresholds() for name in ("", *config.queues))


def _configured(config: Config, queue: str) -> Thresholds:
    own = config.effective(queue).alerts
    return Thresholds(own.max_waiting, own.max_failed_share, own.max_age_ms)


def _thresholds(config: Config, queue: str, given: Thresholds) -> Thresholds:
    """Those of the config, but where a flag says something else."""
    named = {name: value for name, value in structs.asdict(given).items() if value is not None}
    return structs.replace(_configured(config, queue), **named)


async def _status(
    session: Session,
    names: Sequence[str],
    thresholds: Thresholds | None,
    here: Mapping[Who, Mapping[str, Any]] = NOBODY,
) -> int:
    for name in names:
        QueueKeys(name, session.prefix)  # refuses a name that no queue can have
    async with await session.connect() as redis:
        return await _count(session, redis, names, thresholds, here)


async def _count(
    session: Session,
    redis: Redis,
    names: Sequence[str],
    thresholds: Thresholds | None,
    here: Mapping[Who, Mapping[str, Any]],
) -> int:
    found = sorted(set(names) or await _queues(redis, session.prefix))
    if not found:
        note(f"oxherd: there is no queue with the prefix {session.prefix!r}")
        return 0
    keys = [QueueKeys(name, session.prefix) for name in found]
    workers = await _workers(redis, keys)
    records = await asyncio.gather(*(_record(redis, each, workers) for each in keys))
    degraded = await told_degraded(redis, session.prefix, here)
    for record in records:
        record["degraded"] = degraded.get(record["queue"], [])
    passed = []
    if thresholds is not None:
        for each, record in zip(keys, records, strict=True):
            if "error" in record:
                continue
            limits = _thresholds(session.config, each.name, thresholds)
            wrong = await drive(alerts(limits)(Context(each, epoch_ms, {})), redis.execute)
            record["alerts"] = [alert.sentence for alert in wrong]
            passed += [f"{each.name}: {alert.sentence}" for alert in wrong]
    absent = [record["queue"] for record in records if not record.pop("exists")]
    if session.json:
        for record in records:
            out(as_json(record))
    else:
        out(_as_table(records))
    broken = [f"{each['queue']} cannot be counted: {each['error']}" for each in records if "error" in each]
    sick = [f"{each['queue']} is degraded, says {why}" for each in records for why in each["degraded"]]
    for sentence in (*passed, *broken, *sick):
        note(f"oxherd: {clean(sentence)}")
    if names and absent:
        note(f"oxherd: no job was ever added to {', '.join(absent)} (prefix {session.prefix!r})")
        return 1
    return 1 if passed or broken or (sick and thresholds is not None) else 0


async def _queues(redis: Redis, prefix: str) -> set[str]:
    cursor, found = await redis.execute(_ScanQueues(prefix))
    while cursor != "0":
        cursor, names = await redis.execute(_ScanQueues(prefix, cursor))
        found |= names
    return found


async def _workers(redis: Redis, queues: Sequence[QueueKeys]) -> dict[str, int] | None:
    """How many workers each queue has; None where the server does not tell us."""
    try:
        clients = await redis.execute(ListClients())
    except RedisRefused:
        return None
    return {keys.name: len(workers_among(clients, keys)) for keys in queues}


async def _record(redis: Redis, keys: QueueKeys, workers: dict[str, int] | None) -> dict[str, Any]:
    try:
        counts, paused, meta = await asyncio.gather(
            redis.execute(GetCounts(keys)), redis.execute(IsPaused(keys)), redis.execute(GetMeta(keys))
        )
    except RedisRefused as error:
        # One broken queue must not hide the others.
        nothing: dict[str, Any] = dict.fromkeys(state.replace("-", "_") for state in _STATES)
        of_workers = None if workers is None else workers[keys.name]
        return {
            "queue": keys.name,
            **nothing,
            "paused": None,
            "workers": of_workers,
            "exists": True,
            "error": f"one of its keys holds something else ({error}); look at the keys {keys.base}:*",
        }
    return {
        "queue": keys.name,
        **{state.replace("-", "_"): counts[state] for state in _STATES},
        "paused": paused,
        "workers": None if workers is None else workers[keys.name],
        "exists": bool(meta) or any(counts.values()),
    }


def _as_table(records: Sequence[dict[str, Any]]) -> str:
    # Waiting-children only says something where flows are used.
    states = [state.replace("-", "_") for state in _STATES]
    if not any(record["waiting_children"] for record in records):
        states.remove("waiting_children")
    rows = [
        [
            clean(record["queue"]),
            *("?" if record[state] is None else f"{record[state]:,}" for state in states),
            "?" if record["workers"] is None else str(record["workers"]),
            ", ".join(word for word in ("paused", "degraded") if record[word]),
        ]
        for record in records
    ]
    header = ["queue", *(state.replace("_", "-") for state in states), "workers", ""]
    return table(header, rows, right=range(1, len(header) - 1))
