"""Whole queues: what they tell of themselves, pause and resume, concurrency and rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps


class RegisterQueue(msgspec.Struct, frozen=True):
    """Say how many events to keep and who we are, where nobody else has said it.

    version   `oxherd:<number>`; replaces only an older one of ours.
    """

    script: ClassVar[str] = "registerQueue"

    queue: QueueKeys
    version: str
    max_events: int = fields.DEFAULT_MAX_EVENTS

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.max_events, self.version)

    def decode(self, reply: Reply) -> None:
        return None


class PauseQueue(msgspec.Struct, frozen=True):
    """Nothing more is fetched; jobs that are active go on."""

    script: ClassVar[str] = "pauseQueue"

    queue: QueueKeys

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":",)

    def decode(self, reply: Reply) -> None:
        return None


class ResumeQueue(msgspec.Struct, frozen=True):
    """One step of `resume_queue`. Decodes to how many jobs that BullMQ 5 put aside are still there."""

    script: ClassVar[str] = "resumeQueue"

    queue: QueueKeys
    first: bool = True

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", int(self.first))

    def decode(self, reply: Reply) -> int:
        return int(reply)


def resume_queue(queue: QueueKeys) -> Steps[None]:
    """Fetching goes on; what BullMQ 5 put aside while the queue was paused comes back."""
    left = yield ResumeQueue(queue)
    while left:
        left = yield ResumeQueue(queue, first=False)


class _SetLimits(msgspec.Struct, frozen=True):
    """What of `meta` is changed; None removes the field."""

    script: ClassVar[str] = "setLimits"

    queue: QueueKeys

    def changes(self) -> Mapping[str, int | None]:
        raise NotImplementedError

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        pairs = self.changes().items()
        return (
            self.queue.base + ":",
            *(part for name, value in pairs for part in (name, "" if value is None else value)),
        )

    def decode(self, reply: Reply) -> None:
        return None


class SetGlobalConcurrency(_SetLimits, frozen=True):
    """At most so many jobs of the queue are active, over all workers; None takes the bound away."""

    concurrency: int | None

    def changes(self) -> Mapping[str, int | None]:
        return {fields.META_CONCURRENCY: self.concurrency}


class SetGlobalRateLimit(_SetLimits, frozen=True):
    """At most `max` jobs of the queue start in `duration_ms`, over all workers."""

    max: int
    duration_ms: int

    def changes(self) -> Mapping[str, int | None]:
        return {fields.META_MAX: self.max, fields.META_DURATION: self.duration_ms}


class RemoveGlobalRateLimit(_SetLimits, frozen=True):
    """The queue has no rate of its own any more; workers keep theirs."""

    def changes(self) -> Mapping[str, int | None]:
        return {fields.META_MAX: None, fields.META_DURATION: None}


class RateLimitQueue(msgspec.Struct, frozen=True):
    """Hold the limiter for `hold_ms`; 0 lets it go. Binds workers and queues that have a rate limit."""

    script: ClassVar[str] = "rateLimitQueue"

    queue: QueueKeys
    hold_ms: int

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.hold_ms)

    def decode(self, reply: Reply) -> None:
        return None


class WakeWorker(msgspec.Struct, frozen=True):
    """Put back the base marker that was popped by one who will not fetch."""

    script: ClassVar[str] = "wakeWorker"

    queue: QueueKeys

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":",)

    def decode(self, reply: Reply) -> None:
        return None
