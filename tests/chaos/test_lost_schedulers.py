"""Lost replies of a scheduler's calls: the server stops during them, and no run is doubled or left out.

Virtual time: each round is the moment at which the next run is due, so nothing waits for a clock but the
transport, which is to notice that the server does not answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import pytest
from redis_stand_ins import PrivateServer, private_server, until

from supervisor.client import Queue
from supervisor.client.schedulers import Schedule, by_cron, every, get_scheduler, upsert_scheduler
from supervisor.errors import RedisUnavailable
from supervisor.master.scheduling import add_following
from supervisor.protocol.commands.work import Completed, FetchedJob, FinishAndFetch
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

T = TypeVar("T")
ROUNDS: Final = 60
KEYS: Final = QueueKeys("q")
PERIOD_MS: Final = 60_000
START_MS: Final = 1_795_000_020_000  # a whole minute, so that both schedules run at the same moments
REPLY_TIMEOUT_S: Final = 0.02


async def with_the_server_stopped(
    redis: Redis, server: PrivateServer, call: Callable[[], Awaitable[T]], chance: random.Random
) -> T:
    """Make the call; the server stops before it, while it is on its way, or when it has just run."""
    moment = chance.randrange(4)
    if moment == 0:
        server.freeze()
    task = asyncio.ensure_future(call())
    if moment in (1, 2):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if moment == 2:
            time.sleep(chance.random() / 2_000)  # noqa: ASYNC251  # the loop must not read the reply
        server.freeze()
    if moment != 3:
        await until(lambda: task.done() or not redis.connected)
        server.thaw()
    return await asyncio.wait_for(task, 30)


async def again_until_answered(call: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """What a caller does who is told that nobody knows whether it was done; how often it was asked."""
    asked = 0
    while True:
        asked += 1
        try:
            return await call(), asked
        except RedisUnavailable:
            assert asked < 100


def exchange(number: int, ended: FetchedJob | None, now_ms: int) -> FinishAndFetch:
    outcomes = [] if ended is None else [Completed(ended.id, ended.token, b"1", KEEP_ALL)]
    return FinishAndFetch(KEYS, f"w:{number}", now_ms, 60_000, 1, outcomes=outcomes)


def run_at(place: int) -> int:
    return START_MS + place * PERIOD_MS


@pytest.mark.parametrize(
    "schedule", [every(PERIOD_MS), by_cron("* * * * *", tz="UTC")], ids=["every", "cron"]
)
async def test_lost_replies_no_run_of_a_scheduler_is_doubled_or_left_out(schedule: Schedule):
    chance = random.Random(20_261_122)
    with private_server() as server:
        redis = await Redis.connect(
            server.url, reply_timeout_s=REPLY_TIMEOUT_S, connect_timeout_s=REPLY_TIMEOUT_S, retry_for_s=10.0
        )
        async with redis:
            now_ms = START_MS - 1 if schedule.pattern else START_MS
            queue = Queue("q", redis=redis, clock=lambda: now_ms)
            asked = 0

            async def upsert() -> Any:
                nonlocal asked
                make = upsert_scheduler("s", schedule, name="tick", data={"n": 1})
                made, times = await again_until_answered(lambda: queue.run(make))
                asked += times
                return made

            await with_the_server_stopped(redis, server, upsert, chance)
            taken: list[str] = []
            job: FetchedJob | None = None
            for number in range(ROUNDS):
                now_ms = run_at(number)
                command = exchange(number, job, now_ms)
                reply = await with_the_server_stopped(
                    redis, server, lambda command=command: redis.execute_repeatable(command), chance
                )
                (job,) = reply.jobs
                taken.append(job.id)

                async def advance(job: FetchedJob = job, now_ms: int = now_ms) -> None:
                    await add_following(redis, KEYS, job, now_ms=now_ms)

                await with_the_server_stopped(redis, server, advance, chance)
                if number % 5 == 0:  # the same again keeps the pending run where it is
                    now_ms += 1_000
                    made = await with_the_server_stopped(redis, server, upsert, chance)
                    assert made.due_on == run_at(number + 1)
            await redis.execute_repeatable(exchange(ROUNDS, job, now_ms))

            assert redis.reconnects > ROUNDS / 2, "replies were lost indeed"
            assert asked > 1 + ROUNDS / 5, "callers of upsert had to ask again"
            stored = await queue.run(get_scheduler("s"))

        assert taken == [f"repeat:s:{run_at(number)}" for number in range(ROUNDS)]
        assert stored is not None and stored.next_on == run_at(ROUNDS)
        with server.client() as raw:
            assert raw.zrange(KEYS.delayed, 0, -1) == [f"repeat:s:{run_at(ROUNDS)}".encode()]
            assert raw.llen(KEYS.wait) == raw.llen(KEYS.active) == 0
            assert raw.zcard(KEYS.completed) == ROUNDS
            jobs = raw.keys("bull:q:repeat:s:*")
            assert len(jobs) == ROUNDS + 1, "and no job was left behind"
            for job_id in taken:
                assert raw.hget(KEYS.job(job_id), "ats") == b"1"
