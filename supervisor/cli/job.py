"""`oxherd job`: everything known of one job."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from supervisor.cli.command import Common, command
from supervisor.cli.jobs import attempts, progress_text, ran, record
from supervisor.cli.render import as_json, clean, moment, note, out, pairs, pretty_json, span
from supervisor.cli.session import Session, converse
from supervisor.cli.verdict import used_text, verdicts_text
from supervisor.client.job import Job
from supervisor.errors import JobNotFound
from supervisor.protocol import fields


@command(
    "job",
    exits="0 done, 1 there is no such job, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd job thumbnails 17 --logs",
)
@click.argument("queue")
@click.argument("job_id", metavar="ID")
@click.option("--logs", is_flag=True, help="the job's log too")
def job(common: Common, queue: str, job_id: str, logs: bool) -> int:
    """Show all that is stored of the job ID of QUEUE, and the state it is in.

    Attempts that did not end by their processor's own word have verdicts: the cause, what was measured, the
    last of what was printed. With --json they are `verdicts`, the oldest first, as they are stored.
    Points in time are local; with --json they are epoch milliseconds.
    """
    return converse(common, lambda session: _job(session, queue, job_id, logs))


async def _job(session: Session, name: str, job_id: str, with_logs: bool) -> int:
    async with session.queue(name) as queue:
        found = await queue.get(job_id)
        if found is None:
            raise JobNotFound(f"there is no job {job_id} in {name} (prefix {session.prefix!r})")
        state = await queue.state(job_id)
        logs = await queue.logs(job_id) if with_logs else []
    if session.json:
        out(as_json(record(found, state) | ({"logs": logs} if with_logs else {})))
        return 0
    now_ms = time.time_ns() // 1_000_000
    out(pairs(_facts(found, state, now_ms)))
    for text in verdicts_text(found.verdicts):
        out(text)
    for title, texts in (("stack traces", found.stacktrace), ("log", logs)):
        if texts:
            out(f"\n{title}")
            for number, text in enumerate(texts):
                if number and title == "stack traces":
                    out("")  # between one attempt and the next
                out("\n".join(f"  {clean(line)}" for line in text.splitlines() or [""]))
    if with_logs and not logs:
        note("oxherd: its log is empty")
    for problem in found.problems:
        note(f"oxherd: {problem}")
    return 0


def _facts(job: Job, state: str, now_ms: int) -> Iterator[tuple[str, str]]:
    yield "job", clean(f"{job.queue}/{job.id}")
    yield "name", clean(job.name)
    yield "state", state
    yield "added", moment(job.timestamp, now_ms)
    if state == fields.DELAYED:
        yield "due", moment(job.timestamp + job.delay_ms, now_ms)
    if job.processed_on:
        waited = span(job.processed_on - job.timestamp - job.delay_ms)
        yield "started", f"{moment(job.processed_on, now_ms)}, waited {waited}"
    if job.finished_on:
        yield "finished", ", ".join(filter(None, [moment(job.finished_on, now_ms), ran(job)]))
    yield "attempts", attempts(job) + (f", started {job.attempts_started}" if job.attempts_started else "")
    if job.used:
        yield "used", used_text(job.used)
    if job.priority:
        yield "priority", str(job.priority)
    if job.crashes:
        yield "crashes", str(job.crashes)
    if job.stalled_count:
        yield "stalled", f"{job.stalled_count} times"
    for name, text in _texts(job):
        if text:
            yield name, clean(text)
    yield "options", pretty_json(job.options)
    yield "data", pretty_json(job.data)
    if state == fields.COMPLETED:
        yield "result", pretty_json(job.returned)
    for name, text in job.extra.items():
        yield clean(name), clean(text)


def _texts(job: Job) -> Iterator[tuple[str, str]]:
    yield "progress", progress_text(job.progress)
    yield "reason", job.failed_reason or ""
    yield "worker", job.processed_by or ""
    yield "to fail", job.deferred_failure or ""
    yield "parent", as_json(job.parent) if job.parent else ""
    yield "scheduler", job.scheduler_id or ""
    yield "dedup id", job.deduplication_id or ""
