"""Redis behind Sentinels: who is the master is asked at each connection, and a failover costs a moment.

Replication is asynchronous, so what the old master had answered and not yet passed on is lost with it: a job
that was fetched in that moment is fetched again. Nothing else may be lost, or run twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from redis_places import HOST, Node, Sentinels, follows, standing, wait_for
from redis_stand_ins import Count, source
from running import Running

from supervisor.blocking import Queue
from supervisor.errors import RedisUnavailable
from supervisor.transport.aio import Redis
from supervisor.transport.blocking import Redis as BlockingRedis

SLOTS = 4


@pytest.fixture(scope="module")
def sentinels() -> Iterator[Sentinels]:
    with standing(Sentinels) as sentinels:
        yield sentinels


@pytest.fixture
def redis_url(sentinels: Sentinels) -> str:
    """A master that is empty and followed; also what the fixtures of `running` start a master on."""
    wait_for(lambda: followed(sentinels), "a replica follows the master")
    sentinels.master.ask("FLUSHALL")
    return sentinels.url


def followed(sentinels: Sentinels) -> bool:
    with contextlib.closing(sentinels.master.client()) as client:
        return client.info("replication")["connected_slaves"] == 1 and follows(sentinels.replica)


def failed_over(sentinels: Sentinels, old: Node) -> None:
    wait_for(lambda: sentinels.master is not old, "the Sentinels name another master")


async def test_both_clients_ask_the_sentinels(sentinels: Sentinels, redis_url: str) -> None:
    dead_first = redis_url.replace("://", f"://{HOST}:1,")
    async with await Redis.connect(dead_first, sources=source) as redis:
        assert await redis.execute(Count()) == 1
    with BlockingRedis.connect(dead_first, sources=source) as blocking:
        assert await asyncio.to_thread(blocking.execute, Count()) == 2

    assert sentinels.master.ask("GET", "n") == b"2"


async def test_each_mistake_is_a_sentence_to_both_clients(sentinels: Sentinels, redis_url: str) -> None:
    one = f"{HOST}:{sentinels.master.port}"
    mistakes = [
        (redis_url.replace("/herd", "/flock"), "know no master called 'flock'; they know herd"),
        (f"redis+sentinel://{one}/herd", f"is no Sentinel; to name a Redis itself, write redis://{one}"),
        (f"redis+sentinel://{HOST}:1/herd", "no Sentinel tells the master .*connection refused"),
        (f"redis+cluster://{one}", f"is no cluster; name it as redis://{one}"),
    ]
    for url, told in mistakes:
        with pytest.raises(RedisUnavailable, match=told):
            await Redis.connect(url, prefix="{bull}")
        with pytest.raises(RedisUnavailable, match=told):
            await asyncio.to_thread(BlockingRedis.connect, url, prefix="{bull}")
    with pytest.raises(RedisUnavailable, match=r"that is a Sentinel.*write redis[+]sentinel://"):
        await Redis.connect(f"redis://{HOST}:{sentinels.sentinels[0].port}")


async def test_a_call_that_the_old_master_never_answered_runs_once_on_the_new_one(
    sentinels: Sentinels, redis_url: str
) -> None:
    """Lost replies: the request still sits in the input of a frozen master, which wakes up and has lost."""
    old = sentinels.master
    blocking = BlockingRedis(redis_url, sources=source, reply_timeout_s=0.5)
    async with await Redis.connect(redis_url, sources=source, reply_timeout_s=0.5) as redis:
        assert await asyncio.to_thread(blocking.execute, Count()) == 1
        assert await redis.execute(Count()) == 2
        assert old.ask("WAIT", 1, 5000) == 1
        old.signal(signal.SIGSTOP)
        try:
            counted = await asyncio.wait_for(redis.execute_repeatable(Count()), 30)
            assert counted == 3
        finally:
            old.signal(signal.SIGCONT)
        new = sentinels.master
        assert new is not old
        old.ask("REPLICAOF", new.host, new.port)  # as the Sentinels do, but sooner
        await asyncio.to_thread(wait_for, lambda: follows(old), "the old master follows")
        assert await redis.execute(Count()) == 4
        assert await asyncio.to_thread(blocking.execute, Count()) == 5
    blocking.close()
    # Not WAIT: it waits for what its own connection has written, and that one has written nothing.
    wait_for(lambda: old.ask("GET", "n") == b"5", "the old master has what the new one counted")


def test_a_master_goes_on_when_redis_is_killed(
    sentinels: Sentinels, redis_url: str, oxherd: Callable[..., Running]
) -> None:
    """Hot path, marker and subscription follow: every job is done, and cancelling works at the new master."""
    running = oxherd("--concurrency", str(SLOTS))
    running.until("master.started")
    added: list[str] = []
    stop = threading.Event()
    old = sentinels.master

    def produce() -> None:
        with Queue("work", url=redis_url) as own:
            while not stop.is_set():
                # An id makes it safe to say again what may have been lost.
                job_id = f"job-{len(added)}"
                try:
                    own.add("work", {"do": "sleep", "s": 0.02}, job_id=job_id)
                except RedisUnavailable:
                    continue
                added.append(job_id)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        wait_for(lambda: len(added) > 30, "jobs are added")
        assert old.ask("WAIT", 1, 5000) == 1
        old.kill()
        failed_over(sentinels, old)
        before = len(added)
        wait_for(lambda: len(added) > before + 30, "jobs are added to the new master")
    finally:
        stop.set()
        producer.join(30)
    with Queue("work", url=redis_url) as queue:
        # What was answered and not passed on, in the last moment of the old one; said again it is there.
        for job_id in added:
            queue.add("work", {"do": "nothing"}, job_id=job_id)
        wait_for(lambda: queue.counts()["completed"] == len(added), f"{len(added)} jobs are done", 60)

        job = queue.add("work", {"do": "sleep", "s": 60})
        wait_for(lambda: queue.state(job.id) == "active", "the long job runs")
        queue.cancel(job.id)
        wait_for(lambda: queue.state(job.id) == "failed", "it was cancelled", 10)

    def completed() -> Counter[str]:
        return Counter(event["job_id"] for event in running.events("job.completed"))

    wait_for(lambda: set(added) <= set(completed()), "the master has told of all")
    done = completed()
    assert sum(done.values()) - len(done) <= SLOTS, (
        f"more ran twice than there are slots: {done.most_common(9)}"
    )
