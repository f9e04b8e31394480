"""A tree of jobs as users write it, checked and encoded for `AddFlow`.

Decides what a tree may look like: no job twice, ids for all, each queue's own defaults. Everything is checked
before anything is sent.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from supervisor.errors import InvalidJob
from supervisor.protocol.commands.add import NewJob
from supervisor.protocol.commands.flow import FlowNode
from supervisor.protocol.given import check_mapping, clipped, shown
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import (
    MAX_DATA_BYTES,
    AddOptions,
    JobSpec,
    Json,
    check_defaults,
    check_text,
    encode_job,
)
from supervisor.protocol.parent_option import ParentLink

MAX_DEPTH: Final = 200  # of a tree; each level is one step of recursion here and where it is read back
_MEMBERS: Final = frozenset({"name", "data", "queue", "prefix", "options", "children"})


class FlowJob(msgspec.Struct, frozen=True):
    """A job of a flow, with those it waits for.

    name       what the processor tells jobs apart by.
    data       anything JSON can say.
    queue      where it runs; if not given, its parent's queue, and for the first job the queue that it is
               added by.
    options    as for `Queue.add`: `attempts`, `delay_ms`, `job_id`, `fail_parent_on_failure`... The first job
               may have a `parent` outside of the tree.
    children   jobs that run before it; they are `FlowJob`s too.
    prefix     if its keys begin otherwise than its parent's.
    """

    name: str
    data: Json = msgspec.field(default_factory=dict)
    queue: str | None = None
    options: AddOptions = msgspec.field(default_factory=AddOptions)
    children: Sequence[FlowJob] = ()
    prefix: str | None = None


class Planned(msgspec.Struct, frozen=True):
    """A job of a tree, encoded, and its children."""

    node: FlowNode
    data: Json
    children: tuple[Planned, ...]

    def nodes(self) -> Iterator[FlowNode]:
        """Itself, then its children with theirs: each parent before its children."""
        yield self.node
        for child in self.children:
            yield from child.nodes()


class Planner(msgspec.Struct):
    """Turns trees into nodes. `defaults` by queue name; `keys` of the jobs met so far find one that is there
    twice.
    """

    home: QueueKeys
    now_ms: int
    defaults: Mapping[str, AddOptions]
    max_data_bytes: int = MAX_DATA_BYTES
    new_id: Callable[[], str] = lambda: str(uuid.uuid4())
    _keys: set[str] = msgspec.field(default_factory=set)

    def plan(self, tree: FlowJob) -> Planned:
        """Raises `InvalidJob`, `DataTooLarge` or `UsageError`; nothing was sent then."""
        return self._plan(tree, self.home, None, 1)

    def _plan(self, job: FlowJob, above: QueueKeys, parent: ParentLink | None, depth: int) -> Planned:
        _check(job, depth)
        keys = QueueKeys(above.name if job.queue is None else job.queue, job.prefix or above.prefix)
        options = dict(job.options)
        if parent is not None:
            if options.get("parent") is not None:
                raise InvalidJob(
                    f"job {shown(job.name)} is a child in its flow and cannot have another parent"
                )
            options["parent"] = parent
        defaults = self.defaults.get(keys.name, {})
        deduplicated = options.get("deduplication", defaults.get("deduplication")) is not None
        if deduplicated and (job.children or parent is not None):
            raise InvalidJob(
                "Deduplication options cannot be used on flow nodes with children"
                if job.children
                else f"job {shown(job.name)} is a child in its flow and cannot be deduplicated"
            )
        new = self._encoded(job, keys, options, defaults)
        key = keys.job(new.job_id or "")
        if key in self._keys:
            raise InvalidJob(
                f"job {clipped(key)} stands twice in the flow: it would wait for itself, or for two parents"
            )
        self._keys.add(key)
        link = ParentLink(new.job_id or "", keys.base)
        children = tuple(self._plan(child, keys, link, depth + 1) for child in job.children)
        return Planned(FlowNode(keys, new, bool(children)), job.data, children)

    def _encoded(
        self, job: FlowJob, keys: QueueKeys, options: dict[str, Any], defaults: AddOptions
    ) -> NewJob:
        new = encode_job(
            JobSpec(job.name, job.data, options),  # type: ignore[arg-type]  # checked there
            now_ms=self.now_ms,
            defaults=defaults,
            max_data_bytes=self.max_data_bytes,
            prefix=keys.prefix,
        )
        return new if new.job_id else structs.replace(new, job_id=self.new_id())


def flow_of(value: Any, depth: int = 1) -> FlowJob:
    """A tree that was written as mappings, as in a JSON file; raises `InvalidJob` for what it cannot be."""
    if not isinstance(value, Mapping):
        raise InvalidJob(f"a job of a flow is an object with a name, not {type(value).__name__}")
    if depth > MAX_DEPTH:
        raise InvalidJob(f"the flow is deeper than {MAX_DEPTH} jobs")
    unknown = sorted(map(str, set(value) - _MEMBERS))
    if unknown or "name" not in value:
        raise InvalidJob(
            f"a job of a flow has {', '.join(sorted(_MEMBERS))}; "
            + (f"it has no {clipped(unknown[0])!r}" if unknown else "the name is missing")
        )
    children, options = value.get("children"), value.get("options")
    children = () if children is None else children
    if not isinstance(children, (list, tuple)):
        raise InvalidJob(f"the children of {shown(value['name'])} are a list, not {type(children).__name__}")
    return FlowJob(
        value["name"],
        value.get("data", {}),
        value.get("queue"),
        AddOptions() if options is None else options,
        [flow_of(child, depth + 1) for child in children],
        value.get("prefix"),
    )


def checked_defaults(defaults: Mapping[str, AddOptions] | None) -> dict[str, AddOptions]:
    """The defaults by queue, each checked as those of a queue are."""
    if defaults is None:
        return {}
    check_mapping(defaults, "the defaults by queue")
    for queue in defaults:
        check_text(queue, "the name of a queue of the defaults")
    return {queue: check_defaults(options) for queue, options in defaults.items()}


def _check(job: Any, depth: int) -> None:
    if not isinstance(job, FlowJob):
        raise InvalidJob(f"the jobs of a flow are FlowJobs, not {type(job).__name__}")
    if depth > MAX_DEPTH:
        raise InvalidJob(f"the flow is deeper than {MAX_DEPTH} jobs, or a job in it is its own child")
    check_text(job.name, "the name of a job")
    if not isinstance(job.options, Mapping):
        raise InvalidJob(
            f"the options of job {shown(job.name)} are a mapping, not {type(job.options).__name__}"
        )
    if not isinstance(job.children, (list, tuple)):
        raise InvalidJob(
            f"the children of job {shown(job.name)} are a list, not {type(job.children).__name__}"
        )
    for what, value in (("queue", job.queue), ("prefix", job.prefix)):
        if value is not None:
            check_text(value, f"the {what} of job {shown(job.name)}")
