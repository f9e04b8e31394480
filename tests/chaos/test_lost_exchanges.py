"""Lost replies of the real call: outcomes and fetches while the server is stopped between send and reply.

200 rounds (design.md section 3). However often a reply was lost, every job starts once, ends once, and none
is left active.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter

from redis_stand_ins import private_server, until

from supervisor.protocol.codes import Code
from supervisor.protocol.commands.add import AddJobs, NewJob
from supervisor.protocol.commands.work import Completed, Exchange, FetchedJob, FinishAndFetch
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.aio import Redis

ROUNDS = 200
AT_ONCE = 3
KEYS = QueueKeys("q")
REPLY_TIMEOUT_S = 0.02


def exchange(number: int, finished: list[FetchedJob], count: int) -> FinishAndFetch:
    return FinishAndFetch(
        queue=KEYS,
        call_token=f"w:{number}",
        now_ms=int(time.time() * 1000),
        lock_ms=60_000,
        count=count,
        outcomes=[Completed(job.id, job.token, b"%d" % number, KEEP_ALL) for job in finished],
    )


async def with_the_server_stopped(
    redis: Redis, server, command: FinishAndFetch, chance: random.Random
) -> Exchange:
    """Run the command; the server stops before it, while it is on its way, or when it has just run."""
    moment = chance.randrange(3)
    if moment == 0:
        server.freeze()
    call = asyncio.ensure_future(redis.execute_repeatable(command))
    if moment:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if moment == 2:
            time.sleep(chance.random() / 2_000)  # noqa: ASYNC251  # the loop must not read the reply
        server.freeze()
    await until(lambda: call.done() or not redis.connected)
    if not call.done():
        await asyncio.sleep(chance.random() * 2 * REPLY_TIMEOUT_S)
    server.thaw()
    return await asyncio.wait_for(call, 30)


async def test_lost_replies_200_rounds_of_finish_and_fetch_lose_nothing_and_repeat_nothing():
    chance = random.Random(20_261_122)
    with private_server() as server:
        redis = await Redis.connect(
            server.url, reply_timeout_s=REPLY_TIMEOUT_S, connect_timeout_s=REPLY_TIMEOUT_S, retry_for_s=10.0
        )
        async with redis:
            new = [NewJob("j", b"{}", b'{"attempts":0}', 1) for _ in range(ROUNDS * AT_ONCE)]
            for at in range(0, len(new), 100):
                await redis.execute(AddJobs(KEYS, new[at : at + 100]))
            taken: list[str] = []
            in_hand: list[FetchedJob] = []
            for number in range(ROUNDS):
                reply = await with_the_server_stopped(
                    redis, server, exchange(number, in_hand, AT_ONCE), chance
                )
                assert {written.code for written in reply.written} <= {Code.DONE}
                in_hand = list(reply.jobs)
                taken += [job.id for job in in_hand]
            await redis.execute_repeatable(exchange(ROUNDS, in_hand, 0))
            assert redis.reconnects > ROUNDS / 4, "replies were lost indeed"

        assert Counter(taken) == {str(n): 1 for n in range(1, len(new) + 1)}, "every job was taken once"
        with server.client() as raw:
            assert raw.llen(KEYS.wait) == 0 and raw.llen(KEYS.active) == 0
            assert raw.zcard(KEYS.completed) == len(new)
            for job_id in taken:
                assert raw.hmget(KEYS.job(job_id), "ats", "atm") == [b"1", b"1"]
                assert not raw.exists(KEYS.lock(job_id))
            ended = [
                fields[b"jobId"] for _, fields in raw.xrange(KEYS.events) if fields[b"event"] == b"completed"
            ]
            assert len(ended) == len(set(ended))
