"""`oxherd remove`: remove jobs and their logs."""

from __future__ import annotations

import click

from supervisor.cli.acting import act_on
from supervisor.cli.command import Common, command
from supervisor.cli.session import converse
from supervisor.client.queue import Queue
from supervisor.errors import JobNotFound


@command(
    "remove",
    exits="0 all are removed, 1 one or more are not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd remove mail 17",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
def remove(common: Common, queue: str, job_ids: tuple[str, ...]) -> int:
    """Remove jobs of QUEUE with their logs and results; there is no way back. A running job is refused.

    One line for each ID says what became of it.
    """

    async def act(of: Queue, job_id: str) -> str:
        # Removing what is not there is no error to Redis; to who mistyped an id it is.
        if await of.get(job_id) is None:
            raise JobNotFound("there is no such job")
        await of.remove(job_id)
        return "removed"

    return converse(common, lambda session: act_on(session, queue, job_ids, act))
