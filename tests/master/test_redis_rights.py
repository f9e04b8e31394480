"""A master as a Redis user with few rights: the line of docs/how-to/redis.md is enough; what less costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis_places import HOST, Node, standing, wait_for
from redis_stand_ins import Count, source
from running import Running

from supervisor.blocking import Queue
from supervisor.errors import NotRepeatable, QueueFull
from supervisor.transport.aio import Redis

PAGE = Path(__file__).parents[2] / "docs/how-to/redis.md"


class Ready(Node):
    def start(self) -> None:
        super().start()
        wait_for(lambda: self.ask("PING"), "the server is up")

    stop = Node.kill


@pytest.fixture(scope="module")
def server() -> Iterator[Node]:
    with standing(Ready) as server:
        yield server


@pytest.fixture
def redis_url(server: Node) -> str:
    found = re.search(r"^user oxherd (.+)$", PAGE.read_text(), re.MULTILINE)
    assert found
    server.ask("FLUSHALL")
    server.ask("ACL", "SETUSER", "oxherd", "reset", *found[1].split())
    server.ask("ACL", "LOG", "RESET")
    return f"redis://oxherd:secret@{HOST}:{server.port}"


def test_the_rights_in_the_page_suffice_for_a_master(
    server: Node, redis_url: str, oxherd: Callable[..., Running]
) -> None:
    running = oxherd("--stalled-interval", "200ms")
    running.until("master.started")
    with Queue("work", url=redis_url) as queue:
        kinds = [{"do": "echo"}, {"do": "fail_once"}]
        jobs = [queue.add("work", data, attempts=2, delay_ms=delay) for data in kinds for delay in (0, 20)]
        long = queue.add("work", {"do": "sleep", "s": 60})
        wait_for(lambda: queue.counts()["completed"] == len(jobs), "the jobs are done")
        wait_for(lambda: queue.state(long.id) == "active", "the long job runs")
        queue.cancel(long.id)
        wait_for(lambda: queue.state(long.id) == "failed", "it is cancelled")

    assert server.ask("ACL", "LOG") == []
    assert not running.events("redis.unsafe")


def test_the_rights_in_the_page_suffice_for_who_adds_with_a_bound(server: Node, redis_url: str) -> None:
    """Seen: its script asks the time, which was not among them."""
    found = re.search(r"^user producer (.+)$", PAGE.read_text(), re.MULTILINE)
    assert found
    server.ask("ACL", "SETUSER", "producer", "reset", *found[1].split())
    with Queue("work", url=redis_url.replace("oxherd:", "producer:"), max_waiting=1) as queue:
        queue.add("any", {})
        with pytest.raises(QueueFull):
            queue.add("any", {})
    assert server.ask("ACL", "LOG") == []


async def test_without_the_right_to_kill_nothing_is_repeated(server: Node, redis_url: str) -> None:
    """Lost replies: the request may still sit in the server's input, so it must not be sent again."""
    server.ask("ACL", "SETUSER", "oxherd", "-client|kill")
    async with await Redis.connect(redis_url, sources=source, reply_timeout_s=0.2) as redis:
        assert await redis.execute(Count("bull:n")) == 1
        server.ask("CLIENT", "PAUSE", 600, "WRITE")
        with pytest.raises(NotRepeatable, match="CLIENT KILL"):
            await asyncio.wait_for(redis.execute_repeatable(Count("bull:n")), 20)


def test_a_redis_that_may_throw_jobs_away_is_told_in_the_log(
    server: Node, redis_url: str, oxherd: Callable[..., Running]
) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in oxherd().until("redis.unsafe")["why"]
    finally:
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_a_password_in_a_file_is_never_shown(
    server: Node, redis_url: str, oxherd: Callable[..., Running], tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("secret\n")
    url = redis_url.replace("oxherd:secret@", "")
    running = oxherd("--redis", url, "--redis-user", "oxherd", "--redis-password-file", str(file))
    running.until("master.started")

    # Of a process that just ends the line is empty.
    lines = [Path(f"/proc/{pid}/cmdline") for pid in (running.pid, *(each.pid for each in running.family()))]
    shown = [line.read_text() for line in lines if line.exists()]
    assert "oxherd: master" in shown[0]
    assert "secret" not in f"{shown} {running.story()}"
