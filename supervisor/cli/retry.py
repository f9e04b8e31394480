"""`oxherd retry`: put finished jobs back to be run again."""

from __future__ import annotations

import click

from supervisor.cli.acting import ALL, LIMIT, act_on, act_on_all, some_or_all
from supervisor.cli.command import Common, command
from supervisor.cli.session import converse
from supervisor.client import manage
from supervisor.client.queue import Queue
from supervisor.protocol import fields


@command(
    "retry",
    exits="0 all are put back, 1 one or more are not, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd retry mail --all --limit 100",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1)
@click.option(
    "--state",
    type=click.Choice(fields.FINISHED),
    default=fields.FAILED,
    metavar="STATE",
    help="the state they are in: failed or completed (default: failed)",
)
@ALL
@LIMIT
@click.option("--reset-attempts", is_flag=True, help="count their attempts from the start")
def retry(
    common: Common,
    queue: str,
    job_ids: tuple[str, ...],
    state: str,
    everything: bool,
    limit: int | None,
    reset_attempts: bool,
) -> int:
    """Put jobs of QUEUE that have ended back to be run again: these, or --all that are in the state.

    One line for each ID says what became of it, and one for all how many they are. Their crashes are
    forgotten, so that each may have as many again; their verdicts stay.
    """
    if some_or_all(job_ids, everything, limit):
        action = manage.retry_all(state, limit=limit, reset_attempts=reset_attempts)
        return converse(common, lambda session: act_on_all(session, queue, action, "put back"))

    async def act(of: Queue, job_id: str) -> str:
        await of.retry(job_id, state=state, reset_attempts=reset_attempts)
        return "put back"

    return converse(common, lambda session: act_on(session, queue, job_ids, act))
