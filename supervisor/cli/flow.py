"""`oxherd flow`: trees of jobs added from a file, and shown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import as_json, clean, clipped, out
from supervisor.cli.session import Session, converse
from supervisor.cli.spool import read_data
from supervisor.client import flows
from supervisor.client.flows import Flow, FlowJob
from supervisor.errors import InvalidJob, JobNotFound, OxherdError
from supervisor.protocol.commands.read import GetState
from supervisor.protocol.flow_tree import flow_of
from supervisor.protocol.keys import QueueKeys

NAME_WIDTH = 60


@command(
    "add",
    exits="0 added, 1 a job of another parent or a parent that has ended, 2 wrong usage or file, "
    "3 Redis unreachable",
    example="oxherd flow add book.json",
)
@click.argument("file", type=click.Path(), metavar="FILE")
def add(common: Common, file: str) -> int:
    """Add the tree of jobs in FILE, all of them or none, and print the id of its first job.

    FILE is JSON (- is stdin): one tree, or a list of trees. A job is an object with name, queue, data,
    options, children and prefix; all but the name of each and the queue of the first may be left out. The
    options are those of Queue.add, such as attempts, delay_ms and fail_parent_on_failure.
    """
    trees = _read(file)
    return converse(common, lambda session: _add(session, trees))


@command(
    "show",
    exits="0 done, 1 there is no such job, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd flow show books 17",
)
@click.argument("queue")
@click.argument("job_id", metavar="ID")
@click.option("--depth", type=click.IntRange(1, 1_000), default=10, metavar="N", help="levels (default: 10)")
@click.option(
    "--children",
    "most",
    type=click.IntRange(min=1),
    default=20,
    metavar="N",
    help="children of a job: so many of each group (default: 20)",
)
def show(common: Common, queue: str, job_id: str, depth: int, most: int) -> int:
    """Show the job ID of QUEUE and those it waits for or has waited for, each with its state.

    A line that ends in ... has children that are not shown. With --json it is one object a job, parents
    first, each with the key of its parent.
    """
    QueueKeys(queue)
    return converse(common, lambda session: _show(session, queue, job_id, depth, most))


def _read(file: str) -> list[FlowJob]:
    value = read_data(file)
    trees = [flow_of(tree) for tree in (value if isinstance(value, list) else [value])]
    if not trees:
        raise InvalidJob("there is no flow in the file; nothing was added")
    for tree in trees:
        if not isinstance(tree.queue, str):
            raise InvalidJob(
                f"the first job of a flow, here {tree.name!r}, says its queue; nothing was added"
            )
    return trees


def _queues(trees: list[FlowJob]) -> Iterator[str]:
    for tree in trees:
        if isinstance(tree.queue, str):
            yield tree.queue
        yield from _queues(list(tree.children))


async def _add(session: Session, trees: list[FlowJob]) -> int:
    defaults = {name: session.defaults(name) for name in set(_queues(trees))}
    async with session.queue(trees[0].queue or "") as queue:
        added = await queue.run(flows.add_bulk(trees, defaults=defaults))
    for flow in added:
        job = flow.job
        out(as_json({"queue": job.queue, "id": job.id, "jobs": _size(flow)}) if session.json else job.id)
    return 0


async def _show(session: Session, name: str, job_id: str, depth: int, most: int) -> int:
    async with session.queue(name) as queue:
        flow = await queue.run(flows.get(job_id, depth=depth, max_children=most))
        if flow is None:
            raise JobNotFound(f"there is no job {job_id} in {name} (prefix {session.prefix!r})")
        lines = list(_lines(flow, "", 0))
        redis = await queue.connect()
        asked = [GetState(_keys(each), each.job.id) for each, _, _ in lines]
        states = await redis.execute_many(asked)
    for (each, parent, level), state in zip(lines, states, strict=True):
        if isinstance(state, OxherdError):
            raise state
        out(as_json(_record(each, parent, state)) if session.json else _line(each, level, state))
    return 0


def _lines(flow: Flow, parent: str, level: int) -> Iterator[tuple[Flow, str, int]]:
    yield flow, parent, level
    key = _keys(flow).job(flow.job.id)
    for child in flow.children:
        yield from _lines(child, key, level + 1)


def _keys(flow: Flow) -> QueueKeys:
    return QueueKeys(flow.job.queue, flow.prefix)


def _size(flow: Flow) -> int:
    return 1 + sum(map(_size, flow.children))


def _line(flow: Flow, level: int, state: str) -> str:
    job = flow.job
    said = job.problems[0] if job.problems else state
    why = f": {job.failed_reason}" if state == "failed" and job.failed_reason else ""
    name = clipped(clean(job.name), NAME_WIDTH)
    text = f"{'  ' * level}{clean(job.queue)}/{clean(job.id)}  {name}  {said}{clean(why)}"
    return text + (" ..." if flow.more else "")


def _record(flow: Flow, parent: str, state: str) -> dict[str, Any]:
    job = flow.job
    return {
        "key": _keys(flow).job(job.id),
        "parent": parent or None,
        "queue": job.queue,
        "id": job.id,
        "name": job.name,
        "state": state,
        "returned": job.returned,
        "failed_reason": job.failed_reason,
        "more": flow.more,
    }


flow = family(
    "flow",
    "Flows: jobs that wait for jobs. Children run first, a parent when its children are done.",
    add,
    show,
    exits="0 done, 1 the answer is no, 2 wrong usage, config or file, 3 Redis unreachable",
    example="oxherd flow add book.json",
)
