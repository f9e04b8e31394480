"""`oxherd batch`: a job for each line of a file, and one that collects what they returned."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, note, out
from supervisor.cli.session import Session, converse
from supervisor.cli.spool import Spool
from supervisor.cli.values import BACKOFF_TYPE, DURATION, read_json
from supervisor.cli.waiting import watch
from supervisor.client import batches
from supervisor.client.core import Action
from supervisor.client.job import Job
from supervisor.client.listen import first_place
from supervisor.client.queue import Queue
from supervisor.errors import InvalidJob, OxherdError, RedisError
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import AddOptions, JobSpec, encode_job


@command(
    "batch",
    exits="0 added (with --wait: collected), 1 the batch failed or was not done in time, 2 wrong usage or "
    "data, 3 Redis unreachable",
    example="oxherd batch thumbnails resize --jsonl pages.jsonl --collect zip --wait",
)
@click.argument("queue")
@click.argument("name")
@click.option(
    "--jsonl",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="each line of FILE is the data of one job; - is stdin. One bad line, and none is added",
)
@click.option("--collect", metavar="NAME", required=True, help="what the job that collects is called")
@click.option("--chunk", type=int, metavar="N", help="N lines in one job, whose data is the list of them")
@click.option(
    "--on-failure",
    type=click.Choice([batches.FAIL, batches.COLLECT]),
    default=batches.FAIL,
    help="a job that fails for good fails the batch, or is collected as an error (default: fail)",
)
@click.option("--batch-id", metavar="ID", help="an id of your own: a second batch with it is not added again")
@click.option("--priority", type=int, metavar="N", help="of its jobs: 1 is first, 2097151 last (default: 0)")
@click.option("--attempts", type=int, metavar="N", help="how often to try each job in all (default: 1)")
@click.option(
    "--backoff",
    type=BACKOFF_TYPE,
    metavar="BACKOFF",
    help="pause between attempts: 1s, exponential:1s, custom:NAME",
)
@click.option("--wait", is_flag=True, help="wait until all is collected, and print that as JSON")
@click.option("--wait-timeout", "wait_ms", type=DURATION, metavar="DURATION", help="wait no longer than this")
def batch(
    common: Common, queue: str, name: str, jsonl: str, wait: bool, wait_ms: int | None, **given: Any
) -> int:
    """Add a job called NAME to QUEUE for each line of a file, and one that runs when they are done.

    That one gets what they returned by job.batch_results(). Its id is printed, and is the batch's; with
    --wait it goes to stderr. Everything is checked before anything is sent.
    """
    QueueKeys(queue)
    collect, chunk, policy, batch_id = (
        given.pop(key) for key in ("collect", "chunk", "on_failure", "batch_id")
    )
    options: AddOptions = {key: value for key, value in given.items() if value is not None}  # type: ignore[assignment]
    with Spool.of(jsonl) as lines:
        items = _items(lines, name, options)
    action = batches.add(
        name, items, collect=collect, chunk=chunk, on_failure=policy, batch_id=batch_id, **options
    )
    wait = wait or wait_ms is not None
    return converse(common, lambda session: _add(session, queue, action, len(items), wait, wait_ms))


def _items(lines: Spool, name: str, options: AddOptions) -> list[Any]:
    """The data of all lines; raises `InvalidJob` that names the first line that cannot be."""
    items = []
    for number, text in lines:
        try:
            items.append(read_json(text))
            encode_job(JobSpec(name, items[-1], options), now_ms=0)
        except (ValueError, OxherdError) as error:
            raise InvalidJob(f"line {number} of {lines.name}: {error}; none of its jobs was added") from None
    if not items:
        raise InvalidJob(f"{lines.name} has no lines; nothing was added")
    return items


async def _add(
    session: Session, queue_name: str, action: Action[Job], count: int, wait: bool, wait_ms: int | None
) -> int:
    async with session.queue(queue_name) as queue:
        since = await queue.run(first_place(None))
        job = await _added(queue, action)
        if wait:
            note(f"oxherd: batch {queue_name}/{job.id} of {'1 item' if count == 1 else f'{count:,} items'}")
            return await watch(queue, job, since, wait_ms, as_json_line=session.json)
    out(as_json({"queue": queue_name, "id": job.id, "items": count}) if session.json else job.id)
    return 0


async def _added(queue: Queue, action: Action[Job]) -> Job:
    try:
        return await queue.run(action)
    except RedisError:
        note("oxherd: a part of the batch was added perhaps; with --batch-id the same call finishes it")
        raise
