"""Batches: many items, each a job of its own, and one job that collects what became of them.

A batch is a flow: the items' jobs are the children, the collector is their parent. It makes an action that a
queue carries out, as those of `flows.py`:

    batch = await queue.run(batches.add("resize", paths, collect="zip"))
    print(await queue.result(batch))

The collector is added first, with the first children, and waits from then on for the last child too, which
comes with the last call. So it cannot run too early, and each call is short, however many items there are.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Unpack

from msgspec import structs

from supervisor.client.core import Action, Context
from supervisor.client.flows import FlowJob
from supervisor.client.job import Job, added_job
from supervisor.errors import InvalidJob, QueueFull
from supervisor.protocol import fields
from supervisor.protocol.commands.flow import AddBatchPart, Dependencies, FlowNode, GetDependencies
from supervisor.protocol.commands.read import GetCounts, GetState
from supervisor.protocol.flow_tree import Planned, Planner
from supervisor.protocol.given import check_mapping, shown
from supervisor.protocol.new_job import AddOptions, Json, check_text, whole
from supervisor.protocol.steps import Steps

MAX_CHILDREN: Final = 10_000  # the collector reads what all of them returned in one go: some 5 ms of Redis
JOBS_PER_CALL: Final = 100  # some 5 ms of Redis
BYTES_PER_CALL: Final = 1024 * 1024
FAIL: Final = "fail"
COLLECT: Final = "collect"
_POLICIES: Final = {FAIL: "fail_parent_on_failure", COLLECT: "ignore_dependency_on_failure"}
_NOT_OF_AN_ITEM: Final = {
    "job_id": "the id of a batch is batch_id, and its jobs have theirs from it",
    "parent": "the collector may have a parent: collect=FlowJob(..., options={'parent': ...})",
    "deduplication": "give a batch_id, and the batch is added once",
} | dict.fromkeys(
    (*_POLICIES.values(), "continue_parent_on_failure", "remove_dependency_on_failure"),
    "what a failed job does to its batch is on_failure",
)


def add(
    name: str,
    items: Iterable[Json],
    *,
    collect: str | FlowJob,
    chunk: int | None = None,
    on_failure: str = FAIL,
    batch_id: str | None = None,
    **options: Unpack[AddOptions],
) -> Action[Job]:
    """Add a job called `name` for each item, and one that collects: it is returned, its id is the batch's.

    items        the data of the jobs, in the order in which the collector gets their results; without any it
                 runs at once.
    collect      the collector's name, or a `FlowJob` without children where it needs more than that. If that
                 names another queue, ask that one for the result.
    chunk        so many items in one job, whose data is then the list of them; at most 10,000 jobs.
    on_failure   `fail`: a job that fails for good fails the batch, and the collector does not run.
                 `collect`: it runs when all others are done, with an `ItemFailed` in the place of each.
    batch_id     an id of your own. A second batch with it is not added again. One of which the producer died
                 half way is finished by adding the same items again, and waits until then.
    options      for each of the jobs: `attempts`, `priority`...

    In the collector `job.batch_results()` is the list of what the jobs returned. Everything is checked before
    anything is sent: `InvalidJob`, `DataTooLarge`. The first jobs run while others are still being added.

    Wire: addFlow, once for 100 jobs; events as those of `flows.add`.
    """
    if not isinstance(on_failure, str) or on_failure not in _POLICIES:
        raise InvalidJob(
            f"on_failure is {' or '.join(_POLICIES)}, not {shown(on_failure)}; nothing was added"
        )
    for option in options:
        if option in _NOT_OF_AN_ITEM:
            raise InvalidJob(f"the jobs of a batch cannot have {option}: {_NOT_OF_AN_ITEM[option]}")
    given: AddOptions = {**options, _POLICIES[on_failure]: True}  # type: ignore[misc]
    parts, collector = _parts(items, chunk), _collector(collect, batch_id)

    def steps(context: Context) -> Steps[Job]:
        plan = _plan(context, collector, name, parts, given)
        head, jobs = plan.node, [child.node for child in plan.children]
        collected = added_job(head.queue.name, head.job, head.job.job_id or "", collector.data)
        state = (yield GetState(head.queue, collected.id)) if batch_id is not None else fields.UNKNOWN
        if state == fields.UNKNOWN:
            yield from _look_for_room(context, len(jobs))
        elif state != fields.WAITING_CHILDREN:
            return collected  # all of it was added before
        elif jobs:
            _check_same((yield GetDependencies(head.queue, collected.id)), jobs[-1], len(jobs), collected.id)
        for part in _calls(head, jobs):
            if not (yield AddBatchPart(part, context.clock())):
                break  # it has ended, by a job that failed: its result tells
        return collected

    return steps


def _look_for_room(context: Context, count: int) -> Steps[None]:
    """Raise `QueueFull` when the jobs are too many for the queue as it is before the first call."""
    most = context.max_waiting
    if most is None:
        return
    counts = yield GetCounts(context.keys)
    waiting = counts[fields.WAITING] + counts[fields.PRIORITIZED]
    if waiting + count > most:
        raise QueueFull(
            f"{waiting:,} jobs wait in {context.keys.name}, and max_waiting is {most:,}: the batch of "
            f"{count:,} was not added. Try again when workers have caught up",
            waiting=waiting,
            max_waiting=most,
        )


def _parts(items: Iterable[Json], chunk: int | None) -> list[Json]:
    if isinstance(items, str | bytes | bytearray | dict) or not isinstance(items, Iterable):
        raise InvalidJob(f"the items of a batch are a list, not {type(items).__name__}; nothing was added")
    if chunk is not None:
        whole(1)("chunk", chunk)
    listed = list(items)
    parts = listed if chunk is None else [listed[at : at + chunk] for at in range(0, len(listed), chunk)]
    if len(parts) > MAX_CHILDREN:
        least = -(-len(listed) // MAX_CHILDREN)
        raise InvalidJob(
            f"{len(parts):,} jobs are too many for one batch, which has {MAX_CHILDREN:,} at most: "
            f"put at least {least:,} items in each with chunk={least}; nothing was added"
        )
    return parts


def _collector(collect: str | FlowJob, batch_id: str | None) -> FlowJob:
    if not isinstance(collect, FlowJob):
        check_text(collect, "the name of the collector")
        collect = FlowJob(collect)
    if collect.children:
        raise InvalidJob("the collector has no children but the items; nothing was added")
    check_mapping(collect.options, "the options of the collector")
    options = AddOptions(**collect.options)
    if options.get("deduplication") is not None:
        raise InvalidJob("a batch cannot be deduplicated: give a batch_id, and it is added once")
    if options.get("job_id") is not None:
        raise InvalidJob("the collector's job_id is the batch's: give it as batch_id")
    if batch_id is not None:
        check_text(batch_id, "the id of a batch")
        if not batch_id:
            raise InvalidJob("the batch_id is empty; nothing was added")
    options["job_id"] = str(uuid.uuid4()) if batch_id is None else batch_id
    return structs.replace(collect, options=options)


def _plan(
    context: Context, collector: FlowJob, name: str, parts: Sequence[Json], options: AddOptions
) -> Planned:
    """The whole flow, checked and encoded. The ids of the jobs say their places, for `batch_results`."""
    keys, batch_id, total = context.keys, collector.options["job_id"], len(parts)
    children = [
        FlowJob(
            name,
            part,
            keys.name,
            {**options, "job_id": f"{batch_id}-{place}-of-{total}"},
            prefix=keys.prefix,
        )
        for place, part in enumerate(parts, start=1)
    ]
    planner = Planner(keys, context.clock(), {keys.name: context.defaults}, context.max_data_bytes)
    return planner.plan(structs.replace(collector, children=children))


def _calls(head: FlowNode, jobs: Sequence[FlowNode]) -> Iterator[list[FlowNode]]:
    """The nodes of each call; the collector is in the first, and waits for the last job from then on."""
    call, size = [head], len(head.job.data)
    if len(jobs) > 1:
        call = [structs.replace(head, to_come=jobs[-1].queue.job(jobs[-1].job.job_id or ""))]
    for place, node in enumerate(jobs):
        if place and (place % JOBS_PER_CALL == 0 or size > BYTES_PER_CALL):
            yield call
            call, size = [], 0
        call.append(structs.replace(node, once=True))
        size += len(node.job.data)
    yield call


def _check_same(found: Dependencies, last: FlowNode, total: int, batch_id: str) -> None:
    """Raise `InvalidJob` when the job that waits under this id is not a batch of as many jobs."""
    key = last.queue.job(last.job.job_id or "")
    if not any(key in group for group in (found.unprocessed, found.processed, found.ignored, found.failed)):
        raise InvalidJob(
            f"{batch_id} waits for other jobs than the {total:,} of this batch; nothing was added. "
            "Add the items with which it began, or take another batch_id"
        )
