"""Events of somebody's own in the stream of a queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.keys import QueueKeys


class PublishEvent(msgspec.Struct, frozen=True):
    """Add an event. Decodes to its id.

    max_events   how many stay in the stream, about; None for as many as the queue keeps.
    """

    script: ClassVar[str] = "publishEvent"

    queue: QueueKeys
    name: str
    values: Mapping[str, str]
    max_events: int | None = None

    def keys(self) -> Sequence[str]:
        return (self.queue.meta, self.queue.events)

    def args(self) -> Sequence[Arg]:
        most = "" if self.max_events is None else self.max_events
        pairs = [part for pair in self.values.items() for part in pair]
        return (self.queue.base + ":", most, self.name, *pairs)

    def decode(self, reply: Reply) -> str:
        return str(reply.decode())
