"""`oxherd breaker`: the circuit breakers of a prefix, listed, shown, and opened or reset by hand."""

from __future__ import annotations

import time

import click
from msgspec.structs import asdict

from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import as_json, moment, note, out, pairs, span, table
from supervisor.cli.session import Session, converse
from supervisor.cli.values import DURATION
from supervisor.config.units import format_duration
from supervisor.errors import OxherdError, UsageError
from supervisor.protocol.commands.breaker import (
    CLOSED,
    LONGEST_MS,
    BreakerKeys,
    BreakerState,
    GetBreaker,
    ListBreakers,
    SetBreaker,
)
from supervisor.transport.aio import Redis


@command(
    "list",
    exits="0 done, also if there are none; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd breaker list --json | jq 'select(.state != \"closed\")'",
)
def list_breakers(common: Common) -> int:
    """List the circuit breakers that have seen a failure in the last day.

    One that has seen none is closed and leaves no trace, so it is not listed.
    """
    return converse(common, _list)


async def _list(session: Session) -> int:
    async with await session.connect() as redis:
        names = await redis.execute(ListBreakers(session.prefix, _now_ms()))
        found = [await _state(redis, session, name) for name in names]
    if session.json:
        for each in found:
            out(as_json(asdict(each)))
    elif found:
        rows = [[each.name, each.state, _failures(each), _until(each)] for each in found]
        out(table(["breaker", "state", "failures", "lets a trial in"], rows))
    else:
        note("oxherd breaker: no breaker has seen a failure in the last day")
    return 0


@command(
    "show",
    exits="0 it is closed, 1 it is open or half open, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd breaker show payments-api",
)
@click.argument("name")
def show(common: Common, name: str) -> int:
    """Show the circuit breaker NAME. One of which nothing is known is closed.

    Open: who wants in is delayed. Half open: its time is over, and the next job tries the dependency.
    """
    return converse(common, lambda session: _show(session, name))


async def _show(session: Session, name: str) -> int:
    async with await session.connect() as redis:
        found = await _state(redis, session, name)
    if session.json:
        out(as_json(asdict(found)))
    else:
        now_ms = _now_ms()
        rows = [("breaker", found.name), ("state", found.state), ("failures", _failures(found))]
        if found.state != CLOSED:
            rows = [
                *rows[:2],
                ("opened", moment(found.opened_on, now_ms)),
                ("times opened", str(found.trips)),
                ("lets a trial in", moment(found.until_on, now_ms)),
                ("trials now", str(found.trials)),
            ]
        out(pairs(rows))
    return 0 if found.state == CLOSED else 1


@command(
    "open",
    exits="0 it is open, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd breaker open payments-api --for 10m",
)
@click.argument("name")
@click.option(
    "--for", "open_ms", type=DURATION, required=True, metavar="DURATION", help="for so long, like 10m"
)
def open_breaker(common: Common, name: str, open_ms: int) -> int:
    """Open the circuit breaker NAME by hand: jobs that want in are delayed until its time is over.

    After it one job tries the dependency, as ever.
    """
    if not 1 <= open_ms <= LONGEST_MS:
        raise UsageError("--for is more than 0 and at most 30d")
    return converse(common, lambda session: _set(session, name, open_ms))


@command(
    "reset",
    exits="0 it is closed, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd breaker reset payments-api",
)
@click.argument("name")
def reset(common: Common, name: str) -> int:
    """Close the circuit breaker NAME and forget its failures.

    Jobs that are delayed for its sake stay delayed; `oxherd promote` runs them now.
    """
    return converse(common, lambda session: _set(session, name, 0))


async def _set(session: Session, name: str, open_ms: int) -> int:
    breaker = BreakerKeys(name, session.prefix)
    async with await session.connect() as redis:
        known = await redis.execute(SetBreaker(breaker, _now_ms(), open_ms))
        found = await _state(redis, session, name)
    if session.json:
        out(as_json(asdict(found)))
    elif open_ms:
        out(f"{name} is open for {format_duration(open_ms)}")
    else:
        out(f"{name} is closed" + ("" if known else "; nothing was known of it"))
    return 0


async def _state(redis: Redis, session: Session, name: str) -> BreakerState:
    found = await redis.execute(GetBreaker(BreakerKeys(name, session.prefix), _now_ms()))
    if isinstance(found, OxherdError):
        raise found
    return found


def _failures(found: BreakerState) -> str:
    if found.state != CLOSED or not found.failures:
        return "-"
    return f"{found.failed} of {found.failures} in {format_duration(found.within_ms)}"


def _until(found: BreakerState) -> str:
    if found.until_on is None:
        return "-"
    left_ms = found.until_on - _now_ms()
    return f"in {span(left_ms)}" if left_ms > 0 else "now"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


breaker = family(
    "breaker",
    "Circuit breakers: what keeps jobs from a dependency that is down. All queues of a prefix share them.",
    list_breakers,
    show,
    open_breaker,
    reset,
    exits="0 done, 1 the answer is no, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd breaker show payments-api",
    takes="[NAME]",
)
