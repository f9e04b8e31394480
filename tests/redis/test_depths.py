"""How deep queues are, as a real server tells it."""

from __future__ import annotations

import pytest

from oxherd import Queue
from supervisor.client.manage import obliterate
from supervisor.master.depths import READ_EVERY_S, Depths
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

NOW_S = 2_000_000_000.0
WORK, BROKEN, NEVER = QueueKeys("work"), QueueKeys("broken"), QueueKeys("never")


@pytest.mark.parametrize("served", [[WORK, BROKEN, NEVER], [WORK]])
async def test_what_is_there_is_told_and_what_is_gone_is_not(redis_url: str, raw, served) -> None:
    at = 0.0
    raw.set(BROKEN.wait, "no list")
    raw.hset(BROKEN.meta, "x", "y")
    async with await Redis.connect(redis_url) as redis:
        depths = Depths(redis, clock=lambda: at, wall_clock=lambda: NOW_S)
        async with Queue("work", redis=redis, clock=lambda: round((NOW_S - 90) * 1000)) as queue:
            await queue.add("x", {}, priority=2)
        async with Queue("work", redis=redis, clock=lambda: round((NOW_S - 60) * 1000)) as queue:
            await queue.add("x", {})
            await queue.add("x", {}, delay_ms=600_000)
            await queue.pause()
            told = await depths.look(served)
            assert list(told) == ["work"]
            depth = told["work"]
            counts = {state: count for state, count in depth.jobs.items() if count}
            assert (counts, depth.paused) == ({"waiting": 1, "prioritized": 1, "delayed": 1}, True)
            assert depth.oldest_s == pytest.approx(90)

            await queue.run(obliterate(force=True))
            assert list(await depths.look(served)) == ["work"]  # as it was a moment ago
            at += READ_EVERY_S
            assert await depths.look(served) == {}
