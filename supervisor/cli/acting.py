"""What the subcommands share that do something to jobs, one by one or all at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import click

from supervisor.cli.render import Report, as_json, clean, columns_of, padded
from supervisor.cli.session import Session
from supervisor.client.core import Action
from supervisor.client.queue import Queue
from supervisor.errors import JobError, JobNotFound, JobNotInState
from supervisor.protocol import fields

# What is done to one job; its return value says what became of it, a `JobError` why nothing did.
Act = Callable[[Queue, str], Awaitable[str]]

ALL = click.option("--all", "everything", is_flag=True, help="all of them instead of those named by ID")
LIMIT = click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="with --all: at most so many, the oldest first (default: all)",
)


def some_or_all(job_ids: Sequence[str], everything: bool, limit: int | None) -> bool:
    """Whether all are meant. Either ids are named or `--all` is said, and only then `--limit`."""
    if everything and job_ids:
        raise click.UsageError("--all stands instead of the ids, not beside them")
    if not everything and not job_ids:
        raise click.UsageError("name the jobs by ID, or say --all")
    if limit is not None and not everything:
        raise click.UsageError("--limit goes with --all")
    return everything


async def act_on_all(session: Session, queue_name: str, action: Action[int], done: str) -> int:
    """Do it to all that there are and say to how many."""
    async with session.queue(queue_name) as queue:
        count = await queue.run(action)
    with Report() as report:
        report.out(as_json({"queue": queue_name, "count": count}) if session.json else f"{count} {done}")
    return 0


async def act_on(session: Session, queue_name: str, job_ids: Sequence[str], act: Act) -> int:
    """Do it to each job and say what became of it; 1 if for one of them nothing did."""
    status = 0
    width = max(columns_of(clean(job_id)) for job_id in job_ids)
    with Report() as report:
        async with session.queue(queue_name) as queue:
            for job_id in dict.fromkeys(job_ids):
                try:
                    said, done = await act(queue, job_id), True
                except JobError as error:
                    said, done, status = await _why_not(queue, job_id, error), False, 1
                if session.json:
                    record = {"queue": queue_name, "id": job_id, "done": done, "outcome": said}
                    report.out(as_json(record))
                else:
                    report.out(f"{padded(clean(job_id), width)}  {clean(said)}")
    return status


async def _why_not(queue: Queue, job_id: str, error: JobError) -> str:
    """The scripts' own texts name scripts; who typed an id wants to know what the job is instead."""
    if not isinstance(error, JobNotFound | JobNotInState):
        return str(error)
    state = await queue.state(job_id)
    return "there is no such job" if state == fields.UNKNOWN else f"left as it is: {state}"
