"""Batches on real servers: the collector waits for all, also when the producer dies between two calls."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from sandbox.batch import ItemFailed, results
from supervisor.blocking import FlowJob, Queue
from supervisor.client import batches, flows
from supervisor.client.core import Context
from supervisor.errors import DataTooLarge, InvalidJob, QueueFull
from supervisor.protocol.commands.flow import AddBatchPart, GetDependencies
from supervisor.protocol.commands.work import Completed, Failed
from supervisor.protocol.job_options import KeepJobs
from supervisor.protocol.new_job import AddOptions

ITEMS = [{"n": n} for n in range(5)]


@pytest.fixture
def small_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "JOBS_PER_CALL", 2)


@pytest.fixture
def queue(redis_url: str, raw: redis.Redis) -> Any:
    with Queue("paint", url=redis_url) as queue:
        yield queue


def add(wire: Any, *, calls: int | None = None, items: Any = ITEMS, **options: Any) -> list[str]:
    """Carry out an add, no further than so many calls; the commands that were sent."""
    steps = batches.add("item", items, **{"collect": "all", "batch_id": "B"} | options)(
        Context(wire.queue, lambda: wire.now_ms, AddOptions())
    )
    sent: list[str] = []
    reply = None
    while calls is None or sent.count("AddBatchPart") < calls:
        try:
            command = steps.send(reply)
        except StopIteration:
            break
        sent.append(type(command).__name__)
        reply = wire.run(command)
    return sent


def complete_all(wire: Any, keep: KeepJobs) -> list[str]:
    """What a worker does until nothing is there to do; the names of the jobs it did."""
    done = []
    while jobs := wire.fetch(1):
        done.append(jobs[0].id)
        wire.exchange([Completed(jobs[0].id, jobs[0].token, b'"ok"', keep)])
    return done


def test_one_job_for_each_item_and_one_that_waits_for_them(queue: Any, raw: redis.Redis) -> None:
    batch = queue.run(batches.add("item", ITEMS, collect="all", attempts=3))

    assert (batch.name, batch.queue) == ("all", "paint")
    assert queue.state(batch.id) == "waiting-children"
    waiting = queue.jobs("waiting")
    assert [(job.id, job.name, job.data, job.attempts) for job in waiting] == [
        (f"{batch.id}-{n + 1}-of-5", "item", {"n": n}, 3) for n in range(5)
    ]
    assert queue.run(flows.dependency_counts(batch.id))["unprocessed"] == 5
    assert waiting[0].options["fpof"] is True


def test_a_chunk_is_one_job_whose_data_is_the_list(queue: Any) -> None:
    batch = queue.run(batches.add("item", iter(ITEMS), collect="all", chunk=2, on_failure="collect"))

    jobs = queue.jobs("waiting")
    assert [job.data for job in jobs] == [ITEMS[:2], ITEMS[2:4], ITEMS[4:]]
    assert [job.id for job in jobs] == [f"{batch.id}-{n}-of-3" for n in (1, 2, 3)]
    assert jobs[0].options["idof"] is True


def test_without_items_the_collector_runs_at_once(queue: Any) -> None:
    batch = queue.run(batches.add("item", [], collect="all"))
    assert queue.state(batch.id) == "waiting"
    assert queue.run(flows.dependency_counts(batch.id))["unprocessed"] == 0


def test_the_collector_may_have_options_data_and_a_queue_of_its_own(queue: Any, raw: redis.Redis) -> None:
    collect = FlowJob("zip", {"to": "x"}, queue="zips", options={"priority": 7})
    batch = queue.run(batches.add("item", ITEMS, collect=collect, batch_id="B"))

    assert (batch.id, batch.queue, batch.data, batch.priority) == ("B", "zips", {"to": "x"}, 7)
    assert raw.zscore("bull:zips:waiting-children", "B") is not None
    assert raw.llen("bull:paint:wait") == 5


@pytest.mark.usefixtures("small_calls")
def test_a_producer_that_dies_half_way_never_lets_the_collector_run(wire: Any) -> None:
    """Each number of calls at which it may die; the jobs added so far all complete."""
    for calls in (1, 2):
        wire.raw.flushdb()
        assert add(wire, calls=calls)[-1] == "AddBatchPart"
        done = complete_all(wire, KeepJobs(count=0))
        assert done == [f"B-{n}-of-5" for n in range(1, 2 * calls + 1)]
        assert wire.raw.zscore(wire.queue.waiting_children, "B") is not None
        assert wire.run(GetDependencies(wire.queue, "B")).unprocessed == ("bull:paint:B-5-of-5",)

        assert add(wire).count("AddBatchPart") == 3

        assert complete_all(wire, KeepJobs(count=0)) == [
            *(f"B-{n}-of-5" for n in range(2 * calls + 1, 6)),
            "B",
        ]
        assert wire.raw.keys("bull:paint:B*") == []


@pytest.mark.usefixtures("small_calls")
def test_a_batch_that_was_left_half_way_can_be_removed(wire: Any, queue: Any) -> None:
    add(wire, calls=1)
    queue.run(flows.remove("B"))
    assert wire.raw.keys("bull:paint:B*") == []
    assert wire.raw.llen(wire.queue.wait) == wire.raw.zcard(wire.queue.waiting_children) == 0


@pytest.mark.usefixtures("small_calls")
def test_a_job_that_failed_before_the_rest_was_added_is_not_waited_for_again(wire: Any) -> None:
    add(wire, calls=1, on_failure="collect")
    (job,) = wire.fetch(1)
    wire.exchange([Failed(job.id, job.token, "torn", None, KeepJobs(), 1)])

    add(wire, on_failure="collect")

    found = wire.run(GetDependencies(wire.queue, "B"))
    assert found.ignored == {"bull:paint:B-1-of-5": "torn"}
    assert len(found.unprocessed) == 4
    complete_all(wire, KeepJobs())
    assert wire.raw.zscore(wire.queue.completed, "B") is not None


@pytest.mark.usefixtures("small_calls")
def test_a_batch_that_fails_while_it_is_added_is_added_no_further(wire: Any) -> None:
    add(wire, calls=1)
    first, _ = wire.fetch(2)
    wire.exchange([Failed(first.id, first.token, "torn", None, KeepJobs(), 1)])
    (collector,) = wire.fetch(1)
    assert wire.hash("B")["defa"] == "child bull:paint:B-1-of-5 failed"  # so it is failed without being run
    wire.exchange([Failed(collector.id, collector.token, "a child failed", None, KeepJobs(), 1)])

    assert add(wire) == ["GetState"]  # another producer is told what is there
    steps = batches.add("item", ITEMS, collect="all", batch_id="B")(
        Context(wire.queue, lambda: wire.now_ms, AddOptions())
    )
    steps.send(None)
    part = steps.send("waiting-children")
    assert isinstance(part, GetDependencies)
    part = steps.send(wire.run(part))
    assert isinstance(part, AddBatchPart)
    before = wire.raw.dbsize()
    assert wire.run(part) is False
    with pytest.raises(StopIteration) as ended:
        steps.send(False)
    assert (ended.value.value.id, wire.raw.dbsize()) == ("B", before)


def test_a_batch_is_added_once(wire: Any) -> None:
    add(wire)
    complete_all(wire, KeepJobs(count=0))
    add(wire, items=[])
    size = wire.raw.llen(wire.queue.wait)
    assert add(wire, items=[]) == ["GetState"]
    assert wire.raw.llen(wire.queue.wait) == size == 1


@pytest.mark.usefixtures("small_calls")
def test_another_number_of_items_under_the_same_id_is_refused(wire: Any) -> None:
    add(wire, calls=1)
    before = wire.raw.dbsize()
    with pytest.raises(InvalidJob, match="B waits for other jobs than the 4 of this batch"):
        add(wire, items=ITEMS[:4])
    assert wire.raw.dbsize() == before


def test_calls_are_cut_by_their_bytes_too(wire: Any) -> None:
    sent = add(wire, items=["x" * 700_000] * 3)
    assert sent.count("AddBatchPart") == 2
    assert wire.raw.llen(wire.queue.wait) == 3


@pytest.mark.parametrize(
    ("items", "given", "told"),
    [
        ("abc", {}, "items of a batch are a list, not str"),
        ({"a": 1}, {}, "items of a batch are a list, not dict"),
        (5, {}, "items of a batch are a list, not int"),
        ([1, float("nan")], {}, "NaN"),
        ([1], {"chunk": 0}, "chunk"),
        ([1], {"chunk": True}, "chunk"),
        ([1], {"on_failure": "ignore"}, "on_failure is fail or collect, not 'ignore'"),
        ([1], {"collect": 5}, "name of the collector is text"),
        ([1], {"collect": FlowJob("all", children=[FlowJob("x")])}, "no children but the items"),
        ([1], {"collect": FlowJob("all", options={"job_id": "C"})}, "give it as batch_id"),
        ([1], {"collect": FlowJob("all", options={"deduplication": {"id": "d"}})}, "give a batch_id"),
        ([1], {"batch_id": ""}, "batch_id is empty"),
        ([1], {"batch_id": 5}, "id of a batch is text"),
        ([1], {"batch_id": "7"}, "cannot be integers"),
        ([1], {"batch_id": "a:b"}, ":"),
        ([1], {"job_id": "C"}, "cannot have job_id: the id of a batch is batch_id"),
        ([1], {"parent": {"id": "1", "queue": "q"}}, "cannot have parent"),
        ([1], {"deduplication": {"id": "d"}}, "cannot have deduplication"),
        ([1], {"remove_dependency_on_failure": True}, "is on_failure"),
        ([1], {"priorty": 1}, "priority"),
        (range(10_001), {}, "10,001 jobs are too many .* chunk=2"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_before_anything_is_sent(
    queue: Any, raw: redis.Redis, items: Any, given: Any, told: str
) -> None:
    with pytest.raises(InvalidJob, match=told):
        queue.run(batches.add("item", items, **{"collect": "all"} | given))
    assert raw.dbsize() == 0


def test_an_item_that_is_too_large_is_refused_before_anything_is_sent(queue: Any, raw: redis.Redis) -> None:
    with pytest.raises(DataTooLarge):
        queue.run(batches.add("item", ["x", "x" * 100], collect="all", size_limit=50))
    assert raw.dbsize() == 0


def test_a_full_queue_takes_no_batch(redis_url: str, raw: redis.Redis) -> None:
    with Queue("paint", url=redis_url, max_waiting=4) as queue, pytest.raises(QueueFull):
        queue.run(batches.add("item", ITEMS, collect="all"))
    assert raw.dbsize() == 0


# --- what the collector sees ----------------------------------------------------------------------------


def test_results_are_in_the_order_of_the_items_with_errors_in_their_places() -> None:
    found = {
        "processed": {"bull:q:B-10-of-11": "ten", "bull:q:B-2-of-11": "two", "bull:q:other": 1,
                      "bull:q:xB-3-of-11": 1, "bull:q:B-12-of-11": 1},
        "ignored": {"bull:q:B-1-of-11": "torn"},
        "failed": ["bull:q:B-4-of-11"],
        "unprocessed": ["bull:q:B-5-of-11"],
    }  # fmt: skip

    seen = results("B", found)

    assert len(seen) == 11
    assert (seen[1], seen[9]) == ("two", "ten")
    errors = {n: str(each) for n, each in enumerate(seen) if isinstance(each, ItemFailed)}
    removed = "its job was removed"
    assert errors == {0: "torn", 3: "its job failed", 4: "its job is pending"} | dict.fromkeys(
        (2, 5, 6, 7, 8, 10), removed
    )
    assert seen[3].place == 3
    assert results("B", {"processed": {}, "ignored": {}, "failed": [], "unprocessed": []}) == []
