"""`listen` without asyncio: the twin of `listening.py`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from supervisor.client.blocking import Queue
from supervisor.protocol.queue_events import QueueEvent


def listen(queue: Queue | str, *, since: str | None = None) -> Iterator[QueueEvent]:
    """What happens in a queue, as it happens, without end: `Queue.events`, also for a queue's bare name.

    queue   a `Queue`, or a name; then a connection is opened for it and closed when you stop.
    since   go on after the event of this `id`; `0-0` for all that is still stored; now if not given.

    To resume in another process, store the `id` of each event when you are done with it. An event named
    `ox:gap` tells that you came too late for some: its values `after` and `before` are the ids around them.
    """
    with contextlib.ExitStack() as stack:
        if not isinstance(queue, Queue):
            queue = stack.enter_context(Queue(queue))
        yield from queue.events(since=since)
