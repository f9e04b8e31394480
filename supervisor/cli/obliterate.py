"""`oxherd obliterate`: remove a queue with everything it has."""

from __future__ import annotations

import click

from supervisor.cli.asking import YES, agreed
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, out
from supervisor.cli.session import Session, converse
from supervisor.client import manage


@command(
    "obliterate",
    exits="0 it is gone, also if there was none; 1 not agreed to, 2 wrong usage or config, or jobs are "
    "active, 3 Redis unreachable",
    example="oxherd obliterate old-mail --yes",
)
@click.argument("queue")
@click.option("--force", is_flag=True, help="although jobs are active: their workers lose them")
@YES
def obliterate(common: Common, queue: str, force: bool, yes: bool) -> int:
    """Remove QUEUE with all its jobs, finished ones included, and its schedulers; there is no way back.

    It is paused first, and stays paused when this is refused. On a terminal you are asked first.
    """
    if not agreed(f"Remove the queue {queue} with everything it has?", yes):
        return 1
    return converse(common, lambda session: _obliterate(session, queue, force))


async def _obliterate(session: Session, name: str, force: bool) -> int:
    async with session.queue(name) as queue:
        await queue.run(manage.obliterate(force=force))
    out(as_json({"queue": name, "obliterated": True}) if session.json else f"{name} is gone")
    return 0
