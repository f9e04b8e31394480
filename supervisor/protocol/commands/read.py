"""Reading: one job, its state and log, counts and ids of a queue.

Pipelines, because what only reads may be a moment old; but for a job's state, which is asked in one script so
that a job on its way from one list to the next is not told to be nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.job_record import JobRecord, record_of
from supervisor.protocol.keys import QueueKeys

# In the order in which they are asked, and for each state its keys as attributes of `QueueKeys`.
_STATE_KEYS: Final = (
    ("completed", fields.COMPLETED),
    ("failed", fields.FAILED),
    ("delayed", fields.DELAYED),
    ("prioritized", fields.PRIORITIZED),
    ("active", fields.ACTIVE),
    ("wait", fields.WAITING),
    ("paused", fields.WAITING),
    ("waiting_children", fields.WAITING_CHILDREN),
)
_LISTS: Final = frozenset({"active", "wait", "paused"})


def _key(queue: QueueKeys, attribute: str) -> str:
    key: str = getattr(queue, attribute)
    return key


class GetJob(msgspec.Struct, frozen=True):
    """Everything a job's hash says; None when there is none."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGETALL", self.queue.job(self.job_id)),)

    def decode(self, reply: Reply) -> JobRecord | None:
        return record_of(self.job_id, reply[0])


class GetJobs(msgspec.Struct, frozen=True):
    """Many jobs in one pipeline, in the order asked; None where there is none."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("HGETALL", self.queue.job(job_id)) for job_id in self.job_ids]

    def decode(self, reply: Reply) -> list[JobRecord | None]:
        return [record_of(job_id, flat) for job_id, flat in zip(self.job_ids, reply, strict=True)]


class GetState(msgspec.Struct, frozen=True):
    """The state of a job, in BullMQ's words; `unknown` when it is nowhere."""

    script: ClassVar[str] = "getState"

    queue: QueueKeys
    job_id: str

    def keys(self) -> Sequence[str]:
        return [_key(self.queue, attribute) for attribute, _ in _STATE_KEYS]

    def args(self) -> Sequence[Arg]:
        return (self.job_id,)

    def decode(self, reply: Reply) -> str:
        return _STATE_KEYS[reply - 1][1] if reply > 0 else fields.UNKNOWN


class GetCounts(msgspec.Struct, frozen=True):
    """How many jobs are in each state. What BullMQ 5 put aside while paused counts as waiting."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [
            ("LLEN" if attribute in _LISTS else "ZCARD", _key(self.queue, attribute))
            for attribute, _ in _STATE_KEYS
        ]

    def decode(self, reply: Reply) -> dict[str, int]:
        counts = dict.fromkeys(fields.STATES, 0)
        for (_, state), count in zip(_STATE_KEYS, reply, strict=True):
            counts[state] += count
        return counts


class GetJobIds(msgspec.Struct, frozen=True):
    """The ids from `start` to `end` (both counted, -1 is the last) in one state.

    Waiting jobs may stand in two lists while BullMQ 5 pauses the queue: the range then counts in each.
    Newest first is by when they came to this state; for delayed and prioritized jobs it is the last to run.
    """

    queue: QueueKeys
    state: str
    start: int = 0
    end: int = -1
    newest_first: bool = False

    def _attributes(self) -> list[str]:
        names = [attribute for attribute, state in _STATE_KEYS if state == self.state]
        if not names:
            raise ValueError(f"there is no state {self.state!r}")
        # What was put aside stands nearer to being run, so it is older.
        return names if self.newest_first else names[::-1]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [self._request(attribute) for attribute in self._attributes()]

    def _request(self, attribute: str) -> Sequence[Arg]:
        key = _key(self.queue, attribute)
        if attribute not in _LISTS:
            return ("ZREVRANGE" if self.newest_first else "ZRANGE", key, self.start, self.end)
        if self.newest_first:
            return ("LRANGE", key, self.start, self.end)
        return ("LRANGE", key, -(self.end + 1), -(self.start + 1))

    def decode(self, reply: Reply) -> list[str]:
        found: dict[str, None] = {}
        for attribute, ids in zip(self._attributes(), reply, strict=True):
            ordered = ids if self.newest_first or attribute not in _LISTS else reversed(ids)
            # Ids that begin so are markers of BullMQ 4.
            found |= dict.fromkeys(
                job_id.decode("utf-8", "replace") for job_id in ordered if not job_id.startswith(b"0:")
            )
        return list(found)


class GetLogs(msgspec.Struct, frozen=True):
    """The rows of a job's log from `start` to `end`, oldest first."""

    queue: QueueKeys
    job_id: str
    start: int = 0
    end: int = -1

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("LRANGE", self.queue.logs(self.job_id), self.start, self.end),)

    def decode(self, reply: Reply) -> list[str]:
        return [row.decode("utf-8", "replace") for row in reply[0]]


class IsPaused(msgspec.Struct, frozen=True):
    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HEXISTS", self.queue.meta, fields.META_PAUSED),)

    def decode(self, reply: Reply) -> bool:
        return bool(reply[0])


class QueueLimits(msgspec.Struct, frozen=True):
    """Global bounds; None where the queue has none. A rate needs both its numbers."""

    concurrency: int | None
    rate_max: int | None
    rate_duration_ms: int | None


class GetLimits(msgspec.Struct, frozen=True):
    """The queue's own concurrency and rate."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        names = (fields.META_CONCURRENCY, fields.META_MAX, fields.META_DURATION)
        return (("HMGET", self.queue.meta, *names),)

    def decode(self, reply: Reply) -> QueueLimits:
        concurrency, rate_max, duration = (_number(raw) for raw in reply[0])
        if rate_max is None or duration is None:
            return QueueLimits(concurrency, None, None)
        return QueueLimits(concurrency, rate_max, duration)


class GetMeta(msgspec.Struct, frozen=True):
    """All that a queue's `meta` says, as text."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGETALL", self.queue.meta),)

    def decode(self, reply: Reply) -> Mapping[str, str]:
        texts = [part.decode("utf-8", "replace") for part in reply[0]]
        return dict(zip(texts[::2], texts[1::2], strict=True))


def _number(raw: bytes | None) -> int | None:
    try:
        return None if raw is None else int(raw)
    except ValueError:
        return None


class GetChildrenValues(msgspec.Struct, frozen=True):
    """What a job's completed children returned: child key to result. Decodes to the text of a JSON object."""

    queue: QueueKeys
    job_id: str

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGETALL", f"{self.queue.job(self.job_id)}:processed"),)

    def decode(self, reply: Reply) -> bytes:
        flat = reply[0]
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return msgspec.json.encode(
            {key.decode("utf-8", "replace"): msgspec.Raw(value) for key, value in pairs}
        )
