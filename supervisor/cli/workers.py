"""`oxherd workers`: who fetches from a queue, and who listens to it."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, note, out, span, table
from supervisor.cli.session import Session, converse
from supervisor.client import getters
from supervisor.protocol.commands.read_more import Connection

_WORKER = "worker"
_LISTENER = "listener"


@command(
    "workers",
    exits="0 there is a worker, 1 there is none, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd workers thumbnails --json | jq .address",
)
@click.argument("queue")
@click.option("--listeners", "listening", is_flag=True, help="who follows its events too")
def workers(common: Common, queue: str, listening: bool) -> int:
    """List the workers of QUEUE: connections that fetch from it, whatever program they belong to.

    Node's workers are listed as ours are, and the other way round. A worker whose name Redis refuses (one
    with a space) has none and is not listed.
    """
    return converse(common, lambda session: _workers(session, queue, listening))


async def _workers(session: Session, name: str, listening: bool) -> int:
    async with session.queue(name) as queue:
        fetching = await queue.run(getters.workers())
        found = [(_WORKER, each) for each in fetching]
        if listening:
            found += [(_LISTENER, each) for each in await queue.run(getters.listeners())]
    if session.json:
        for kind, each in found:
            out(as_json(_record(name, kind, each)))
    elif found:
        rows = [
            [clean(each.name or "-"), kind, clean(each.address), span(each.age_s * 1000)]
            for kind, each in found
        ]
        out(table(["name", "kind", "address", "connected for"], rows))
    if not fetching:
        note(f"oxherd: nobody fetches from {name} (prefix {session.prefix!r})")
        return 1
    return 0


def _record(queue: str, kind: str, each: Connection) -> dict[str, Any]:
    return {
        "queue": queue,
        "kind": kind,
        "name": each.name or None,
        "address": each.address,
        "connected_for_s": each.age_s,
        "client_name": each.client_name,
    }
