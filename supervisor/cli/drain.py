"""`oxherd drain`: remove the jobs that wait."""

from __future__ import annotations

import click

from supervisor.cli.asking import YES, agreed
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, out
from supervisor.cli.session import Session, converse


@command(
    "drain",
    exits="0 they are removed, also if there were none; 1 not agreed to, 2 wrong usage or config, "
    "3 Redis unreachable",
    example="oxherd drain mail --delayed --yes",
)
@click.argument("queue")
@click.option("--delayed", is_flag=True, help="also the jobs that are delayed")
@YES
def drain(common: Common, queue: str, delayed: bool, yes: bool) -> int:
    """Remove all jobs of QUEUE that wait to be run; there is no way back.

    Running and finished jobs stay, and so does the next job of a scheduler. On a terminal you are asked
    first.
    """
    also = "and delayed " if delayed else ""
    if not agreed(f"Remove all waiting {also}jobs of {queue}?", yes):
        return 1
    return converse(common, lambda session: _drain(session, queue, delayed))


async def _drain(session: Session, name: str, delayed: bool) -> int:
    async with session.queue(name) as queue:
        removed = await queue.drain(delayed=delayed)
    out(as_json({"queue": name, "removed": removed}) if session.json else f"{removed} removed")
    return 0
