"""Cancelling through both clients and the command line: the same answers, the same refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import supervisor.blocking
import supervisor.client
from supervisor.blocking import Queue
from supervisor.cli import main
from supervisor.errors import InvalidJob, JobNotFound, JobNotInState, UsageError

Do = Callable[..., Any]


@pytest.fixture(params=["asyncio", "blocking"])
def do(request: pytest.FixtureRequest, redis_url: str) -> Do:
    """Calls one method of a queue, by the name it has in both clients."""

    def blocking(method: str, *args: Any, **options: Any) -> Any:
        with supervisor.blocking.Queue("work", url=redis_url) as queue:
            return getattr(queue, method)(*args, **options)

    def with_asyncio(method: str, *args: Any, **options: Any) -> Any:
        async def call() -> Any:
            async with supervisor.client.Queue("work", url=redis_url) as queue:
                return await getattr(queue, method)(*args, **options)

        return asyncio.run(call())

    return blocking if request.param == "blocking" else with_asyncio


def activate(raw: redis.Redis, job_id: str) -> None:
    """As if a worker had it."""
    raw.lrem("bull:work:wait", 0, job_id)
    raw.lpush("bull:work:active", job_id)


def test_cancel_takes_a_job_or_its_id_and_says_what_happened(do: Do, raw: redis.Redis) -> None:
    job = do("add", "a", {})
    do("add", "b", {})
    activate(raw, "2")

    assert do("cancel", job, reason="wrong size", by="ann") == "cancelled"
    assert do("cancel", "2", reason="wrong size") == "asked"

    assert raw.hget("bull:work:1", "failedReason") == b"cancelled by ann: wrong size"
    asked = json.loads(raw.hget("bull:work:ox:cancel", "2"))
    assert asked["reason"] == "wrong size"
    assert "@" in asked["by"]
    assert asked["on"] > 0


def test_what_cannot_be_cancelled_is_refused(do: Do, raw: redis.Redis) -> None:
    do("add", "a", {})
    do("cancel", "1")
    for bad in ({"reason": 17}, {"by": b"me"}):
        with pytest.raises(UsageError, match="nothing was cancelled"):
            do("cancel", "1", **bad)
    with pytest.raises(InvalidJob):
        do("cancel", "1", reason="\ud800")
    with pytest.raises(JobNotInState):
        do("cancel", "1")
    with pytest.raises(JobNotFound):
        do("cancel", "2")
    assert not raw.exists("bull:work:ox:cancel")


# --- the command line ----------------------------------------------------------------------


@pytest.fixture
def oxherd(redis_url: str, monkeypatch, capsys, tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_the_command_says_for_each_what_became_of_it(oxherd, redis_url: str, raw: redis.Redis) -> None:
    with Queue("work", url=redis_url) as queue:
        queue.add_bulk([("a", {})] * 3)
    activate(raw, "2")
    raw.lrem("bull:work:wait", 0, "3")
    raw.zadd("bull:work:completed", {"3": 1})

    status, out, err = oxherd("cancel", "work", "1", "2", "3", "4", "--reason", "wrong size", "--by", "ann")

    assert (status, err) == (1, "")
    assert out.splitlines() == [
        "1  cancelled",
        "2  asked",
        "3  left as it is: completed",
        "4  there is no such job",
    ]
    assert oxherd("cancel", "work", "2")[:2] == (0, "2  asked\n")
    status, out, _ = oxherd("cancel", "work", "2", "--json")
    assert json.loads(out) == {"queue": "work", "id": "2", "done": True, "outcome": "asked"}


def test_the_command_can_wait_for_the_end(oxherd, redis_url: str, raw: redis.Redis, monkeypatch) -> None:
    with Queue("work", url=redis_url) as queue:
        queue.add_bulk([("a", {})] * 3)
    for job_id in ("1", "2", "3"):
        activate(raw, job_id)
    raw.hset("bull:work:1", mapping={"finishedOn": 1, "failedReason": "cancelled by ann"})
    raw.hset("bull:work:2", mapping={"finishedOn": 1, "returnvalue": "7"})
    # Ended between the request and the wait.
    monkeypatch.setattr("supervisor.cli.cancel.PATIENCE_MS", 300)

    def after_the_request(*_: Any, **__: Any) -> str:
        raw.delete("bull:work:active")
        raw.zadd("bull:work:failed", {"1": 1})
        raw.zadd("bull:work:completed", {"2": 1})
        raw.lpush("bull:work:active", "3")
        return "asked"

    async def cancel(self: Any, job_id: str, *_: Any, **__: Any) -> str:
        return after_the_request()

    monkeypatch.setattr("supervisor.client.queue.Queue.cancel", cancel)
    status, out, _ = oxherd("cancel", "work", "1", "2", "3", "--wait")

    assert status == 1
    assert out.splitlines() == [
        "1  ended: cancelled by ann",
        "2  completed before it could be cancelled",
        "3  asked, and runs on after 0 s: is its worker Oxherd's?",
    ]
