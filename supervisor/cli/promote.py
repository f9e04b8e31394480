"""`oxherd promote`: run delayed jobs now."""

from __future__ import annotations

import click

from supervisor.cli.acting import ALL, LIMIT, act_on, act_on_all, some_or_all
from supervisor.cli.command import Common, command
from supervisor.cli.session import converse
from supervisor.client import manage
from supervisor.client.queue import Queue


@command(
    "promote",
    exits="0 all wait now, 1 one or more do not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd promote mail 17 18",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1)
@ALL
@LIMIT
def promote(common: Common, queue: str, job_ids: tuple[str, ...], everything: bool, limit: int | None) -> int:
    """Let delayed jobs of QUEUE run now, whatever their delay: these, or --all.

    One line for each ID says what became of it, and one for all how many they are.
    """
    if some_or_all(job_ids, everything, limit):
        action = manage.promote_all(limit=limit)
        return converse(common, lambda session: act_on_all(session, queue, action, "promoted"))

    async def act(of: Queue, job_id: str) -> str:
        await of.promote(job_id)
        return "promoted"

    return converse(common, lambda session: act_on(session, queue, job_ids, act))
