"""A flow goes away: in one call when it is small, else part after part.

A large one is first looked through for jobs that workers hold; then each parent is taken out of its state
before its children are removed, so that no worker gets it meanwhile, and goes last. When the caller dies in
between, what is left of the parents is in no state, and the same removal finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.flow import (
    GROUPS,
    UNPROCESSED,
    ChildrenPage,
    RemoveChildren,
    RemoveFlow,
    ScanChildren,
    split_child_key,
)
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

AT_ONCE: Final = 100
_ALL, _PENDING, _BEGIN, _END = "all", "pending", "begin", "end"


class RemoveBelow(msgspec.Struct, frozen=True):
    """One call of a large removal; the answers are removeBelow.lua's."""

    script: ClassVar[str] = "removeBelow"

    queue: QueueKeys
    job_id: str
    what: str
    state: str = ""
    children: Sequence[str] = ()

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.job_id, self.what, self.state, *self.children)

    def decode(self, reply: Reply) -> tuple[int, list[str]] | str | None:
        if isinstance(reply, list):
            return reply[0], [key.decode() for key in reply[1:]]
        return None if reply is None else reply.decode()


class AreHeld(msgspec.Struct, frozen=True):
    """Whether a worker holds one of these jobs, and which of them wait for children."""

    jobs: Sequence[tuple[QueueKeys, str]]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [
            request
            for queue, job_id in self.jobs
            for request in (
                ("EXISTS", queue.lock(job_id)),
                ("EXISTS", queue.job(job_id) + fields.CHILDREN_PENDING),
            )
        ]

    def decode(self, reply: Reply) -> tuple[bool, list[tuple[QueueKeys, str]]]:
        waiting = [job for job, has in zip(self.jobs, reply[1::2], strict=True) if has]
        return any(reply[::2]), waiting


def remove_flow(queue: QueueKeys, job_id: str) -> Steps[bool]:
    """Remove a job and all below it; False when a worker holds one that is pending, and nothing is removed.

    What a worker takes while a large flow is being removed is left to it, and goes on without a parent.
    """
    removed: bool | None = yield RemoveFlow(queue, job_id)
    if removed is not None:
        return removed
    if (yield from _is_held(queue, job_id)):
        return False
    return (yield from _remove_large(queue, job_id, _ALL, {queue.job(job_id)}))


def remove_children(queue: QueueKeys, job_id: str) -> Steps[None]:
    """Remove the children a job still waits for, with theirs. Those held by workers and failed ones stay."""
    if not (yield RemoveChildren(queue, job_id)):
        yield from _remove_below(queue, job_id, _PENDING, {queue.job(job_id)})


def _is_held(queue: QueueKeys, job_id: str) -> Steps[bool]:
    level, seen = [(queue, job_id)], {queue.job(job_id)}
    while level:
        below: list[tuple[QueueKeys, str]] = []
        for at in range(0, len(level), AT_ONCE):
            held, parents = yield AreHeld(level[at : at + AT_ONCE])
            if held:
                return True
            for parent, parent_id in parents:
                cursor = None
                while cursor != 0:
                    page: ChildrenPage = yield ScanChildren(
                        parent, parent_id, UNPROCESSED, cursor or 0, AT_ONCE
                    )
                    cursor = page.cursor
                    fresh = [key for key in page.items if key not in seen]
                    seen.update(fresh)
                    below += [_job(key, parent) for key in fresh]
        level = below
    return False


def _remove_large(queue: QueueKeys, job_id: str, what: str, seen: set[str]) -> Steps[bool]:
    """Remove a job and what is below it; False when a worker has taken the job itself."""
    state: str | None = yield RemoveBelow(queue, job_id, _BEGIN)
    if state is None:
        return False
    yield from _remove_below(queue, job_id, what, seen)
    yield RemoveBelow(queue, job_id, _END, state)
    return True


def _remove_below(queue: QueueKeys, job_id: str, what: str, seen: set[str]) -> Steps[None]:
    for group in GROUPS if what == _ALL else (UNPROCESSED,):
        cursor = None
        while cursor != 0:
            page: ChildrenPage = yield ScanChildren(queue, job_id, group, cursor or 0, AT_ONCE)
            cursor = page.cursor
            left = [key for key in page.items if key not in seen]
            while left:
                done, parents = yield RemoveBelow(queue, job_id, what, children=left[:AT_ONCE])
                left = left[done:]
                for key in parents:
                    if key not in seen:  # else it is a circle
                        seen.add(key)
                        yield from _remove_large(*_job(key, queue), what, seen)


def _job(key: str, parent: QueueKeys) -> tuple[QueueKeys, str]:
    prefix, name, job_id = split_child_key(key, parent)
    return QueueKeys(name, prefix), job_id
