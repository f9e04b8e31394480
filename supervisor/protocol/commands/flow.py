"""Flows: trees of jobs added as a whole, what is known of a parent's children, and taking them away.

`AddFlow` writes; the getters are pipelines of what stands beside a parent's hash (core.md section 9.5). How
a tree is checked and encoded is `flow_tree.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec

from supervisor.errors import InvalidJob, RedisRefused
from supervisor.protocol import fields
from supervisor.protocol.codes import Code, error_of
from supervisor.protocol.commands.add import NewJob
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.given import shown
from supervisor.protocol.job_record import JobRecord, record_of
from supervisor.protocol.jsontext import decode
from supervisor.protocol.keys import QueueKeys

PROCESSED: Final = "processed"
UNPROCESSED: Final = "unprocessed"
IGNORED: Final = "ignored"
FAILED: Final = "failed"
GROUPS: Final = (PROCESSED, UNPROCESSED, FAILED, IGNORED)  # in the order in which a tree is read back
_SUFFIXES: Final[Mapping[str, str]] = {
    PROCESSED: fields.CHILDREN_PROCESSED,
    UNPROCESSED: fields.CHILDREN_PENDING,
    IGNORED: fields.CHILDREN_IGNORED,
    FAILED: fields.CHILDREN_FAILED,
}


class FlowNode(msgspec.Struct, frozen=True):
    """A job of a tree that has been validated and encoded; it has an id.

    to_come   of a parent: the key of a child that a later call adds, and for which it waits from now on.
    once      of a child: if its parent knows how it ended, it is left alone.
    """

    queue: QueueKeys
    job: NewJob
    has_children: bool
    to_come: str = ""
    once: bool = False

    def parts(self) -> tuple[Arg, ...]:
        job, parent = self.job, self.job.parent
        return (
            self.queue.base + ":",
            job.name.encode("utf-8", "replace"),
            job.data,
            job.opts,
            job.timestamp,
            job.delay_ms,
            job.priority,
            int(job.lifo),
            job.job_id or "",
            parent.key if parent else "",
            parent.text if parent else "",
            int(self.has_children),
            job.claim or "",
            self.to_come or ("1" if self.once else ""),
        )


class AddFlow(msgspec.Struct, frozen=True):
    """Add trees of jobs, all or none. A refusal is raised, and names the job that is why.

    Decodes to the ids of those that stand, by their deduplication, for a job of this call, by its position.
    """

    script: ClassVar[str] = "addFlow"

    nodes: Sequence[FlowNode]  # parents before their children
    now_ms: int
    max_events: int = fields.DEFAULT_MAX_EVENTS

    def keys(self) -> Sequence[str]:
        return list(dict.fromkeys(node.queue.meta for node in self.nodes))

    def args(self) -> Sequence[Arg]:
        args: list[Arg] = [self.now_ms, self.max_events]
        for node in self.nodes:
            args += node.parts()
        return args

    def decode(self, reply: Reply) -> dict[int, str]:
        if not reply or isinstance(reply[0], list):
            return {position: _text(owner) for position, owner in reply}
        position, code, text = reply
        node = self.nodes[position]
        if code == Code.GUILTY:
            said = text.decode("utf-8", "replace")
            raise RedisRefused(f"nothing of the flow was added, because of job {node.job.name!r}: {said}")
        if code == Code.PARENT_ENDED and node.has_children:
            key = node.queue.job(node.job.job_id or "")
            raise error_of(code, job_id=node.job.job_id or "", call="addFlow", parent=key)
        parent = node.job.parent.key if node.job.parent else "undefined"
        raise error_of(code, job_id=node.job.job_id or "", call="addFlow", parent=parent)


class AddBatchPart(AddFlow, frozen=True):
    """Some jobs of a batch. Decodes to False, and nothing was added, when its collector has ended."""

    def decode(self, reply: Reply) -> bool:  # type: ignore[override]
        if reply and not isinstance(reply[0], list) and reply[1] == Code.PARENT_ENDED:
            return False
        AddFlow.decode(self, reply)
        return True


class RemoveFlow(msgspec.Struct, frozen=True):
    """Delete a job and all below it. Decodes to False when a worker holds one that is pending.

    Decodes to None, and nothing is done, when it is too much for one call: see flow_removal.py.
    """

    script: ClassVar[str] = "removeFlow"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id)

    def decode(self, reply: Reply) -> bool | None:
        if reply < 0:
            raise error_of(reply, job_id=self.job_id, call="removeJob")
        return None if reply == 2 else bool(reply == 1)


class RemoveChildren(msgspec.Struct, frozen=True):
    """Delete the children a job still waits for, with theirs, but for active and failed ones.

    Decodes to False, and nothing is done, when it is too much for one call: see flow_removal.py.
    """

    script: ClassVar[str] = "removeChildren"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id)

    def decode(self, reply: Reply) -> bool:
        if reply < 0:
            raise error_of(reply, job_id=self.job_id, call="removeUnprocessedChildren")
        return bool(reply == 1)


class LeaveParent(msgspec.Struct, frozen=True):
    """A child's parent no longer waits for it. Decodes to False when it did not wait for it anyway."""

    script: ClassVar[str] = "leaveParent"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return (self.queue.job(self.job_id),)

    def args(self) -> Sequence[Arg]:
        return ()

    def decode(self, reply: Reply) -> bool:
        if isinstance(reply, list):
            raise RedisRefused(f"job {self.job_id} is as it was: {_text(reply[1])}")
        if reply < 0:
            raise error_of(reply, job_id=self.job_id, call="removeChildDependency")
        return bool(reply == 0)


# --- what is known of a parent's children ---------------------------------------------------------------


class Dependencies(msgspec.Struct, frozen=True):
    """The children of a job, by their full keys.

    processed     what those that completed have returned.
    unprocessed   those that it still waits for, failed ones without a policy among them.
    ignored       why those failed whose failure does not count.
    failed        those that failed and with them their parent.
    """

    processed: Mapping[str, Any]
    unprocessed: tuple[str, ...]
    ignored: Mapping[str, str]
    failed: tuple[str, ...]


class GetDependencies(msgspec.Struct, frozen=True):
    """All children of a job."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.job(self.job_id)
        return (
            ("HGETALL", key + fields.CHILDREN_PROCESSED),
            ("SMEMBERS", key + fields.CHILDREN_PENDING),
            ("HGETALL", key + fields.CHILDREN_IGNORED),
            ("ZRANGE", key + fields.CHILDREN_FAILED, 0, -1),
        )

    def decode(self, reply: Reply) -> Dependencies:
        processed, unprocessed, ignored, failed = reply
        return Dependencies(
            _values(processed), tuple(map(_text, unprocessed)), _texts(ignored), tuple(map(_text, failed))
        )


class CountDependencies(msgspec.Struct, frozen=True):
    """How many children of a job are in each group."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.job(self.job_id)
        return [(_COUNTS[group], key + _SUFFIXES[group]) for group in _COUNTS]

    def decode(self, reply: Reply) -> dict[str, int]:
        return dict(zip(_COUNTS, reply, strict=True))


_COUNTS: Final = {PROCESSED: "HLEN", UNPROCESSED: "SCARD", IGNORED: "HLEN", FAILED: "ZCARD"}


class ChildrenPage(msgspec.Struct, frozen=True):
    """Some children of one group: `items` has each key with its result or reason, or None where there is
    neither. `cursor` is where the next page begins; 0 when this was the last.
    """

    items: Mapping[str, Any]
    cursor: int


class ScanChildren(msgspec.Struct, frozen=True):
    """One page of a job's children of one group, about `count` of them.

    Small groups come whole, whatever `count` says, and a child may come twice if others come and go
    meanwhile: it is Redis's own scan. Failed ones are a range, so that there `cursor` is a place.
    """

    queue: QueueKeys
    job_id: str
    group: str
    cursor: int = 0
    count: int = 20

    def requests(self) -> Sequence[Sequence[Arg]]:
        key = self.queue.job(self.job_id) + _SUFFIXES[self.group]
        if self.group == FAILED:
            # One more than asked tells whether there is a next page.
            return (("ZRANGE", key, self.cursor, self.cursor + self.count),)
        scan = "SSCAN" if self.group == UNPROCESSED else "HSCAN"
        return ((scan, key, self.cursor, "COUNT", self.count),)

    def decode(self, reply: Reply) -> ChildrenPage:
        if self.group == FAILED:
            keys = [_text(key) for key in reply[0]]
            more = len(keys) > self.count
            return ChildrenPage(dict.fromkeys(keys[: self.count]), self.cursor + self.count if more else 0)
        cursor, found = reply[0]
        if self.group == UNPROCESSED:
            return ChildrenPage(dict.fromkeys(map(_text, found)), int(cursor))
        return ChildrenPage((_values if self.group == PROCESSED else _texts)(found), int(cursor))


class Family(msgspec.Struct, frozen=True):
    """A job as its hash says, None when it is gone, and its children in the order of `GROUPS`.

    more   there are children beyond those asked for.
    """

    queue: QueueKeys
    job_id: str
    record: JobRecord | None
    children: tuple[tuple[QueueKeys, str], ...]
    more: bool


class GetFamilies(msgspec.Struct, frozen=True):
    """Many jobs in one pipeline, each with at most `most` children of each group."""

    jobs: Sequence[tuple[QueueKeys, str]]
    most: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        requests: list[Sequence[Arg]] = []
        for queue, job_id in self.jobs:
            requests.append(("HGETALL", queue.job(job_id)))
            for group in GROUPS:
                requests += ScanChildren(queue, job_id, group, count=self.most).requests()
        return requests

    def decode(self, reply: Reply) -> list[Family]:
        width = 1 + len(GROUPS)
        return [
            self._family(queue, job_id, reply[place * width : (place + 1) * width])
            for place, (queue, job_id) in enumerate(self.jobs)
        ]

    def _family(self, queue: QueueKeys, job_id: str, replies: Sequence[Reply]) -> Family:
        children: dict[str, tuple[QueueKeys, str]] = {}
        more = False
        for group, reply in zip(GROUPS, replies[1:], strict=True):
            page = ScanChildren(queue, job_id, group, count=self.most).decode([reply])
            keys = list(page.items)
            more = more or page.cursor != 0 or len(keys) > self.most
            for key in keys[: self.most]:
                prefix, name, child_id = split_child_key(key, queue)
                if name:  # else it is no key of a job at all
                    children[key] = (QueueKeys(name, prefix), child_id)
        return Family(queue, job_id, record_of(job_id, replies[0]), tuple(children.values()), more)


class GetIgnoredFailures(msgspec.Struct, frozen=True):
    """Why those children failed whose failure does not count: child key to reason."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGETALL", self.queue.job(self.job_id) + fields.CHILDREN_IGNORED),)

    def decode(self, reply: Reply) -> dict[str, str]:
        return _texts(reply[0])


def check_group(group: str) -> None:
    if group not in GROUPS:
        raise InvalidJob(f"there is no group of children {shown(group)}; the groups are {', '.join(GROUPS)}")


def split_child_key(key: str, parent: QueueKeys) -> tuple[str, str, str]:
    """Prefix, queue and id of a child's full key.

    Ids may have colons in them, prefixes too, queue names not. A child with its parent's prefix is found by
    that, any other by its last two colons.
    """
    if key.startswith(parent.prefix + ":"):
        queue, _, job_id = key[len(parent.prefix) + 1 :].partition(":")
        if job_id and job_id.count(":") != 1:
            return parent.prefix, queue, job_id
    base, _, job_id = key.rpartition(":")
    prefix, _, queue = base.rpartition(":")
    return prefix, queue, job_id


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _texts(flat: Sequence[bytes]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in zip(flat[::2], flat[1::2], strict=True)}


def _values(flat: Sequence[bytes]) -> dict[str, Any]:
    return {_text(key): _value(value) for key, value in zip(flat[::2], flat[1::2], strict=True)}


def _value(text: bytes) -> Any:
    try:
        return decode(text)
    except ValueError:
        return _text(text)  # somebody wrote what is not JSON; better shown than hidden
