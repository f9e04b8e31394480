"""A node of a cluster is killed: its replica takes over, and a master and its clients go on there.

Replication is asynchronous. What may run twice, and no more than that (I3):

    ended, and the end was not replicated   as far as the new node knows, the job waits or runs: it runs again
    begun, and its lock was not replicated  cut off when the lock is found missing, or when the job is fetched
                                            again; it runs again
    added, and not replicated               forgotten: it runs again if its producer adds it again

Whatever the replica had acknowledged is neither lost nor run again; a job whose lock it knows runs on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_places import Cluster, Node, follows, standing, wait_for
from redis_stand_ins import Count, source, until
from running import ROOT, Running

from oxherd import Queue as AsyncQueue
from supervisor.blocking import Queue
from supervisor.client.job import Job
from supervisor.errors import RedisUnavailable
from supervisor.transport.aio import Redis
from supervisor.transport.blocking import Redis as BlockingRedis
from supervisor.transport.slots import slot_of

PREFIX = "{bull}"
SLOT = slot_of(PREFIX)
SLOTS = 4
TIMES = ("--lock-duration", "15s", "--stalled-interval", "500ms")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with standing(lambda home: Cluster(home, replicas=True)) as cluster:
        yield cluster


@pytest.fixture
def redis_url(cluster: Cluster) -> str:
    """A cluster that is whole again and empty; also what the fixtures of `running` start a master on."""
    for node in cluster.nodes:
        if node.process is None:
            node.start()
    wait_for(lambda: all(cluster.whole(node) for node in cluster.nodes), "the cluster is whole")
    wait_for(lambda: follows(cluster.replica(SLOT)), "the owner of our slot is followed")
    cluster.owner(SLOT).ask("FLUSHALL")
    return cluster.url


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("work", url=redis_url, prefix=PREFIX) as queue:
        yield queue


def acknowledged(cluster: Cluster) -> None:
    """The replica has all that was answered until now. Not WAIT: that is about its own connection."""
    owner, replica = cluster.owner(SLOT), cluster.replica(SLOT)
    offset = owner.replication()["master_repl_offset"]
    wait_for(lambda: replica.replication()["slave_repl_offset"] >= offset, "the replica has heard it")


def taken_over(cluster: Cluster, old: Node) -> None:
    wait_for(lambda: cluster.owner(SLOT) is not old, "the replica has taken over")


def completed(running: Running) -> Counter[str]:
    return Counter(event["job_id"] for event in running.events("job.completed"))


def test_a_master_goes_on_at_the_replica_of_a_node_that_is_killed(
    cluster: Cluster, redis_url: str, queue: Queue, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    """I3: what was acknowledged runs once; of the rest no more runs twice than two calls could carry."""
    running = oxherd("--prefix", PREFIX, "--concurrency", str(SLOTS), *TIMES)
    running.until("master.started")
    go, mark = tmp_path / "go", tmp_path / "mark"
    held = queue.add("work", {"do": "mark_and_wait", "mark": str(mark), "go": str(go)})
    wait_for(mark.exists, "a job runs")
    added: list[str] = []
    unknown: list[RedisUnavailable] = []
    stop = threading.Event()

    def produce() -> None:
        with Queue("work", url=redis_url, prefix=PREFIX) as own:
            while not stop.is_set():
                # An id makes it safe to say again what may have been lost.
                job_id = f"job-{len(added)}"
                try:
                    own.add("work", {"do": "sleep", "s": 0.02}, job_id=job_id)
                except RedisUnavailable as error:
                    unknown.append(error)
                    continue
                added.append(job_id)

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        wait_for(lambda: len(added) > 40, "jobs are added")
        heard, ended = list(added), completed(running)
        acknowledged(cluster)
        old = cluster.owner(SLOT)
        old.kill()
        taken_over(cluster, old)
        before = len(added)
        wait_for(lambda: len(added) > before + 30, "jobs are added at the new node")
    finally:
        stop.set()
        producer.join(30)
    assert all(error.sent for error in unknown), unknown  # what was not sent waits for the replica
    assert [job_id for job_id in heard if queue.state(job_id) == "unknown"] == []
    for job_id in added:  # what was answered and not passed on, in the last moment of the old node
        queue.add("work", {"do": "nothing"}, job_id=job_id)
    go.touch()
    wait_for(lambda: queue.counts()["completed"] == len(added) + 1, f"{len(added)} jobs are done", 60)
    wait_for(lambda: len(completed(running)) == len(added) + 1, "the master has told it of each")
    long = queue.add("work", {"do": "sleep", "s": 60})
    wait_for(lambda: queue.state(long.id) == "active", "a job runs at the new node")
    queue.cancel(long.id)
    wait_for(lambda: queue.state(long.id) == "failed", "it is cancelled there", 10)

    done = completed(running)
    assert set(added) | {held.id} == set(done), running.story()
    assert {job_id: done[job_id] for job_id in ended} == dict.fromkeys(ended, 1)
    twice = {job_id: times for job_id, times in done.items() if times > 1}
    assert len(twice) <= 2 * 2 * SLOTS and set(twice.values()) <= {2}, twice
    assert (done[held.id], queue.get(held.id).attempts_made) == (1, 1)
    assert held.id not in {event["job_id"] for event in running.events("lock.lost")}
    assert running.events("redis.lost") and running.events("redis.connected")


def test_only_what_the_replica_had_not_heard_runs_again(
    cluster: Cluster, redis_url: str, queue: Queue, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    """I3: a lock that the new node does not know is lost, and so is an end; nothing else is."""
    running = oxherd("--prefix", PREFIX, "--concurrency", str(SLOTS), *TIMES)
    running.until("master.started")
    go = tmp_path / "go"

    def waits(name: str, delay_ms: int = 0) -> str:
        data = {"do": "mark_and_wait", "mark": str(tmp_path / name), "go": str(go)}
        return queue.add("work", data, job_id=name, delay_ms=delay_ms).id

    kept = waits("kept")
    wait_for((tmp_path / "kept").exists, "it runs")
    done = queue.add("work", {"do": "nothing"}, job_id="done").id
    running.until("job.completed")
    early = queue.add("work", {"do": "nothing"}, job_id="early", delay_ms=1_000).id
    begun = waits("begun", delay_ms=1_000)
    acknowledged(cluster)
    old, replica = cluster.owner(SLOT), cluster.replica(SLOT)
    old.ask("ACL", "SETUSER", "default", "-psync", "-sync")
    old.ask("CLIENT", "KILL", "TYPE", "replica")
    wait_for(lambda: not follows(replica), "the replica hears nothing any more")
    late = waits("late")
    wait_for(lambda: (tmp_path / "begun").exists() and (tmp_path / "late").exists(), "they run")
    wait_for(lambda: completed(running)[early], "it is done")

    old.kill()
    taken_over(cluster, old)
    wait_for(lambda: completed(running)[early] == 2, "its end was forgotten, and it runs again")
    assert queue.state(late) == "unknown"
    waits("late")
    wait_for(lambda: len(running.events("job.outcome_dropped")) == 2, "two were cut off")
    go.touch()
    wait_for(lambda: queue.counts()["completed"] == 5, "all are done")
    running.until("job.completed", 6)

    assert completed(running) == {kept: 1, done: 1, early: 2, begun: 1, late: 1}, running.story()
    assert {each["job_id"] for each in running.events("job.outcome_dropped")} == {begun, late}
    assert {queue.get(each).attempts_made for each in (kept, done, early, begun, late)} == {1}


async def test_clients_wait_for_the_replica_and_add_once(cluster: Cluster, redis_url: str) -> None:
    """Those that stand, and those that come meanwhile: a command, and both clients anew."""
    options = {"url": redis_url, "prefix": PREFIX}
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "supervisor", "add", "work", "x", "--redis", redis_url]
    async with AsyncQueue("work", **options) as queue:
        with Queue("work", **options) as blocking:
            await queue.add("x", {})
            await asyncio.to_thread(blocking.add, "x", {})
            await asyncio.to_thread(acknowledged, cluster)
            redis, old = await queue.connect(), cluster.owner(SLOT)
            old.kill()
            await until(lambda: not redis.connected)
            told = await asyncio.gather(
                queue.add("x", {}),
                asyncio.to_thread(blocking.add, "x", {}),
                asyncio.to_thread(add_anew, options),
                asyncio.create_task(add_anew_async(options)),
                asyncio.to_thread(
                    subprocess.run, [*command, "--prefix", PREFIX], env=env, capture_output=True, text=True
                ),
            )
            assert cluster.owner(SLOT) is not old
            added = told[4]
            assert (added.returncode, added.stderr) == (0, "")
            assert sorted([*(job.id for job in told[:4]), added.stdout.strip()]) == list("34567")
            assert (await queue.counts())["waiting"] == 7


def add_anew(options: dict[str, str]) -> Job:
    with Queue("work", **options) as queue:
        return queue.add("x", {})


async def add_anew_async(options: dict[str, str]) -> Job:
    async with AsyncQueue("work", **options) as queue:
        return await queue.add("x", {})


async def test_a_node_that_freezes_is_left_and_what_it_had_not_answered_runs_once(
    cluster: Cluster, redis_url: str
) -> None:
    """Lost replies: the request still sits in the input of the old owner, which wakes up and is a replica."""
    options = {"prefix": PREFIX, "sources": source, "reply_timeout_s": 0.5, "connect_timeout_s": 1.5}
    old = cluster.owner(SLOT)
    blocking = BlockingRedis(redis_url, **options)
    key = Count("{bull}:n")
    async with await Redis.connect(redis_url, **options) as redis:
        assert await asyncio.to_thread(blocking.execute, key) == 1
        assert await redis.execute(key) == 2
        await asyncio.to_thread(acknowledged, cluster)
        old.signal(signal.SIGSTOP)
        try:
            assert await asyncio.wait_for(redis.execute_repeatable(key), 30) == 3
        finally:
            old.signal(signal.SIGCONT)
        await asyncio.to_thread(wait_for, lambda: follows(old), "the old owner follows")
        assert await redis.execute(key) == 4
        assert await asyncio.to_thread(blocking.execute, key) == 5
    blocking.close()
    wait_for(lambda: cluster.owner(SLOT).ask("GET", key.key) == b"5", "nothing else has counted")


def test_while_nobody_takes_over_it_is_said_who_is_away(cluster: Cluster, redis_url: str) -> None:
    old, replica = cluster.owner(SLOT), cluster.replica(SLOT)
    old.kill()
    replica.kill()
    told = (
        r"the node of the prefix '{bull}' is away, and no replica has taken over yet "
        rf"\(redis://127\.0\.0\.1:{old.port}: connection refused"
    )
    with pytest.raises(RedisUnavailable, match=told) as caught:
        BlockingRedis.connect(redis_url, prefix=PREFIX, patience_s=0.2)
    assert caught.value.sent is False
    with pytest.raises(RedisUnavailable, match=told):
        asyncio.run(Redis.connect(redis_url, prefix=PREFIX, patience_s=0.2))
