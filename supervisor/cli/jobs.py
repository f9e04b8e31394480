"""`oxherd jobs`: the jobs of a queue in one state, one line each."""

from __future__ import annotations

import time
from typing import Any

import click
from msgspec import structs

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, clipped, moment, note, out, span, table
from supervisor.cli.session import Session, converse
from supervisor.client.job import Job
from supervisor.protocol import fields

_REASON_WIDTH = 60


@command(
    "jobs",
    exits="0 done, also when there are none; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd jobs thumbnails --state failed --json | jq -r .failed_reason",
)
@click.argument("queue")
@click.option(
    "--state",
    type=click.Choice(fields.STATES),
    required=True,
    metavar="STATE",
    help="one of " + ", ".join(fields.STATES),
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, metavar="N", help="at most N jobs (default: 20)"
)
@click.option(
    "--start", type=click.IntRange(min=0), default=0, metavar="N", help="leave out the first N (default: 0)"
)
def jobs(common: Common, queue: str, state: str, limit: int, start: int) -> int:
    """List the jobs of QUEUE that are in one state.

    Finished jobs come newest first, the others in the order in which they will be taken. Their data is left
    out here; `oxherd job` and --json show it.
    """
    return converse(common, lambda session: _jobs(session, queue, state, start, limit))


async def _jobs(session: Session, name: str, state: str, start: int, limit: int) -> int:
    async with session.queue(name) as queue:
        total = (await queue.counts())[state]
        newest_first = state in fields.FINISHED
        found = (
            await queue.jobs(state, start, start + limit - 1, newest_first=newest_first)
            if total > start
            else []
        )
    del found[limit:]  # waiting jobs may stand in two lists
    seen = min(start + limit, total)
    without_job = 0 if start else seen - len(found)  # further on, two lists may be counted as one
    if without_job > 0:
        ids = "1 id stands" if without_job == 1 else f"{without_job} ids stand"
        note(f"oxherd: {ids} among them without a job; a worker that comes to one passes it over")
    if session.json:
        for job in found:
            out(as_json(record(job, state)))
        return 0
    if not found:
        note(
            f"oxherd: no job of {name} is {state}" + (f" beyond the first {start}" if start and total else "")
        )
        return 0
    now_ms = time.time_ns() // 1_000_000
    out(
        table(
            ("id", "name", "attempts", _when(state), ""),
            [_row(job, state, now_ms) for job in found],
            right=[2],
        )
    )
    if total > seen:
        note(f"oxherd: {len(found)} of {total:,}; the next with --start {seen}")
    return 0


def record(job: Job, state: str) -> dict[str, Any]:
    """A job for programs: the fields of `Job`, and its state. Points in time are epoch milliseconds."""
    fields_of_job = structs.asdict(job)
    return {
        "queue": fields_of_job.pop("queue"),
        "id": fields_of_job.pop("id"),
        "state": state,
        **fields_of_job,
    }


def attempts(job: Job) -> str:
    return f"{job.attempts_made}/{max(1, job.attempts)}"


def _when(state: str) -> str:
    return {"delayed": "due", "active": "started", "completed": "finished", "failed": "finished"}.get(
        state, "added"
    )


def _row(job: Job, state: str, now_ms: int) -> tuple[str, ...]:
    on_ms: int | None = job.timestamp
    said = f"priority {job.priority}" if job.priority else ""
    if state == fields.DELAYED:
        on_ms, said = job.timestamp + job.delay_ms, job.failed_reason or ""
    elif state == fields.ACTIVE:
        on_ms, said = job.processed_on, progress_text(job.progress)
    elif state in fields.FINISHED:
        on_ms = job.finished_on
        said = ran(job) if state == fields.COMPLETED else job.failed_reason or ""
    return (
        clean(job.id),
        clipped(clean(job.name), 32),
        attempts(job),
        moment(on_ms, now_ms),
        clipped(clean(said), _REASON_WIDTH),
    )


def ran(job: Job) -> str:
    """How long the last attempt ran."""
    if not job.finished_on or not job.processed_on:
        return ""
    return f"ran {span(job.finished_on - job.processed_on)}"


def progress_text(progress: Any) -> str:
    """`42%`, or what the processor said instead of a number; nothing for the zero of every new job."""
    if isinstance(progress, int | float) and not isinstance(progress, bool):
        return f"{progress:g}%" if progress else ""
    return "" if progress is None else as_json(progress)
