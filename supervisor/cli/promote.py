"""`oxherd promote`: run delayed jobs now."""

from __future__ import annotations

import click

from supervisor.cli.acting import act_on
from supervisor.cli.command import Common, command
from supervisor.cli.session import converse
from supervisor.client.queue import Queue


@command(
    "promote",
    exits="0 all wait now, 1 one or more do not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd promote mail 17 18",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def promote(common: Common, queue: str, job_ids: tuple[str, ...]) -> int:
    """Let delayed jobs of QUEUE run now, whatever their delay.

    One line for each ID says what became of it.
    """

    async def act(of: Queue, job_id: str) -> str:
        await of.promote(job_id)
        return "promoted"

    return converse(common, lambda session: act_on(session, queue, job_ids, act))
