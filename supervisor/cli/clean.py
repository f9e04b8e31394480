"""`oxherd clean`: remove old jobs of one state."""

from __future__ import annotations

import click

from supervisor.cli.asking import YES, agreed
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, out
from supervisor.cli.session import Session, converse
from supervisor.cli.values import DURATION
from supervisor.protocol import fields


@command(
    "clean",
    exits="0 they are removed, also if there were none; 1 not agreed to, 2 wrong usage or config, "
    "3 Redis unreachable",
    example="oxherd clean mail --state failed --older-than 7d --yes",
)
@click.argument("queue")
@click.option(
    "--state",
    type=click.Choice(fields.STATES),
    default=fields.COMPLETED,
    metavar="STATE",
    help="the state they are in (default: completed)",
)
@click.option(
    "--older-than",
    "older_than_ms",
    type=DURATION,
    default="0s",
    metavar="DURATION",
    help="only those that ended, started or were made so long ago (default: all)",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="at most so many, the oldest first (default: all)",
)
@YES
def clean(common: Common, queue: str, state: str, older_than_ms: int, limit: int | None, yes: bool) -> int:
    """Remove jobs of QUEUE that are in one state; there is no way back.

    Jobs that a worker holds stay, and so does the next job of a scheduler. On a terminal you are asked first.
    """
    if not agreed(f"Remove {state} jobs of {queue}?", yes):
        return 1
    return converse(common, lambda session: _clean(session, queue, state, older_than_ms, limit))


async def _clean(session: Session, name: str, state: str, older_than_ms: int, limit: int | None) -> int:
    async with session.queue(name) as queue:
        removed = len(await queue.clean(state, grace_ms=older_than_ms, limit=limit))
    record = {"queue": name, "state": state, "removed": removed}
    out(as_json(record) if session.json else f"{removed} removed")
    return 0
