"""Flows: jobs that wait for jobs. Adding trees, reading them back, and what is done to children.

Each function makes an action that a queue carries out, as those of `edit.py`:

    tree = FlowJob("book", {}, children=[FlowJob("page", {"n": n}, queue="pages") for n in range(3)])
    flow = await queue.run(flows.add(tree))

and the same without await in the blocking client. The queue is that of the first job; the others name theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from supervisor.client.core import Action, Context, ask
from supervisor.client.job import Job, added_job, job_of
from supervisor.errors import InvalidJob, JobError
from supervisor.protocol.commands.flow import (
    GROUPS,
    AddFlow,
    ChildrenPage,
    CountDependencies,
    Dependencies,
    Family,
    GetDependencies,
    GetFamilies,
    GetIgnoredFailures,
    LeaveParent,
    ScanChildren,
    check_group,
)
from supervisor.protocol.commands.flow_pages import ScanGroups
from supervisor.protocol.commands.flow_removal import remove_children, remove_flow
from supervisor.protocol.flow_tree import FlowJob, Planned, Planner, checked_defaults
from supervisor.protocol.given import check_job_ref, kind
from supervisor.protocol.keys import DEFAULT_PREFIX, QueueKeys
from supervisor.protocol.new_job import AddOptions, whole
from supervisor.protocol.steps import Steps

_FAMILIES_PER_CALL = 500


class Flow(msgspec.Struct, frozen=True):
    """A job of a flow and the flows it waits for.

    more     there are children that were not read: beyond `depth`, or beyond `max_children`.
    prefix   what the keys of its queue start with.
    """

    job: Job
    children: tuple[Flow, ...] = ()
    more: bool = False
    prefix: str = DEFAULT_PREFIX


def add(tree: FlowJob, *, defaults: Mapping[str, AddOptions] | None = None) -> Action[Flow]:
    """Add a tree of jobs at once: all of them or none. Children run first, each parent when its are done.

    defaults   options for the jobs of each queue, by its name; those of the queue it is added by are known.

    A child that is there already (its own `job_id`) is taken into the tree, unless another job waits for it.
    Only a first job without children can be deduplicated; the id of the one that stands for it comes back.
    Raises `InvalidJob` or `DataTooLarge` before anything is sent; `JobNotFound` when the first job has a
    `parent` that is not there; `JobNotInState` when a parent has ended; `JobError` for a child of another
    parent or a circle. Nothing was added then.

    Wire: addFlow; events `added`, then `waiting-children`, `waiting` or `delayed`; or `duplicated` alone.
    """
    made = add_bulk([tree], defaults=defaults)

    def steps(context: Context) -> Steps[Flow]:
        (flow,) = yield from made(context)
        return flow

    return steps


def add_bulk(
    trees: Iterable[FlowJob], *, defaults: Mapping[str, AddOptions] | None = None
) -> Action[list[Flow]]:
    """Add many trees at once, all of them or none; see `add`."""
    if isinstance(trees, (str, bytes, Mapping)) or not isinstance(trees, Iterable):
        raise InvalidJob(f"the flows are a list of FlowJobs, not {kind(trees)}; nothing was added")
    wanted, by_queue = list(trees), checked_defaults(defaults)

    def steps(context: Context) -> Steps[list[Flow]]:
        now_ms = context.clock()
        planner = Planner(
            context.keys, now_ms, {context.keys.name: context.defaults} | by_queue, context.max_data_bytes
        )
        plans = [planner.plan(tree) for tree in wanted]
        nodes = [node for plan in plans for node in plan.nodes()]
        stand_ins = (yield AddFlow(nodes, now_ms)) if plans else {}
        owners = {id(nodes[position]): owner for position, owner in stand_ins.items()}
        return [_added(plan, owners) for plan in plans]

    return steps


def get(job_id: str, *, depth: int = 10, max_children: int = 20) -> Action[Flow | None]:
    """Read a flow back from the job `job_id` down; None when there is no such job.

    depth          levels in all, the first job's included.
    max_children   of each job, in each of the groups processed, unprocessed, failed and ignored.

    A child whose hash is gone is there with its id alone, and says so in `problems`.
    """
    check_job_ref(job_id)
    whole(1, 1_000)("depth", depth)
    whole(1)("max_children", max_children)

    def steps(context: Context) -> Steps[Flow | None]:
        levels: list[list[Family]] = []
        wanted: list[tuple[QueueKeys, str]] = [(context.keys, job_id)]
        seen: set[str] = set()
        while wanted and len(levels) < depth:
            seen.update(keys.job(found_id) for keys, found_id in wanted)
            level: list[Family] = []
            for at in range(0, len(wanted), _FAMILIES_PER_CALL):
                level += yield GetFamilies(wanted[at : at + _FAMILIES_PER_CALL], max_children)
            levels.append(level)
            # A job is read once: links that close to a circle must not be followed for ever.
            below = {keys.job(child): (keys, child) for family in level for keys, child in family.children}
            wanted = [child for key, child in below.items() if key not in seen]
        if levels[0][0].record is None:
            return None
        return _read(levels)

    return steps


def dependencies(job_id: str) -> Action[Dependencies]:
    """All children of a job, by their keys: what they returned, why they failed, which are pending."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[Dependencies]:
        return ask(GetDependencies(context.keys, job_id))

    return steps


def dependency_counts(job_id: str) -> Action[dict[str, int]]:
    """How many children of a job are `processed`, `unprocessed`, `ignored` and `failed`."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[dict[str, int]]:
        return ask(CountDependencies(context.keys, job_id))

    return steps


def children(job_id: str, group: str, *, cursor: int = 0, count: int = 20) -> Action[ChildrenPage]:
    """One page of a job's children of one group: `processed`, `unprocessed`, `ignored` or `failed`.

    cursor   0 for the first page, then what the page before says; 0 again means that it was the last.
    count    about so many; small groups come whole.
    """
    check_job_ref(job_id)
    check_group(group)
    whole(0, 2**64 - 1)("cursor", cursor)
    whole(1)("count", count)

    def steps(context: Context) -> Steps[ChildrenPage]:
        return ask(ScanChildren(context.keys, job_id, group, cursor, count))

    return steps


def pages(
    job_id: str, cursors: Mapping[str, int] | None = None, *, count: int = 20
) -> Action[dict[str, ChildrenPage]]:
    """One page of each group of a job's children at once; see `children`.

    cursors   where the page of each group begins, of those that are wanted; all four from their beginning if
              not given. What comes next of what there is more of:
              `{group: page.cursor for group, page in found.items() if page.cursor}`.
    """
    check_job_ref(job_id)
    if cursors is not None and not isinstance(cursors, Mapping):
        raise InvalidJob(f"the cursors are a mapping of groups, not {type(cursors).__name__}")
    wanted = dict.fromkeys(GROUPS, 0) if cursors is None else dict(cursors)
    for group, cursor in wanted.items():
        check_group(group)
        whole(0, 2**64 - 1)("cursor", cursor)
    whole(1)("count", count)

    def steps(context: Context) -> Steps[dict[str, ChildrenPage]]:
        if not wanted:
            return {}
        return (yield ScanGroups(context.keys, job_id, wanted, count))  # type: ignore[no-any-return]

    return steps


def children_values(job_id: str) -> Action[Mapping[str, Any]]:
    """What a job's completed children returned: child key to result."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[Mapping[str, Any]]:
        found: Dependencies = yield GetDependencies(context.keys, job_id)
        return found.processed

    return steps


def ignored_failures(job_id: str) -> Action[dict[str, str]]:
    """Why those children failed whose failure does not count: child key to reason."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[dict[str, str]]:
        return ask(GetIgnoredFailures(context.keys, job_id))

    return steps


def remove_child_dependency(job_id: str) -> Action[bool]:
    """The parent of this job no longer waits for it. False when it did not, because the job has ended.

    The last child that leaves lets its parent run. Raises `JobNotFound` when the job or its parent is gone,
    or it has none.
    """
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[bool]:
        return ask(LeaveParent(context.keys, job_id))

    return steps


def remove_unprocessed_children(job_id: str) -> Action[None]:
    """Remove the children that a job still waits for, with theirs. Active and failed ones stay."""
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[None]:
        return remove_children(context.keys, job_id)

    return steps


def remove(job_id: str) -> Action[None]:
    """Remove a job and all below it, finished ones too. Raises `JobError` when a worker holds one.

    More than a hundred jobs, or jobs beside many that wait, go in several calls. A child that a worker takes
    meanwhile is left to it. After a crash in between remove the job again: what is left goes.
    """
    check_job_ref(job_id)

    def steps(context: Context) -> Steps[None]:
        if not (yield from remove_flow(context.keys, job_id)):
            raise JobError(
                f"Job {job_id} could not be removed because it, or one below it, is locked by another worker"
            )

    return steps


def _added(plan: Planned, owners: Mapping[int, str]) -> Flow:
    """`owners` has, by the node's identity, the id of the job that stands for it."""
    new = plan.node.job
    job = added_job(plan.node.queue.name, new, owners.get(id(plan.node), new.job_id or ""), plan.data)
    children = tuple(_added(child, owners) for child in plan.children)
    return Flow(job, children, prefix=plan.node.queue.prefix)


def _read(levels: Sequence[Sequence[Family]]) -> Flow:
    """From the deepest level up, each child to the parent that named it."""
    below: dict[str, Flow] = {}
    for level in reversed(levels):
        here: dict[str, Flow] = {}
        for family in level:
            found = [below[key] for keys, child in family.children if (key := keys.job(child)) in below]
            job = (
                job_of(family.queue.name, family.record)
                if family.record is not None
                else Job(id=family.job_id, queue=family.queue.name, problems=("it is no longer there",))
            )
            here[family.queue.job(family.job_id)] = Flow(
                job,
                tuple(found),
                family.more or len(found) < len(family.children),
                family.queue.prefix,
            )
        below = here
    (flow,) = below.values()
    return flow


__all__ = [
    "GROUPS",
    "ChildrenPage",
    "Dependencies",
    "Flow",
    "FlowJob",
    "add",
    "add_bulk",
    "children",
    "children_values",
    "dependencies",
    "dependency_counts",
    "get",
    "ignored_failures",
    "pages",
    "remove",
    "remove_child_dependency",
    "remove_unprocessed_children",
]
