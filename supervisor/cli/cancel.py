"""`oxherd cancel`: end jobs that run, and keep those that wait from running."""

from __future__ import annotations

import click

from supervisor.cli.acting import act_on
from supervisor.cli.command import Common, command
from supervisor.cli.session import Session, converse
from supervisor.client.cancel import ASKED
from supervisor.client.queue import Queue
from supervisor.errors import JobError, JobFailed, JobNotFound, ResultTimeout


class _StillRuns(JobError):
    """It was asked to end and has not."""


@command(
    "cancel",
    exits="0 all are cancelled, or asked to end; 1 one or more are not, 2 wrong usage or config, "
    "3 Redis unreachable",
    example="oxherd cancel thumbnails 17 --reason 'wrong size' --wait",
)
@click.argument("queue")
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--reason", default="", metavar="TEXT", help="why, for the job's failed reason")
@click.option("--by", metavar="TEXT", help="who cancels (default: this user at this host)")
@click.option("--wait", is_flag=True, help="until those that run have ended, at most 30 s each")
def cancel(
    common: Common, queue: str, job_ids: tuple[str, ...], reason: str, by: str | None, wait: bool
) -> int:
    """See to it that jobs of QUEUE are not done, wherever they are.

    One line for each ID says what became of it. A job that waits, is delayed or waits for children has failed
    at once and will not run: cancelled. Of one that runs its worker is told: asked. It then ends within 5 s,
    by itself, by an exception, or with its processes killed, and is not tried again.
    """

    async def talk(session: Session) -> int:
        async with session.queue(queue) as of:
            asked = {job_id: await _ask(of, job_id, reason, by) for job_id in dict.fromkeys(job_ids)}

        async def act(of: Queue, job_id: str) -> str:
            said = asked[job_id]
            if isinstance(said, JobError):
                raise said
            return await _ended(of, job_id) if wait and said == ASKED else said

        return await act_on(session, queue, job_ids, act)

    return converse(common, talk)


async def _ask(queue: Queue, job_id: str, reason: str, by: str | None) -> str | JobError:
    """All are asked before the first is waited for."""
    try:
        return await queue.cancel(job_id, reason, by=by)
    except JobError as error:
        return error


PATIENCE_MS = 30_000


async def _ended(queue: Queue, job_id: str) -> str:
    try:
        await queue.result(job_id, timeout_ms=PATIENCE_MS)
    except JobFailed as error:
        return f"ended: {error}"
    except JobNotFound:
        return "ended, and is removed"
    except ResultTimeout:
        raise _StillRuns(
            f"asked, and runs on after {PATIENCE_MS // 1000} s: is its worker Oxherd's?"
        ) from None
    raise _StillRuns("completed before it could be cancelled")
