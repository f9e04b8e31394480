"""Flows by both clients on real servers: the same actions, with and without await."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
import redis

import supervisor.blocking
import supervisor.client
from supervisor.client import flows
from supervisor.client.flows import Flow, FlowJob
from supervisor.errors import InvalidJob, JobError, JobNotFound, JobNotInState, RedisRefused, UsageError

NOW = 1_795_000_000_000


def pages(count: int, **options: Any) -> list[FlowJob]:
    return [FlowJob("page", {"n": n}, "pages", {"job_id": f"p{n}", **options}) for n in range(count)]


@pytest.fixture(params=["asyncio", "blocking"])
async def books(request: pytest.FixtureRequest, redis_url: str, raw: redis.Redis) -> Any:
    """The queue `books`; `run` is awaited for both clients."""
    if request.param == "asyncio":
        async with supervisor.client.Queue("books", url=redis_url, clock=lambda: NOW) as queue:
            yield queue
        return
    with supervisor.blocking.Queue("books", url=redis_url, clock=lambda: NOW) as blocking:

        class Awaited:
            async def run(self, action: Any) -> Any:
                return await asyncio.to_thread(blocking.run, action)

            async def add(self, *args: Any, **options: Any) -> Any:
                return await asyncio.to_thread(lambda: blocking.add(*args, **options))

        yield Awaited()


def shape(flow: Flow) -> Any:
    return flow.job.id, sorted((shape(child) for child in flow.children), key=str)


async def test_what_was_added_comes_back_as_it_was_written(books: Any) -> None:
    tree = FlowJob("book", {"b": 1}, options={"job_id": "B", "attempts": 2}, children=pages(2))

    added = await books.run(flows.add(tree))

    assert (added.job.id, added.job.queue, added.job.data, added.job.attempts) == ("B", "books", {"b": 1}, 2)
    assert [(child.job.id, child.job.queue, child.job.data) for child in added.children] == [
        ("p0", "pages", {"n": 0}),
        ("p1", "pages", {"n": 1}),
    ]
    read = await books.run(flows.get("B"))
    assert shape(read) == shape(added)
    assert read.job.timestamp == NOW
    assert read.children[0].job.parent == {"id": "B", "queueKey": "bull:books"}


async def test_the_same_tree_gives_its_jobs_ids_of_their_own_each_time(books: Any) -> None:
    tree = FlowJob("book", children=[FlowJob("page")])
    first, second = await books.run(flows.add_bulk([tree, FlowJob("book", children=[FlowJob("page")])]))
    ids = {first.job.id, second.job.id, first.children[0].job.id, second.children[0].job.id}
    assert len(ids) == 4
    assert (await books.run(flows.add(tree))).job.id not in ids
    assert await books.run(flows.add_bulk([])) == []


async def test_a_tree_is_read_to_its_depth_and_width(books: Any, raw: redis.Redis) -> None:
    deep = FlowJob("a", options={"job_id": "A"})
    for job_id in ("B", "C", "D"):
        deep = FlowJob("x", options={"job_id": job_id}, children=[deep])
    await books.run(flows.add(deep))

    assert shape(await books.run(flows.get("D"))) == ("D", [("C", [("B", [("A", [])])])])
    short = await books.run(flows.get("D", depth=2))
    assert shape(short) == ("D", [("C", [])])
    assert (short.more, short.children[0].more) == (False, True)

    await books.run(flows.add(FlowJob("wide", options={"job_id": "W"}, children=pages(30))))
    wide = await books.run(flows.get("W", max_children=7))
    assert (len(wide.children), wide.more) == (7, True)
    assert await books.run(flows.get("nobody")) is None


async def test_a_child_that_is_gone_is_still_named(books: Any, raw: redis.Redis) -> None:
    await books.run(flows.add(FlowJob("book", options={"job_id": "B"}, children=pages(1))))
    raw.delete("bull:pages:p0")

    (child,) = (await books.run(flows.get("B"))).children

    assert (child.job.id, child.job.queue) == ("p0", "pages")
    assert child.job.problems == ("it is no longer there",)


async def test_links_that_close_to_a_circle_are_read_once(books: Any, raw: redis.Redis) -> None:
    raw.hset("bull:books:A", "name", "a")
    raw.sadd("bull:books:A:dependencies", "bull:books:A")

    assert shape(await books.run(flows.get("A", depth=1_000))) == ("A", [])


async def test_any_job_can_be_added_to_a_parent(books: Any, raw: redis.Redis) -> None:
    parent = await books.add("book", {}, delay_ms=60_000)

    child = await books.add("page", {}, parent=parent, ignore_dependency_on_failure=True)
    other = await books.add("page", {}, parent={"id": parent.id, "queue": "bull:books"})

    found = await books.run(flows.dependencies(parent.id))
    assert set(found.unprocessed) == {f"bull:books:{child.id}", f"bull:books:{other.id}"}
    assert raw.hget(f"bull:books:{child.id}", "parent") == (
        b'{"id":"' + parent.id.encode() + b'","queueKey":"bull:books","idof":true}'
    )


@pytest.mark.parametrize(
    ("parent", "error", "said"),
    [
        ({"id": "gone", "queue": "books"}, JobNotFound, "Missing key for parent job bull:books:gone. addJob"),
        ({"id": "over", "queue": "books"}, JobNotInState, "bull:books:over has ended"),
        ({"id": "x"}, InvalidJob, "parent is a job"),
        ({"id": "", "queue": "books"}, InvalidJob, "parent is a job"),
        ({"id": "x", "queue": ""}, UsageError, "Queue name must be provided"),
        ("over", InvalidJob, "parent is a job"),
        (7, InvalidJob, "parent is a job"),
    ],
)
async def test_a_parent_that_cannot_be_one_is_refused(
    books: Any, raw: redis.Redis, parent: Any, error: Any, said: str
) -> None:
    raw.hset("bull:books:over", "name", "book")
    raw.zadd("bull:books:completed", {"over": 1})
    before = raw.dbsize()
    with pytest.raises(error, match=said):
        await books.add("page", {}, parent=parent)
    assert raw.dbsize() == before


async def test_an_existing_job_gets_a_second_parent_only_when_the_first_is_gone(
    books: Any, raw: redis.Redis
) -> None:
    first, second = await books.add("book", {}), await books.add("book", {})
    await books.add("page", {}, job_id="p", parent=first)

    with pytest.raises(JobError, match=f"bull:books:{second.id} cannot be replaced. addJob"):
        await books.add("page", {}, job_id="p", parent=second)
    raw.delete(f"bull:books:{first.id}")
    await books.add("page", {}, job_id="p", parent=second)

    assert raw.hget("bull:books:p", "parentKey") == f"bull:books:{second.id}".encode()


async def test_children_leave_and_are_removed(books: Any, raw: redis.Redis) -> None:
    kids = [FlowJob("page", {}, options={"job_id": name}) for name in "abc"]
    await books.run(flows.add(FlowJob("book", options={"job_id": "B"}, children=kids)))

    assert await books.run(flows.remove_child_dependency("a")) is True
    assert await books.run(flows.dependency_counts("B")) == {
        "processed": 0, "unprocessed": 2, "ignored": 0, "failed": 0,
    }  # fmt: skip
    raw.set("bull:books:b:lock", "t")
    with pytest.raises(JobError, match="locked by another worker"):
        await books.run(flows.remove("B"))
    await books.run(flows.remove_unprocessed_children("B"))
    assert raw.exists("bull:books:b", "bull:books:c") == 1
    raw.delete("bull:books:b:lock")
    await books.run(flows.remove("B"))
    assert raw.exists("bull:books:B", "bull:books:b", "bull:books:B:dependencies") == 0
    with pytest.raises(JobNotFound):
        await books.run(flows.remove_unprocessed_children("B"))
    with pytest.raises(JobNotFound, match="Missing key for parent job undefined"):
        await books.run(flows.remove_child_dependency("a"))


async def test_a_parent_that_a_removal_lets_run_now_has_no_delay_left(books: Any, raw: redis.Redis) -> None:
    kids = [FlowJob("page", {}, options={"job_id": "a"})]
    await books.run(flows.add(FlowJob("book", options={"job_id": "B", "delay_ms": 1_500}, children=kids)))

    await books.run(flows.remove("a"))

    assert raw.lrange("bull:books:wait", 0, -1) == [b"B"]
    # Else it would be delayed once more when it has waited for others.
    assert raw.hget("bull:books:B", "delay") == b"0"


@pytest.mark.parametrize(
    "call",
    [
        lambda: flows.get("B", depth=0),
        lambda: flows.get("B", max_children=-1),
        lambda: flows.children("B", "nobody"),
        lambda: flows.children("B", "failed", cursor=-1),
        lambda: flows.children("B", "failed", count=0),
        lambda: flows.add(FlowJob("x"), defaults={"q": {"job_id": "1x"}}),
        lambda: flows.add(FlowJob("x"), defaults={"q": {"parent": {"id": "a", "queue": "b"}}}),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(call: Any) -> None:
    with pytest.raises(InvalidJob):
        call()


async def test_a_flow_of_thousands_is_one_call(books: Any) -> None:
    tree = FlowJob(
        "book", options={"job_id": "B"}, children=[FlowJob("page", {"n": n}) for n in range(3_000)]
    )
    await books.run(flows.add(tree))
    assert (await books.run(flows.dependency_counts("B")))["unprocessed"] == 3_000


def test_every_public_function_says_what_it_does() -> None:
    assert all(inspect.getdoc(getattr(flows, name)) for name in flows.__all__ if name != "GROUPS")


async def test_a_first_job_without_children_can_be_deduplicated(books: Any, raw: redis.Redis) -> None:
    once = {"deduplication": {"id": "d"}}

    def two() -> list[FlowJob]:
        return [FlowJob("book", options=once), FlowJob("shelf", children=[FlowJob("page", queue="pages")])]

    first, _ = await books.run(flows.add_bulk(two()))
    second, shelf = await books.run(flows.add_bulk(two()))

    assert second.job.id == first.job.id
    assert (raw.get("bull:books:de:d"), raw.hget(f"bull:books:{first.job.id}", "deid")) == (
        first.job.id.encode(),
        b"d",
    )
    assert raw.lrange("bull:books:wait", 0, -1) == [first.job.id.encode()]
    told = [entry for _, entry in raw.xrange("bull:books:events") if entry[b"event"] == b"deduplicated"]
    assert [(entry[b"jobId"], entry[b"deduplicationId"]) for entry in told] == [(first.job.id.encode(), b"d")]
    assert raw.exists(f"bull:books:{shelf.job.id}") == 1


async def test_a_first_job_replaces_the_delayed_one_of_its_deduplication(
    books: Any, raw: redis.Redis
) -> None:
    options = {"deduplication": {"id": "d", "ttl_ms": 5_000, "replace": True}, "delay_ms": 1_000}
    first = await books.run(flows.add(FlowJob("book", {"n": 1}, options=options)))
    second = await books.run(flows.add(FlowJob("book", {"n": 2}, options=options)))

    assert first.job.id != second.job.id
    assert raw.zrange("bull:books:delayed", 0, -1) == [second.job.id.encode()]
    assert raw.exists(f"bull:books:{first.job.id}") == 0


@pytest.mark.parametrize("key", ["bull:books:de:d", "bull:books:dn:d"])
async def test_a_deduplication_whose_key_is_of_another_type_is_named(
    books: Any, raw: redis.Redis, key: str
) -> None:
    raw.lpush(key, "x")
    with pytest.raises(RedisRefused, match=f"{key} is a list"):
        await books.run(flows.add(FlowJob("book", options={"deduplication": {"id": "d"}})))
    assert raw.keys("bull:books:*") == [key.encode()]


async def test_a_page_of_each_group_comes_at_once(books: Any, raw: redis.Redis) -> None:
    await books.run(flows.add(FlowJob("book", options={"job_id": "B"}, children=pages(1))))
    raw.zadd("bull:books:B:unsuccessful", {f"bull:pages:f{n}": n for n in range(5)})
    raw.hset("bull:books:B:processed", mapping={"bull:pages:done": "7"})
    raw.hset("bull:books:B:failed", mapping={"bull:pages:torn": "torn"})

    found = await books.run(flows.pages("B", count=2))

    assert {group: dict(page.items) for group, page in found.items()} == {
        "processed": {"bull:pages:done": 7},
        "unprocessed": {"bull:pages:p0": None},
        "failed": {"bull:pages:f0": None, "bull:pages:f1": None},
        "ignored": {"bull:pages:torn": "torn"},
    }
    seen = []
    while rest := {group: page.cursor for group, page in found.items() if page.cursor}:
        assert list(rest) == ["failed"]
        found = await books.run(flows.pages("B", rest, count=2))
        seen += list(found["failed"].items)
    assert seen == ["bull:pages:f2", "bull:pages:f3", "bull:pages:f4"]
    assert await books.run(flows.pages("B", {})) == {}
    assert await books.run(flows.pages("nobody", {"failed": 0})) == {"failed": flows.ChildrenPage({}, 0)}


@pytest.mark.parametrize(
    ("cursors", "count", "told"),
    [
        (5, 20, "cursors are a mapping"),
        ({"lost": 0}, 20, "no group of children 'lost'"),
        ({"failed": -1}, 20, "cursor"),
        ({"failed": "x"}, 20, "cursor"),
        (None, 0, "count"),
    ],
)
def test_pages_that_cannot_be_are_refused(cursors: Any, count: Any, told: str) -> None:
    with pytest.raises(InvalidJob, match=told):
        flows.pages("B", cursors, count=count)
