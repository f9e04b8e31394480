"""Listening: nothing is missed between reads or over a lost connection, and what is missed is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from running import until

import supervisor
import supervisor.blocking
from supervisor.blocking import Queue, listen
from supervisor.client import getters
from supervisor.client.listen import next_events, publish
from supervisor.client.queue import Queue as AsyncQueue
from supervisor.errors import InvalidJob, JobFailed, UsageError
from supervisor.protocol.commands.work import Completed, Failed
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.queue_events import GAP, QueueEvent

FOREVER = KeepJobs(count=-1)


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("paint", url=redis_url) as made:
        yield made


class Listening:
    """A blocking listener in a thread of its own, which ends when `most` events have come."""

    def __init__(self, url: str, since: str | None, most: int) -> None:
        self.seen: list[QueueEvent] = []
        self.queue = Queue("paint", url=url)
        self._events = itertools.islice(listen(self.queue, since=since), most)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for event in self._events:
            self.seen.append(event)

    def ended(self) -> list[QueueEvent]:
        self._thread.join(30)
        assert not self._thread.is_alive(), f"only {len(self.seen)} events came"
        self.queue.close()
        return self.seen


def listeners_of(raw: redis.Redis, queue: Queue) -> list[str]:
    return [each["id"] for each in raw.client_list() if each["name"] == queue.keys.listener_name]


def blocked(raw: redis.Redis, queue: Queue) -> Any:
    return [
        each["id"]
        for each in raw.client_list()
        if each["name"] == queue.keys.listener_name and "b" in each["flags"]
    ]


def names(events: list[QueueEvent]) -> list[tuple[str, str | None]]:
    return [(event.name, event.job_id) for event in events]


def test_a_listener_goes_on_after_the_event_it_is_given(queue, redis_url):
    for _ in range(3):
        queue.add("j", {})
    first = Listening(redis_url, "0-0", 3).ended()
    assert names(first) == [("added", "1"), ("waiting", "1"), ("added", "2")]
    rest = Listening(redis_url, first[-1].id, 3).ended()
    assert names(rest) == [("waiting", "2"), ("added", "3"), ("waiting", "3")]


def test_what_is_no_id_of_an_event_is_refused(queue):
    with pytest.raises(UsageError, match="'\\$' is no id of an event"):
        next(listen(queue, since="$"))


def test_a_listener_is_listed_under_the_name_of_bullmqs(queue, raw, redis_url):
    listening = Listening(redis_url, None, 2)
    until(lambda: blocked(raw, queue), "the listener waits")
    (found,) = queue.run(getters.listeners())
    assert found.client_name == queue.keys.client_name(":qe")
    queue.add("j", {})
    listening.ended()


async def test_the_asyncio_listener_is_listed_too_and_stops_when_its_reader_does(queue, raw, redis_url):
    async with AsyncQueue("paint", url=redis_url) as ours:
        events = supervisor.listen(ours)
        coming = asyncio.ensure_future(anext(events))
        await asyncio.to_thread(until, lambda: blocked(raw, queue), "the listener waits")
        queue.add("j", {})
        assert (await coming).name == "added"
        await events.aclose()
    assert listeners_of(raw, queue) == []


def test_no_event_is_lost_while_a_listeners_connection_is_killed_again_and_again(queue, raw, redis_url):
    listening = Listening(redis_url, "0-0", 200)
    for number in range(100):
        queue.add("j", {})
        if number % 10 == 5:
            for client_id in listeners_of(raw, queue):
                raw.client_kill_filter(_id=client_id)
    seen = listening.ended()
    ids = [str(number) for number in range(1, 101)]
    assert names(seen) == [(name, job_id) for job_id in ids for name in ("added", "waiting")]


async def test_no_event_is_lost_while_the_asyncio_listener_is_killed(queue, raw, redis_url):
    async def killed() -> None:
        for number in range(50):
            await asyncio.to_thread(queue.add, "j", {})
            if number % 10 == 5:
                for client_id in listeners_of(raw, queue):
                    raw.client_kill_filter(_id=client_id)

    async with AsyncQueue("paint", url=redis_url) as ours, asyncio.timeout(30):
        killing = asyncio.create_task(killed())
        seen: list[QueueEvent] = []
        async for event in supervisor.listen(ours, since="0-0"):
            seen.append(event)
            if len(seen) == 100:
                break
        await killing
    assert [event.job_id for event in seen[::2]] == [str(number) for number in range(1, 51)]


def test_a_listener_that_came_too_late_is_told_of_the_gap(queue, raw, redis_url):
    for _ in range(4):
        queue.add("j", {})
    (early, *_) = Listening(redis_url, "0-0", 1).ended()
    raw.xtrim(queue.keys.events, maxlen=3, approximate=False)
    gap, *rest = Listening(redis_url, early.id, 4).ended()
    assert (gap.name, gap.id) == (GAP, early.id)
    assert gap.values == {"after": early.id, "before": rest[0].id}
    assert names(rest) == [("waiting", "3"), ("added", "4"), ("waiting", "4")]


def test_a_listener_in_time_is_told_of_no_gap_though_the_stream_was_trimmed(queue, raw, redis_url):
    for _ in range(4):
        queue.add("j", {})
    seen = Listening(redis_url, "0-0", 6).ended()
    raw.xtrim(queue.keys.events, maxlen=3, approximate=False)  # its last event is the oldest that is left
    assert names(Listening(redis_url, seen[-1].id, 2).ended()) == [("added", "4"), ("waiting", "4")]


def test_a_deleted_stream_is_a_gap_while_the_listener_waits(queue, raw, redis_url):
    queue.add("j", {})
    listening = Listening(redis_url, "0-0", 5)
    until(lambda: len(listening.seen) == 2 and blocked(raw, queue), "both were seen")
    raw.delete(queue.keys.events)
    queue.add("j", {})
    assert names(listening.ended()[2:]) == [(GAP, None), ("added", "2"), ("waiting", "2")]


def test_a_stream_made_anew_with_older_ids_is_read_from_its_start(queue, raw):
    raw.xadd(queue.keys.events, {"event": "added", "jobId": "1"}, id="5-1")
    (gap,) = queue.run(next_events("9-0", block_ms=20))
    (event,) = queue.run(next_events(gap.id, block_ms=20))
    assert (gap.name, gap.values) == (GAP, {"after": "9-0", "before": "5-1"})
    assert (event.id, event.name) == ("5-1", "added")


def test_an_event_of_ones_own_comes_through_with_its_texts(queue, raw, redis_url):
    place = queue.run(publish("resized", {"page": 3, "to": "64x64", "sizes": [1, 2], "jobId": "7"}))
    (event,) = Listening(redis_url, "0-0", 1).ended()
    assert (event.id, event.name, event.job_id) == (place, "resized", "7")
    assert event.values == {"page": "3", "to": "64x64", "sizes": "[1,2]"}
    assert raw.hget(queue.keys.meta, "opts.maxLenEvents") == b"10000"


def test_the_stream_keeps_as_many_events_as_who_publishes_wants(queue, raw):
    for _ in range(300):
        queue.run(publish("tick", max_events=100))
    assert raw.xlen(queue.keys.events) < 300


@pytest.mark.parametrize(
    ("name", "values", "why"),
    [
        ("completed", {}, "'completed' cannot be the name"),
        ("ox:gap", {}, "'ox:gap' cannot be the name"),
        ("", {}, "'' cannot be the name"),
        ("mine", {"event": "x"}, "cannot be called 'event'"),
        ("mine", {"x": object()}, "value 'x'"),
        ("mi\ud800ne", {}, "surrogate"),
    ],
)
def test_an_event_that_would_mislead_is_not_told(queue, raw, name, values, why):
    with pytest.raises((UsageError, InvalidJob), match=why):
        queue.run(publish(name, values))
    assert raw.keys("*") == []


# --- waiting for a result -----------------------------------------------------------------------------


def end(wire: Any, outcome: type, *args: Any) -> None:
    (job,) = wire.fetch()
    wire.exchange([outcome(job.id, job.token, *args)])


@contextlib.contextmanager
def waiting_for(redis_url: str, job_id: str) -> Iterator[list[Any]]:
    """Somebody waits in a thread; leaves when the wait is over, with what came of it in the list."""
    told: list[Any] = []

    def wait() -> None:
        with Queue("paint", url=redis_url) as queue:
            try:
                told.append(queue.result(job_id, timeout_ms=30_000))
            except JobFailed as error:
                told.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    yield told
    thread.join(30)
    assert told, "nothing came"


def test_a_result_is_told_though_the_connection_that_waits_is_killed(queue, raw, wire, redis_url):
    job = queue.add("j", {})
    with waiting_for(redis_url, job.id) as told:
        (client_id,) = until(lambda: blocked(raw, queue), "somebody waits")
        raw.client_kill_filter(_id=client_id)
        end(wire, Completed, b'{"n":1}', FOREVER)
    assert told == [{"n": 1}]


def test_a_result_is_told_though_the_connection_is_killed_and_the_stream_deleted(queue, raw, wire, redis_url):
    job = queue.add("j", {})
    with waiting_for(redis_url, job.id) as told:
        (client_id,) = until(lambda: blocked(raw, queue), "somebody waits")
        raw.client_kill_filter(_id=client_id)
        end(wire, Failed, "no ink", None, FOREVER, 1)
        raw.delete(queue.keys.events)
    assert [str(error) for error in told] == ["no ink"]
