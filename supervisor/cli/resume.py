"""`oxherd resume`: fetch from a paused queue again."""

from __future__ import annotations

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, out
from supervisor.cli.session import Session, converse


@command(
    "resume",
    exits="0 it is resumed, also if it was before; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd resume mail",
)
@click.argument("queue")
def resume(common: Common, queue: str) -> int:
    """Let workers fetch from QUEUE again after `oxherd pause`."""
    return converse(common, lambda session: _resume(session, queue))


async def _resume(session: Session, name: str) -> int:
    async with session.queue(name) as queue:
        await queue.resume()
    out(as_json({"queue": name, "paused": False}) if session.json else f"{name} is resumed")
    return 0
