"""A Redis Cluster of three nodes: found by any of them, its slot moved under load, a node gone."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import ResponseError
from redis_places import Cluster, Node, Reshard, standing, wait_for
from redis_stand_ins import Count, source
from running import Running

from oxherd import Queue as AsyncQueue
from supervisor.blocking import Queue
from supervisor.errors import ConfigError, OxherdError, RedisRefused, RedisUnavailable
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.aio import Redis
from supervisor.transport.blocking import Redis as BlockingRedis
from supervisor.transport.marker import MarkerWaiter
from supervisor.transport.slots import slot_of

PREFIX = "{bull}"
SLOT = slot_of(PREFIX)
KEYS = QueueKeys("work", PREFIX)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with standing(Cluster) as cluster:
        yield cluster


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    """An empty cluster; also what the fixtures of `running` start a master on."""
    for node in cluster.nodes:
        node.ask("FLUSHALL")
    return cluster.url


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("work", url=redis_url, prefix=PREFIX) as queue:
        yield queue


def other_than(cluster: Cluster, owner: Node) -> Node:
    return next(node for node in cluster.nodes if node is not owner)


def moved(cluster: Cluster) -> None:
    """The slot of our keys, with all of them, on another node."""
    reshard = Reshard(cluster, SLOT, other_than(cluster, cluster.owner(SLOT)))
    reshard.begin()
    while reshard.move_keys(100):
        pass
    reshard.end()


async def test_any_node_leads_to_the_one_that_has_the_keys(cluster: Cluster, redis_url: str) -> None:
    for node in cluster.nodes:
        url = f"redis+cluster://{node.host}:{node.port}"
        async with await Redis.connect(url, prefix=PREFIX, sources=source) as redis:
            assert await redis.execute(Count("{bull}:n")) >= 1
        with BlockingRedis.connect(url, prefix=PREFIX, sources=source) as blocking:
            await asyncio.to_thread(blocking.execute, Count("{bull}:n"))

    assert cluster.owner(SLOT).ask("GET", "{bull}:n") == b"6"


async def test_each_mistake_is_a_sentence_to_both_clients(cluster: Cluster, redis_url: str) -> None:
    node = other_than(cluster, cluster.owner(SLOT))
    plain = f"redis://{node.host}:{node.port}"
    mistakes: list[tuple[str, str, str, type[OxherdError]]] = [
        (redis_url, "bull", r"the prefix 'bull' has no hash tag.*use the prefix '\{bull\}'", ConfigError),
        (plain, PREFIX, r"a node of a Redis Cluster.*write redis\+cluster://", OxherdError),
        ("redis+cluster://127.0.0.1:1", PREFIX, "connection refused", RedisUnavailable),
    ]
    for url, prefix, told, kind in mistakes:
        with pytest.raises(kind, match=told):
            async with AsyncQueue("work", url=url, prefix=prefix) as queue:
                await queue.add("x", {})
        with pytest.raises(kind, match=told), Queue("work", url=url, prefix=prefix) as blocking:
            await asyncio.to_thread(blocking.add, "x", {})


async def test_keys_of_another_slot_are_refused_with_a_sentence(redis_url: str) -> None:
    async with await Redis.connect(redis_url, prefix=PREFIX, sources=source) as redis:
        with pytest.raises(RedisRefused, match="need one hash tag in their prefix"):
            await redis.execute(Count("{ox}:n"))


async def test_no_script_begins_while_its_slot_moves(cluster: Cluster, redis_url: str) -> None:
    """A script makes names of keys: it would write on one node and break off at a key of the other."""
    reshard = Reshard(cluster, SLOT, other_than(cluster, cluster.owner(SLOT)))
    async with AsyncQueue("work", url=redis_url, prefix=PREFIX) as queue:
        await queue.add("x", {})
        before = sorted(reshard.source.client().scan_iter())
        reshard.begin()
        adding = asyncio.ensure_future(queue.add("x", {}, job_id="second"))
        await asyncio.wait({adding}, timeout=0.3)
        assert not adding.done()
        assert sorted(reshard.source.client().scan_iter()) == before  # not even the counter of ids has moved

        while reshard.move_keys(100):
            pass
        await asyncio.wait({adding}, timeout=0.2)
        assert not adding.done()
        reshard.end()

        assert (await adding).id == "second"
        assert (await queue.counts())["waiting"] == 2


async def test_the_marker_is_waited_for_where_the_slot_is_now(cluster: Cluster, redis_url: str) -> None:
    marker = MarkerWaiter(Address.parse(redis_url).for_prefix(PREFIX))
    try:
        waiting = asyncio.ensure_future(marker.wait(KEYS.marker, 20))
        await asyncio.to_thread(wait_for, lambda: blocked(cluster), "the pop waits")
        await asyncio.to_thread(moved, cluster)
        assert await asyncio.wait_for(waiting, 10) is None  # back, and the fetcher looks for itself

        waiting = asyncio.ensure_future(marker.wait(KEYS.marker, 20))
        await asyncio.to_thread(wait_for, lambda: blocked(cluster), "the pop waits")
        cluster.owner(SLOT).ask("ZADD", KEYS.marker, 7, "1")
        assert await asyncio.wait_for(waiting, 10) == 7
    finally:
        await marker.close()


def blocked(cluster: Cluster) -> bool:
    with contextlib.closing(cluster.owner(SLOT).client()) as client:
        return client.info("clients")["blocked_clients"] == 1


async def test_a_call_whose_reply_was_lost_runs_once_on_every_node(cluster: Cluster, redis_url: str) -> None:
    """Lost replies: the old connection is killed on its own node before the call is sent again."""
    address = Address.parse(redis_url).for_prefix(PREFIX)
    async with await Redis.connect(address, sources=source, reply_timeout_s=0.3) as redis:
        assert await redis.execute(Count("{bull}:n")) == 1
        for number in range(1, 4):
            owner, lost = cluster.owner(SLOT), redis.reconnects
            with contextlib.closing(owner.client()) as client:
                client.execute_command("CLIENT", "PAUSE", 800, "WRITE")  # so that the request waits there
                calling = asyncio.ensure_future(redis.execute_repeatable(Count("{bull}:n")))
                assert await asyncio.wait_for(calling, 20) == number + 1
            assert redis.reconnects >= lost + 1
            await asyncio.to_thread(moved, cluster)


def test_a_master_drains_its_queue_while_the_slot_moves(
    cluster: Cluster, redis_url: str, queue: Queue, oxherd: Callable[..., Running], tmp_path: object
) -> None:
    """Nothing is lost and nothing runs twice: hot path, marker and the clients follow the slot."""
    running = oxherd("--prefix", PREFIX, "--concurrency", "4")
    running.until("master.started")
    stop = threading.Event()
    added: list[str] = []

    def produce() -> None:
        with Queue("work", url=redis_url, prefix=PREFIX) as own:
            while not stop.is_set():
                added.append(own.add("work", {"do": "sleep", "s": 0.02}).id)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for number in (1, 2, 3):
            wait_for(lambda number=number: len(added) > 25 * number, "jobs are added")
            moved(cluster)
        wait_for(lambda: len(added) > 100, "jobs are added")
    finally:
        stop.set()
        producer.join(30)
    wait_for(lambda: queue.counts()["completed"] == len(added), "all are done", 60)
    running.until("job.completed", len(added))

    ends = Counter(event["job_id"] for event in running.events("job.completed"))
    assert ends == Counter(dict.fromkeys(added, 1)), running.story()
    attempts = {line["attempt"] for line in running.events("job.completed")}
    assert attempts == {1}
    assert not running.events("lock.lost")


def test_a_master_whose_prefix_has_no_hash_tag_says_so(
    redis_url: str, oxherd: Callable[..., Running]
) -> None:
    running = oxherd("--prefix", "bull")

    assert running.ended() == 2
    assert re.search(r"the prefix 'bull' has no hash tag", "".join(running.other))


# --- a slot that moves for longer than a lock lives ---------------------------------------------------------


async def test_what_only_reads_is_told_by_both_nodes_while_the_slot_moves(
    cluster: Cluster, redis_url: str
) -> None:
    """ASK is followed with ASKING, request by request; keys of one job may be on either node."""
    reshard = Reshard(cluster, SLOT, other_than(cluster, cluster.owner(SLOT)))
    async with AsyncQueue("work", url=redis_url, prefix=PREFIX) as queue:
        jobs = await queue.add_bulk([("x", {"n": n}) for n in range(20)])
        with Queue("work", url=redis_url, prefix=PREFIX) as blocking:
            before = await queue.counts()
            assert before["waiting"] == 20
            reshard.begin()
            try:
                left = True
                while left:
                    left = bool(reshard.move_keys(5))
                    assert await asyncio.wait_for(queue.counts(), 5) == before
                    assert await asyncio.to_thread(blocking.counts) == before
                    found = await queue.jobs("waiting")
                    assert [each.data for each in found] == [{"n": n} for n in range(20)]
                    assert (await asyncio.to_thread(blocking.get, jobs[7].id)).data == {"n": 7}
            finally:
                while reshard.move_keys(100):
                    pass
                reshard.end()
            assert await queue.counts() == before


def test_a_job_runs_on_while_its_slot_moves_for_longer_than_its_lock_lives(
    cluster: Cluster, redis_url: str, queue: Queue, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    """I3: each lock is renewed by itself, first where it was, then where it has gone to."""
    running = oxherd("--prefix", PREFIX, "--concurrency", "3", "--lock-duration", "3s")
    running.until("master.started")
    go = tmp_path / "go"
    jobs = []
    for name in "ab":
        mark = tmp_path / name
        jobs.append(queue.add("work", {"do": "mark_and_wait", "mark": str(mark), "go": str(go)}).id)
        wait_for(mark.exists, "it runs")
    reshard = Reshard(cluster, SLOT, other_than(cluster, cluster.owner(SLOT)))
    locks = [KEYS.lock(job_id) for job_id in jobs]
    reshard.begin()
    reshard.move_key(locks[0])
    try:
        are_renewed(reshard, locks)  # each on its node
        while reshard.move_keys(100):
            pass
        go.touch()  # what became of them has to wait, and their locks live on
        are_renewed(reshard, locks)
    finally:
        while reshard.move_keys(100):
            pass
        reshard.end()
    wait_for(lambda: queue.counts()["completed"] == 2, "both are done")
    running.until("job.completed", 2)

    assert Counter(event["job_id"] for event in running.events("job.completed")) == Counter(jobs)
    assert not running.events("lock.lost")
    assert not running.events("lock.renewal_failed")


def are_renewed(reshard: Reshard, locks: list[str]) -> None:
    """Wait until each of them has been past its half, and is new again."""
    wait_for(lambda: all(left_ms(reshard, lock) < 1_600 for lock in locks), "the locks have grown old")
    wait_for(lambda: all(left_ms(reshard, lock) > 2_000 for lock in locks), "the locks are renewed", 4)


def left_ms(reshard: Reshard, lock: str) -> int:
    """What is left of its life, wherever it is."""
    found = [-2]
    for node in (reshard.source, reshard.to):
        with contextlib.closing(node.client(single_connection_client=True)) as client:
            client.execute_command("ASKING")
            with contextlib.suppress(ResponseError):  # it is on the other node
                found.append(client.pttl(lock))
    return max(found)
