"""`oxherd metrics`: how many jobs of a queue completed and failed, minute by minute, or for Prometheus."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, note, out, table
from supervisor.cli.session import Session, converse
from supervisor.client import getters
from supervisor.protocol import fields
from supervisor.protocol.commands.read_more import Metrics

_A_MINUTE_MS = 60_000


@command(
    "metrics",
    exits="0 done, 1 no worker has counted anything, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd metrics thumbnails --prometheus --label env=live",
)
@click.argument("queue")
@click.option(
    "--minutes", type=click.IntRange(min=1), default=60, metavar="N", help="the newest N (default: 60)"
)
@click.option("--prometheus", is_flag=True, help="Prometheus' text form, under the names BullMQ's export has")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME=VALUE", help="with --prometheus: one more on each line"
)
def metrics(common: Common, queue: str, minutes: int, prometheus: bool, labels: tuple[str, ...]) -> int:
    """Show how many jobs of QUEUE completed and failed in each minute, newest first.

    Workers count only when they are told to: `oxherd run --worker-metrics 1440` keeps a day. A minute is
    written down when the first job ends after it; the one that runs is in the totals alone.
    """
    pairs = [label.partition("=") for label in labels]
    if not all(sign for _, sign, _ in pairs):
        raise click.BadParameter("write it as NAME=VALUE", param_hint="--label")
    if labels and not prometheus:
        raise click.UsageError("--label goes with --prometheus")
    if prometheus:
        given = {name: value for name, _, value in pairs}
        return converse(common, lambda session: _prometheus(session, queue, given))
    return converse(common, lambda session: _metrics(session, queue, minutes))


async def _prometheus(session: Session, name: str, labels: dict[str, str]) -> int:
    async with session.queue(name) as queue:
        out(await queue.run(getters.prometheus(labels)))
    return 0


async def _metrics(session: Session, name: str, minutes: int) -> int:
    async with session.queue(name) as queue:
        told = {
            outcome: await queue.run(getters.metrics(outcome, 0, minutes - 1)) for outcome in fields.FINISHED
        }
    if session.json:
        out(as_json({"queue": name, **{outcome: _record(one) for outcome, one in told.items()}}))
    elif any(one.count for one in told.values()):
        out(", ".join(f"{one.count:,} {outcome}" for outcome, one in told.items()) + " since counting began")
        rows = _rows(told, minutes)
        if rows:
            out(table(["minute", *told], rows, right=range(1, len(told) + 1)))
    if not any(one.count for one in told.values()):
        note(f"oxherd: no worker has counted the jobs of {name}; `oxherd run --worker-metrics 1440` does")
        return 1
    return 0


def _record(one: Metrics) -> dict[str, Any]:
    return {
        "count": one.count,
        "counted_on": one.counted_on,
        "counted": one.counted,
        "points": one.points,
        "minutes": one.minutes,
    }


def _rows(told: dict[str, Metrics], minutes: int) -> list[list[str]]:
    """One row a minute. The newest point of a count is the minute before the one it was written in."""
    by_minute: dict[int, dict[str, int]] = {}
    for outcome, one in told.items():
        newest = one.counted_on // _A_MINUTE_MS - 1
        for place, points in enumerate(one.points):
            by_minute.setdefault(newest - place, {})[outcome] = points
    newest_first = sorted(by_minute, reverse=True)[:minutes]
    return [
        [_clock(minute), *(f"{by_minute[minute].get(outcome, 0):,}" for outcome in told)]
        for minute in newest_first
    ]


def _clock(minute: int) -> str:
    return datetime.fromtimestamp(minute * 60).astimezone().strftime("%Y-%m-%d %H:%M")
