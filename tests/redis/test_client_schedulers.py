"""Job schedulers through both clients, and what they refuse before anything is sent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import redis

import supervisor.blocking
import supervisor.client
from supervisor.client.schedulers import (
    Schedule,
    Scheduler,
    by_cron,
    count_schedulers,
    every,
    get_scheduler,
    list_schedulers,
    migration_advice,
    remove_scheduler,
    upcoming,
    upsert_scheduler,
)
from supervisor.errors import DataTooLarge, UsageError

NOW_MS = 1_800_000_000_000


@pytest.fixture
def queue(redis_url: str):
    with supervisor.blocking.Queue("mail", url=redis_url, clock=lambda: NOW_MS) as queue:
        yield queue


async def test_the_asyncio_client_does_the_same(redis_url: str):
    async with supervisor.client.Queue("mail", url=redis_url) as queue:
        run = await queue.run(upsert_scheduler("s", by_cron("0 3 * * *", tz="UTC"), data=[1]))
        assert run is not None
        found = await queue.run(get_scheduler("s"))
        assert found is not None
        assert (found.next_on, found.pending_job_id) == (run.due_on, run.job_id)
        assert await queue.run(count_schedulers()) == 1
        assert await queue.run(list_schedulers()) == [found]
        assert await queue.run(remove_scheduler("s")) is True


def test_defaults_of_the_queue_are_in_the_template(redis_url: str):
    with supervisor.blocking.Queue("mail", url=redis_url, defaults={"attempts": 4}) as queue:
        queue.run(upsert_scheduler("s", every(60_000), options={"priority": 2}))
        found = queue.run(get_scheduler("s"))
        assert found is not None and found.options == {"attempts": 4, "priority": 2}
        assert queue.counts()["prioritized"] == 1


def test_dates_may_be_datetimes_with_a_zone(queue):
    start = datetime.fromtimestamp((NOW_MS + 5_000) / 1000, UTC)
    run = queue.run(upsert_scheduler("s", Schedule(every_ms=60_000, start_on=start)))
    assert run.due_on == NOW_MS + 5_000


def test_a_pattern_without_a_run_before_the_end_stores_nothing(queue, raw: redis.Redis):
    nothing = Schedule(pattern="0 0 1 1 *", tz="UTC", end_on=NOW_MS + 1_000)
    assert queue.run(upsert_scheduler("s", nothing)) is None
    assert raw.keys("*") == []


def test_the_runs_to_come_end_with_the_schedule():
    scheduler = Scheduler(id="s", next_on=NOW_MS, every_ms=1_000, end_on=NOW_MS + 2_500)
    assert upcoming(scheduler, 9) == [NOW_MS, NOW_MS + 1_000, NOW_MS + 2_000]
    odd = Scheduler(id="s", next_on=NOW_MS, pattern="0 0 15W * *")
    assert upcoming(odd, 9) == [NOW_MS]
    assert migration_advice(odd) is None


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: upsert_scheduler("", every(1_000)),
        lambda: upsert_scheduler("\ud83d", every(1_000)),
        lambda: upsert_scheduler(7, every(1_000)),
        lambda: upsert_scheduler("s", every(-5)),
        lambda: upsert_scheduler("s", every(10**30)),
        lambda: upsert_scheduler("s", every(1.5)),
        lambda: upsert_scheduler("s", every(True)),
        lambda: upsert_scheduler("s", by_cron(5)),
        lambda: upsert_scheduler("s", by_cron("9" * 1_000_000)),
        lambda: upsert_scheduler("s", by_cron("٣ * * * *")),
        lambda: upsert_scheduler("s", by_cron("* * * * *\x00")),
        lambda: upsert_scheduler("s", by_cron("* * * * *", tz="x" * 100_000)),
        lambda: upsert_scheduler("s", by_cron("* * * * *", tz="Europe\x00Berlin")),
        lambda: upsert_scheduler("s", Schedule(every_ms=1_000, limit=-1)),
        lambda: upsert_scheduler("s", Schedule(every_ms=1_000, start_on="tomorrow")),
        lambda: upsert_scheduler("s", Schedule(every_ms=1_000, end_on=datetime(2030, 1, 1))),
        lambda: upsert_scheduler("s", every(1_000), name="\udc00"),
        lambda: upsert_scheduler("s", every(1_000), data=float("nan")),
        lambda: upsert_scheduler("s", every(1_000), options={"delay_ms": 5}),
        lambda: upsert_scheduler("s", every(1_000), options={"job_id": "x"}),
        lambda: upsert_scheduler("s", every(1_000), options={"deduplication": {"id": "d"}}),
        lambda: upsert_scheduler("s", every(1_000), options={"colour": 1}),
        lambda: get_scheduler(None),
        lambda: remove_scheduler(""),
        lambda: list_schedulers("x"),
        lambda: list_schedulers(0, 2**70),
    ],
)
def test_bad_input_is_refused_and_nothing_is_stored(queue, raw: redis.Redis, wrong):
    with pytest.raises(UsageError):
        queue.run(wrong())
    assert raw.keys("*") == []


def test_data_beyond_the_limit_is_refused(queue, raw: redis.Redis):
    with pytest.raises(DataTooLarge):
        queue.run(upsert_scheduler("s", every(1_000), data="x" * 100, options={"size_limit": 50}))
    assert raw.keys("*") == []


@pytest.mark.parametrize("name", ["a:b", "\x00", "x" * 1_000_000, "*[?]", "é 😀"])
def test_an_id_of_any_text_does(queue, name: str):
    queue.run(upsert_scheduler(name, every(60_000)))
    found = queue.run(get_scheduler(name))
    assert found is not None and found.id == name
    assert queue.get(found.pending_job_id).name == name
    assert queue.run(remove_scheduler(name)) is True
