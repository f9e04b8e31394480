"""Adding jobs: one or many of one queue in one call, each standing alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, TypeAlias

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.fields import DEFAULT_MAX_EVENTS
from supervisor.protocol.keys import QueueKeys

# A bulk add is cut into calls of so many jobs, so that other clients of the server get their turn between.
JOBS_PER_CALL: Final = 100


class ParentRef(msgspec.Struct, frozen=True):
    """The parent of a new job: `key` is its full key, `text` what the job's `parent` field will hold."""

    key: str
    text: bytes


class NewJob(msgspec.Struct, frozen=True):
    """A job that has been validated and encoded. `opts` is the text to be stored, with BullMQ's names.

    job_id   None lets the queue count one up; `delay_ms` goes before `priority`, and that before `lifo`.
    claim    JSON text of the deduplication, as in `opts`.
    """

    name: str
    data: bytes
    opts: bytes
    timestamp: int
    delay_ms: int = 0
    priority: int = 0
    lifo: bool = False
    job_id: str | None = None
    parent: ParentRef | None = None
    claim: bytes | None = None

    def parts(self) -> tuple[Arg, ...]:
        parent = self.parent
        return (
            self.name.encode("utf-8", "replace"),
            self.data,
            self.opts,
            self.timestamp,
            self.delay_ms,
            self.priority,
            int(self.lifo),
            self.job_id or "",
            parent.key if parent else "",
            parent.text if parent else "",
            self.claim or "",
        )


class NotAdded(msgspec.Struct, frozen=True):
    """Nothing of this job was stored. `code` is BullMQ's, or one of ours with more about it in `text`."""

    code: int
    text: str = ""


AddResult: TypeAlias = str | NotAdded


class Room(msgspec.Struct, frozen=True):
    """Add only where no more than `max_waiting` jobs wait then; else each is `NotAdded` with `Code.FULL`.

    needed   how many jobs are to be added in all; 0 in the calls of a bulk that follow its first, to which
             their room was promised for a minute.
    token    what tells this bulk from those of others.
    """

    max_waiting: int
    needed: int
    token: str = ""


class AddJobs(msgspec.Struct, frozen=True):
    """Add jobs. Decodes to one result a job: its id, also when it was there before, or `NotAdded`."""

    script: ClassVar[str] = "addJobs"

    queue: QueueKeys
    jobs: Sequence[NewJob]
    max_events: int = DEFAULT_MAX_EVENTS
    room: Room | None = None

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        args: list[Arg] = [self.queue.base + ":", self.max_events]
        args += [self.room.max_waiting, self.room.needed, self.room.token] if self.room else ["", "", ""]
        for job in self.jobs:
            args += job.parts()
        return args

    def decode(self, reply: Reply) -> list[AddResult]:
        return [_result(entry) for entry in reply]

    def repetition(self) -> AddJobs:
        """The same call: a job that has an id is not added twice. Without ids there is no repetition."""
        if not all(job.job_id for job in self.jobs):
            raise ValueError("an add is repeatable only when every job has an id of its own")
        return self


def _result(entry: bytes | int | list[bytes | int]) -> AddResult:
    if isinstance(entry, bytes):
        return entry.decode()
    if isinstance(entry, int):
        return NotAdded(entry)
    code, text = entry
    assert isinstance(code, int) and isinstance(text, bytes)
    return NotAdded(code, text.decode("utf-8", "replace"))
