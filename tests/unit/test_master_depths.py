"""What Redis is asked about depths: together, seldom, and never for long."""

from __future__ import annotations

import asyncio

from supervisor.errors import RedisRefused, RedisUnavailable
from supervisor.master.depths import READ_EVERY_S, Depths
from supervisor.protocol.commands.look import GetDepth, QueueDepth
from supervisor.protocol.keys import QueueKeys

QUEUES = [QueueKeys("mail"), QueueKeys("work")]


class Redis:
    """One that has three jobs in each queue, or says something else of one."""

    def __init__(self) -> None:
        self.at = 0.0
        self.asked: list[str] = []
        self.says: dict[str, object] = {}

    async def execute(self, command, *, patience_s=None):
        assert patience_s == 0.0
        await asyncio.sleep(0)
        if not isinstance(command, GetDepth):
            return [], None  # there is no first job
        self.asked.append(command.queue.name)
        said = self.says.get(command.queue.name, QueueDepth({"waiting": 3}, paused=False, exists=True))
        if isinstance(said, Exception):
            raise said
        return said

    def depths(self) -> Depths:
        return Depths(self, clock=lambda: self.at, wall_clock=lambda: 1_000.0)


async def test_however_many_want_to_know_redis_is_asked_every_few_seconds():
    redis = Redis()
    depths = redis.depths()
    told = await asyncio.gather(*(depths.look(QUEUES) for _ in range(20)))
    assert redis.asked == ["mail", "work"]
    assert all(sorted(each) == ["mail", "work"] for each in told)

    redis.at = READ_EVERY_S - 0.1
    await depths.look(QUEUES)
    assert len(redis.asked) == 2
    redis.at = READ_EVERY_S
    await depths.look(QUEUES)
    assert len(redis.asked) == 4


async def test_a_queue_that_is_served_from_now_on_is_asked_for_at_once():
    redis = Redis()
    depths = redis.depths()
    assert list(await depths.look(QUEUES[:1])) == ["mail"]
    assert list(await depths.look(QUEUES)) == ["mail", "work"]
    assert list(await depths.look(QUEUES[1:])) == ["work"]
    assert redis.asked == ["mail", "mail", "work"]


async def test_one_that_cannot_be_read_or_is_gone_hides_no_other():
    redis = Redis()
    depths = redis.depths()
    for said in (
        RedisRefused("WRONGTYPE"),
        RedisUnavailable("away", sent=False),
        QueueDepth({}, paused=False, exists=False),
    ):
        redis.says["mail"] = said
        redis.at += READ_EVERY_S
        assert list(await depths.look(QUEUES)) == ["work"]


async def test_a_redis_that_does_not_answer_is_waited_for_once(monkeypatch):
    monkeypatch.setattr("supervisor.master.depths.WITHIN_S", 0.01)
    redis = Redis()

    async def silent(command, *, patience_s=None):
        redis.asked.append("")
        await asyncio.Event().wait()

    redis.execute = silent  # type: ignore[method-assign]
    depths = redis.depths()
    assert await depths.look(QUEUES) == {}
    assert await depths.look(QUEUES) == {}
    assert len(redis.asked) == 2
