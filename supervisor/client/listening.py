"""`listen` for asyncio: the events of a queue, of which none is missed without a word.

Its twin without await is `listening_blocking.py`. What is read, and how, stands in `listen.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from supervisor.client.queue import Queue
from supervisor.protocol.queue_events import QueueEvent


async def listen(queue: Queue | str, *, since: str | None = None) -> AsyncIterator[QueueEvent]:
    """What happens in a queue, as it happens, without end: `Queue.events`, also for a queue's bare name.

    queue   a `Queue`, or a name; then a connection is opened for it and closed when you stop.
    since   go on after the event of this `id`; `0-0` for all that is still stored; now if not given.

    To resume in another process, store the `id` of each event when you are done with it. An event named
    `ox:gap` tells that you came too late for some: its values `after` and `before` are the ids around them.
    """
    async with contextlib.AsyncExitStack() as stack:
        if not isinstance(queue, Queue):
            queue = await stack.enter_async_context(Queue(queue))
        async for event in queue.events(since=since):
            yield event
