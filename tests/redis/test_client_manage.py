"""Managing a queue through both clients: the same answers, the same refusals, and these change nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import supervisor.blocking
import supervisor.client
from supervisor.client import manage
from supervisor.errors import InvalidJob, UsageError
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.new_job import JobSpec

OLD = 1_700_000_000_000
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


def test_drain_and_clean_say_what_they_removed(do: Do, raw: redis.Redis) -> None:
    do("add_bulk", [JobSpec("a", {}, {"timestamp": OLD})] * 250 + [JobSpec("b", {})])
    assert do("clean", "waiting", grace_ms=60_000, limit=120) == [str(n) for n in range(1, 121)]
    assert len(do("clean", "waiting", grace_ms=60_000)) == 130
    do("add", "c", {}, delay_ms=5_000)

    assert do("drain") == 1
    assert do("drain", delayed=True) == 1
    assert raw.keys("bull:work:[0-9]*") == []


def test_retry_all_and_promote_all_say_how_many(do: Do, raw: redis.Redis) -> None:
    do("add_bulk", [("a", {})] * 3)
    raw.delete("bull:work:wait")
    raw.zadd("bull:work:completed", {"1": OLD, "2": OLD + 5, "3": OLD + 9})

    assert do("run", manage.retry_all()) == 0
    assert do("run", manage.retry_all("completed", before_on=OLD + 5)) == 2
    assert do("run", manage.retry_all("completed")) == 1
    do("add", "d", {}, delay_ms=5_000)
    assert do("run", manage.promote_all(limit=7)) == 1
    assert do("counts")["waiting"] == 4


def test_limits_are_held_by_hand_and_let_go(do: Do) -> None:
    assert do("run", manage.rate_limit_ttl_ms()) == 0
    do("run", manage.rate_limit(5_000))
    assert 0 < do("run", manage.rate_limit_ttl_ms()) <= 5_000
    do("run", manage.remove_rate_limit())
    assert do("run", manage.rate_limit_ttl_ms()) == 0
    assert do("run", manage.is_maxed()) is False


def test_events_are_forgotten_and_a_queue_is_obliterated(do: Do, raw: redis.Redis) -> None:
    do("add_bulk", [("a", {})] * 10)
    assert do("run", manage.forget_events()) == 20
    assert do("run", manage.remove_orphaned()) == 0
    do("run", manage.obliterate())
    assert raw.keys("*") == []


def test_what_bullmq_3_kept_of_priorities_is_removed_and_nothing_else(do: Do, raw: redis.Redis) -> None:
    raw.zadd("bull:work:priority", {"1": 1})
    raw.set("bull:work:pc", "5")
    assert do("run", manage.remove_deprecated_priority()) is True
    assert raw.keys("bull:work:p*") == [b"bull:work:pc"]
    assert do("run", manage.remove_deprecated_priority()) is False


def test_a_deduplicated_job_is_the_one_that_stands_for_it(do: Do) -> None:
    first = do("add", "a", {"n": 1}, deduplication=Deduplication("D"))
    again = do("add", "a", {"n": 2}, deduplication={"id": "D"})

    assert again.id == first.id
    assert do("run", manage.deduplication_owner("D")) == first.id
    assert do("counts")["waiting"] == 1
    assert do("run", manage.remove_deduplication("D")) is True
    assert do("add", "a", {}, deduplication={"id": "D"}).id != first.id


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: manage.clean("lost"), UsageError),
        (lambda: manage.clean(grace_ms=-1), InvalidJob),
        (lambda: manage.clean(limit=0), InvalidJob),
        (lambda: manage.retry_all("active"), UsageError),
        (lambda: manage.retry_all(limit=0), InvalidJob),
        (lambda: manage.retry_all(before_on=-1), InvalidJob),
        (lambda: manage.promote_all(limit=1.5), InvalidJob),  # type: ignore[arg-type]
        (lambda: manage.rate_limit(0), InvalidJob),
        (lambda: manage.rate_limit_ttl_ms(0), InvalidJob),
        (lambda: manage.forget_events(-1), InvalidJob),
        (lambda: manage.remove_orphaned(limit=0), InvalidJob),
        (lambda: manage.deduplication_owner(""), UsageError),
        (lambda: manage.remove_deduplication("\ud800"), UsageError),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(make: Do, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_the_page_on_deduplication_runs_as_it_stands(
    redis_url: str, raw: redis.Redis, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/deduplicate.md").read_text(encoding="utf-8")
    (tmp_path / "once.py").write_text(page.split("```python\n")[1].partition("```")[0], encoding="utf-8")
    where = {**os.environ, "OXHERD_REDIS_URL": redis_url, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run(
        [sys.executable, "once.py"], cwd=tmp_path, env=where, capture_output=True, text=True, timeout=60
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "3 waiting\n", "")
    assert raw.keys("bull:reports:[0-9]*") == []
