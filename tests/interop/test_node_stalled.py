"""A worker dies with a job: whoever is left recovers it, theirs by us and ours by them."""

from __future__ import annotations

import pytest
import redis
from peers import Peer
from running import until
from scene import Scene, completed, failed

VERSIONS = pytest.mark.parametrize("version", [6, 5])
LOCK_MS = 200


@VERSIONS
def test_a_job_whose_node_worker_was_killed_is_recovered_by_us(
    lone_node: Peer, redis_url: str, raw: redis.Redis, version: int
):
    with Scene(redis_url, raw, "q").opened() as play:
        options = {"lockDuration": LOCK_MS, "skipStalledCheck": True}
        lone_node.ask("worker", version=version, queue="q", name="dying", opts=options)
        job = play.queue.add("hang", {"page": 1})
        lone_node.until("worker", "q", "active")
        assert play.check_stalled() == []
        lone_node.kill()
        until(lambda: not raw.exists(play.keys.lock(job.id)), "its lock has run out")
        raw.delete(play.keys.stalled_check)
        assert play.check_stalled() == [job.id]

        fetched = play.fetch()
        assert (fetched.id, fetched.stalled_count, fetched.attempts_started) == (job.id, 1, 2)
        play.exchange(completed(fetched, b'"saved"'))
        assert play.queue.result(job) == "saved"


@VERSIONS
def test_a_job_that_we_lost_is_recovered_by_node(node: Peer, redis_url: str, raw: redis.Redis, version: int):
    with Scene(redis_url, raw, "q").opened() as play:
        job = play.queue.add("echo", 5)
        play.fetch()
        raw.delete(play.keys.lock(job.id))  # as when our host died and its lock ran out
        node.ask("worker", version=version, queue="q", opts={"stalledInterval": 100})
        assert play.queue.result(job, timeout_ms=20_000) == {"echo": 5, "attempt": 1}
        node.until("worker", "q", "stalled")
        found = play.queue.get(job.id)
        assert found is not None
        assert (found.stalled_count, found.attempts_started) == (1, 2)


@VERSIONS
def test_a_job_that_stalled_too_often_under_us_is_failed_by_node(
    node: Peer, redis_url: str, raw: redis.Redis, version: int
):
    with Scene(redis_url, raw, "q").opened() as play:
        job = play.queue.add("echo", 5)
        for _ in range(2):
            play.fetch()
            raw.delete(play.keys.lock(job.id), play.keys.stalled_check)
            play.check_stalled()
            raw.delete(play.keys.stalled_check)
            assert play.check_stalled() == [job.id]
        node.ask("worker", version=version, queue="q")
        told = node.until("worker", "q", "failed")[0]
        assert told["args"][:2] == [job.id, "job stalled more than allowable limit"]


@VERSIONS
def test_a_job_that_stalled_too_often_under_node_is_failed_by_us(
    node: Peer, redis_url: str, raw: redis.Redis, version: int
):
    """Their check leaves the verdict to the next worker, which is ours here."""
    with Scene(redis_url, raw, "q").opened() as play:
        node.ask("queue", version=version, queue="q", method="add", args=["echo", 5, {}])
        play.raw.hset(play.keys.job("1"), "stc", 1)
        play.fetch()
        raw.delete(play.keys.lock("1"))
        node.ask("queue", version=version, queue="q", method="pause")
        node.ask("worker", version=version, queue="q", opts={"stalledInterval": 100})
        until(lambda: raw.hget(play.keys.job("1"), "defa"), "their check has sentenced the job")
        node.ask("close", kind="worker")
        node.ask("queue", version=version, queue="q", method="resume")
        fetched = play.fetch()
        assert fetched.deferred == "job stalled more than allowable limit"
        play.exchange(failed(fetched, fetched.deferred))
        seen = node.ask("job", version=version, queue="q", id="1")
        assert seen["failedReason"] == "job stalled more than allowable limit"
        assert node.ask("job", version=version, queue="q", id="1", method="getState") == "failed"
