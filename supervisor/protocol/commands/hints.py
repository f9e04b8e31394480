"""Small requests a master makes beside its work; losing one costs nothing but time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.fields import ATTEMPTS_STARTED
from supervisor.protocol.keys import QueueKeys


@dataclass(frozen=True, slots=True)
class WakeWorker:
    """Write the base marker: one idle worker of the queue, of any language, looks whether there is work."""

    queue: QueueKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("ZADD", self.queue.marker, 0, "0"),)

    def decode(self, reply: Reply) -> None:
        return None


@dataclass(frozen=True, slots=True)
class AnyStarted:
    """Has any of these jobs been started before? A delayed one that has is a retry."""

    queue: QueueKeys
    job_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("HGET", self.queue.job(job_id), ATTEMPTS_STARTED) for job_id in self.job_ids]

    def decode(self, reply: Reply) -> bool:
        return any(started is not None and int(started) > 0 for started in reply)
