"""`oxherd add`: one job, or one for each line of a file; and waiting for the one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.dedup import dedup_options, taken_deduplication
from supervisor.cli.render import Report, as_json, note, out
from supervisor.cli.session import Session, converse
from supervisor.cli.spool import Spool, read_data
from supervisor.cli.values import BACKOFF_TYPE, DURATION, read_json
from supervisor.cli.waiting import there_before, wait_for
from supervisor.errors import InvalidJob, OxherdError, RedisError, UsageError
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import AddOptions, JobSpec, encode_job

JOBS_A_CHUNK = 2_000


@command(
    "add",
    exits="0 added (with --wait: completed), 1 the job failed or was not done in time, 2 wrong usage or "
    "data, 3 Redis unreachable",
    example="oxherd add thumbnails resize '{\"page\": 1}' --attempts 3 --backoff exponential:1s --wait",
)
@click.argument("queue")
@click.argument("name")
@click.argument("json_text", metavar="[JSON]", required=False)
@click.option(
    "--data-file", type=click.Path(), metavar="FILE", help="the data is the JSON in FILE; - is stdin"
)
@click.option(
    "--jsonl",
    type=click.Path(),
    metavar="FILE",
    help="one job for each line of FILE, whose data it is; - is stdin. One bad line, and none is added",
)
@click.option(
    "--delay", "delay_ms", type=DURATION, metavar="DURATION", help="not before so long from now, like 5s"
)
@click.option("--priority", type=int, metavar="N", help="1 is first, 2097151 last, 0 none (default: 0)")
@click.option("--attempts", type=int, metavar="N", help="how often to try in all (default: 1)")
@click.option(
    "--backoff",
    type=BACKOFF_TYPE,
    metavar="BACKOFF",
    help="pause between attempts: 1s, exponential:1s, custom:NAME",
)
@click.option("--job-id", metavar="ID", help="an id of your own: a second job with it is not added again")
@click.option("--lifo", is_flag=True, default=None, help="before all others without a priority")
@dedup_options
@click.option("--timeout", "timeout_ms", type=DURATION, metavar="DURATION", help="wall time of one attempt")
@click.option("--keep-logs", type=int, metavar="N", help="the newest N rows of its log stay (default: all)")
@click.option("--wait", is_flag=True, help="wait for its end, and print what it returned as JSON")
@click.option("--wait-timeout", "wait_ms", type=DURATION, metavar="DURATION", help="wait no longer than this")
def add(
    common: Common,
    queue: str,
    name: str,
    json_text: str | None,
    data_file: str | None,
    jsonl: str | None,
    wait: bool,
    wait_ms: int | None,
    **given: Any,
) -> int:
    """Add a job called NAME to QUEUE and print its id.

    JSON is its data, {} if there is none. With --wait the id goes to stderr, and stdout has the result alone.
    Everything is checked before anything is sent.
    """
    if sum(source is not None for source in (json_text, data_file, jsonl)) > 1:
        raise UsageError("give the data once: as JSON, with --data-file or with --jsonl")
    if jsonl is not None and (wait or given["job_id"] is not None):
        raise UsageError("--jsonl adds many jobs; --wait and --job-id are about one")
    if given["job_id"] == "":
        raise UsageError("--job-id is empty, so the job would get any id; nothing was added")
    if given["lifo"] and given["priority"]:
        raise UsageError(
            "--lifo is about jobs without a priority, and one with --priority goes by that alone; "
            "nothing was added"
        )
    given["deduplication"] = taken_deduplication(given)
    if jsonl is not None and given["deduplication"] is not None:
        raise UsageError("--jsonl adds many jobs, and of those with one --dedup-id only one would be added")
    options: AddOptions = {key: value for key, value in given.items() if value is not None}  # type: ignore[assignment]
    if jsonl is not None:
        _check(queue, JobSpec(name, {}, options))
        with Spool.of(jsonl) as lines:
            _check_lines(lines, name, options)
            return converse(common, lambda session: _add_lines(session, queue, name, lines, options))
    data = _data(json_text, data_file)
    _check(queue, JobSpec(name, data, options))
    wait = wait or wait_ms is not None
    return converse(
        common,
        lambda session: _add_one(session, queue, JobSpec(name, data, options), wait=wait, wait_ms=wait_ms),
    )


def _check(queue: str, spec: JobSpec) -> None:
    """Raise `UsageError` for a job or a queue that cannot be, before a server is looked for."""
    try:
        QueueKeys(queue)
        encode_job(spec, now_ms=0)
    except UsageError as error:
        told = str(error)
        raise InvalidJob(told if "nothing was" in told else f"{told}; nothing was added") from None


def _data(text: str | None, data_file: str | None) -> Any:
    if data_file is not None:
        return read_data(data_file)
    if text is None:
        return {}
    try:
        return read_json(text)
    except ValueError as error:
        hint = "; a file is given with --data-file" if Path(text[:255]).is_file() else ""
        raise InvalidJob(f"the data is {error}; nothing was added{hint}") from None


async def _add_one(
    session: Session, queue_name: str, spec: JobSpec, *, wait: bool, wait_ms: int | None
) -> int:
    async with session.queue(queue_name) as queue:
        if wait:
            return await wait_for(queue, spec, wait_ms, as_json_line=session.json)
        before = await there_before(queue, spec)
        job = await queue.add(spec.name, spec.data, **spec.options)
    if job.id in before:
        note(f"oxherd: {queue_name}/{job.id} is already there; nothing was added")
    out(as_json({"queue": queue_name, "id": job.id}) if session.json else job.id)
    return 0


# --- one job a line ------------------------------------------------------------------------------------


def _check_lines(lines: Spool, name: str, options: AddOptions) -> None:
    """Raise `InvalidJob` that names the first line that cannot be the data of a job."""
    for number, text in lines:
        try:
            encode_job(JobSpec(name, read_json(text), options), now_ms=0)
        except (ValueError, OxherdError) as error:
            raise InvalidJob(f"line {number} of {lines.name}: {error}; none of its jobs was added") from None


async def _add_lines(session: Session, queue_name: str, name: str, lines: Spool, options: AddOptions) -> int:
    added = 0
    with Report() as report:
        async with session.queue(queue_name) as queue:
            for chunk in lines.chunks(JOBS_A_CHUNK):
                specs = [JobSpec(name, read_json(text), options) for _, text in chunk]
                try:
                    jobs = await queue.add_bulk(specs)
                except RedisError:
                    lines_of = f"{chunk[0][0]} to {chunk[-1][0]}"
                    note(f"oxherd: {added:,} jobs were added; some of lines {lines_of} perhaps, none after")
                    raise
                added += len(jobs)
                for job in jobs:
                    report.out(as_json({"queue": queue_name, "id": job.id}) if session.json else job.id)
        note(f"oxherd: {'1 job' if added == 1 else f'{added:,} jobs'} added to {queue_name}")
    return 0
