"""`oxherd events`: what happens in a queue, as it happens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, clipped, out, padded
from supervisor.cli.session import Session, converse
from supervisor.protocol.queue_events import QueueEvent

_NAME_WIDTH = 17  # of the longest name of an event
_VALUE_WIDTH = 100


@command(
    "events",
    exits="0 when --count is reached, 2 wrong usage or config, 3 Redis unreachable, 130 ended with Ctrl-C",
    example="oxherd events thumbnails --json | jq 'select(.event == \"failed\")'",
)
@click.argument("queue")
@click.option(
    "--from", "since", metavar="ID", help="after this event, 0 for all that are kept (default: from now on)"
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="end after N events (default: never)")
def events(common: Common, queue: str, since: str | None, count: int | None) -> int:
    """Follow the event stream of QUEUE, one line an event, until Ctrl-C.

    The first word of a line is the event's ID in the stream, which --from takes. The stream keeps about the
    newest 10,000.
    """
    if since is not None and not since.replace("-", "", 1).isdecimal():
        raise click.BadParameter(
            f"{since!r} is no id of an event; one looks like 1732281912345-0", param_hint="--from"
        )
    return converse(common, lambda session: _events(session, queue, since, count))


async def _events(session: Session, name: str, since: str | None, count: int | None) -> int:
    seen = 0
    async with session.queue(name) as queue:
        async for event in queue.events(since=since):
            out(as_json(_record(name, event)) if session.json else _line(event))
            seen += 1
            if seen == count:
                break
    return 0


def _record(queue: str, event: QueueEvent) -> dict[str, Any]:
    return {
        "queue": queue,
        "id": event.id,
        "event": event.name,
        "job_id": event.job_id,
        "told_on": event.told_on,
        "values": dict(event.values),
    }


def _line(event: QueueEvent) -> str:
    time = datetime.fromtimestamp(event.told_on / 1000).astimezone().isoformat(" ", "milliseconds")
    values = " ".join(f"{name}={_short(value)}" for name, value in event.values.items())
    who = padded(clean(event.job_id or "-"), 8)
    return f"{event.id}  {time}  {clean(event.name):<{_NAME_WIDTH}}  {who}  {values}".rstrip()


def _short(value: Any) -> str:
    return clipped(clean(value if isinstance(value, str) else as_json(value)), _VALUE_WIDTH)
