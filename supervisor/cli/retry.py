"""`oxherd retry`: put finished jobs back to be run again."""

from __future__ import annotations

import click

from supervisor.cli.acting import act_on
from supervisor.cli.command import Common, command
from supervisor.cli.session import converse
from supervisor.client.queue import Queue
from supervisor.protocol import fields


@command(
    "retry",
    exits="0 all are put back, 1 one or more are not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd jobs mail --state failed --json | jq -r .id | xargs oxherd retry mail",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--state",
    type=click.Choice(fields.FINISHED),
    default=fields.FAILED,
    metavar="STATE",
    help="the state they are in: failed or completed (default: failed)",
)
@click.option("--reset-attempts", is_flag=True, help="count their attempts from the start")
def retry(common: Common, queue: str, job_ids: tuple[str, ...], state: str, reset_attempts: bool) -> int:
    """Put jobs of QUEUE that have ended back to be run again, each by itself.

    One line for each ID says what became of it.
    """

    async def act(of: Queue, job_id: str) -> str:
        await of.retry(job_id, state=state, reset_attempts=reset_attempts)
        return "put back"

    return converse(common, lambda session: act_on(session, queue, job_ids, act))
