"""`oxherd pause`: fetch nothing more from a queue."""

from __future__ import annotations

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, out
from supervisor.cli.session import Session, converse


@command(
    "pause",
    exits="0 it is paused, also if it was before; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd pause mail",
)
@click.argument("queue")
def pause(common: Common, queue: str) -> int:
    """Let nobody fetch from QUEUE until `oxherd resume`.

    Running jobs go on to their end, and jobs may still be added. It holds for every worker of every program.
    """
    return converse(common, lambda session: _pause(session, queue))


async def _pause(session: Session, name: str) -> int:
    async with session.queue(name) as queue:
        await queue.pause()
    out(as_json({"queue": name, "paused": True}) if session.json else f"{name} is paused")
    return 0
