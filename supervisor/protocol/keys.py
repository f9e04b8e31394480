"""The names of a queue's keys (core.md section 1)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

DEFAULT_PREFIX = "bull"


@dataclass(frozen=True)
class QueueKeys:
    """Every key of one queue. `base` is `<prefix>:<queue>`, as BullMQ writes it in `parent.queueKey`."""

    name: str
    prefix: str = DEFAULT_PREFIX
    base: str = field(init=False)

    def __post_init__(self) -> None:
        # Checked here because every path to Redis makes one of these first; the texts are BullMQ's.
        from supervisor.protocol.validate import (  # at the top it would be a cycle
            check_prefix,
            check_queue_name,
        )

        check_queue_name(self.name)
        check_prefix(self.prefix)
        object.__setattr__(self, "base", f"{self.prefix}:{self.name}")
        for part in PARTS:
            object.__setattr__(self, part.replace("-", "_"), f"{self.base}:{part}")

    id: str = field(init=False, repr=False, compare=False)
    wait: str = field(init=False, repr=False, compare=False)
    paused: str = field(init=False, repr=False, compare=False)
    active: str = field(init=False, repr=False, compare=False)
    delayed: str = field(init=False, repr=False, compare=False)
    prioritized: str = field(init=False, repr=False, compare=False)
    pc: str = field(init=False, repr=False, compare=False)
    waiting_children: str = field(init=False, repr=False, compare=False)
    completed: str = field(init=False, repr=False, compare=False)
    failed: str = field(init=False, repr=False, compare=False)
    stalled: str = field(init=False, repr=False, compare=False)
    stalled_check: str = field(init=False, repr=False, compare=False)
    limiter: str = field(init=False, repr=False, compare=False)
    marker: str = field(init=False, repr=False, compare=False)
    meta: str = field(init=False, repr=False, compare=False)
    events: str = field(init=False, repr=False, compare=False)
    repeat: str = field(init=False, repr=False, compare=False)

    def job(self, job_id: str) -> str:
        return f"{self.base}:{job_id}"

    def lock(self, job_id: str) -> str:
        return f"{self.base}:{job_id}:lock"

    def logs(self, job_id: str) -> str:
        return f"{self.base}:{job_id}:logs"

    def deduplication(self, deduplication_id: str) -> str:
        """The key that holds the id of the job which stands for this deduplication id."""
        return f"{self.base}:de:{deduplication_id}"

    def metrics(self, outcome: str) -> str:
        """`outcome` is `completed` or `failed`."""
        return f"{self.base}:metrics:{outcome}"

    @property
    def cancel(self) -> str:
        """The hash of requests to cancel, and the channel on which each is told: one name for both."""
        return f"{self.base}:ox:cancel"

    def client_name(self, suffix: str) -> str:
        """The `CLIENT SETNAME` by which BullMQ's getters find workers (`:w:<name>`) and listeners (`:qe`)."""
        return f"{self.prefix}:{base64.b64encode(self.name.encode()).decode()}{suffix}"

    @property
    def listener_name(self) -> str:
        """The name of a connection that follows the event stream."""
        return self.client_name(":qe")


# What the queue's own keys end in; no job may have such an id.
PARTS = (
    "id",
    "wait",
    "paused",
    "active",
    "delayed",
    "prioritized",
    "pc",
    "waiting-children",
    "completed",
    "failed",
    "stalled",
    "stalled-check",
    "limiter",
    "marker",
    "meta",
    "events",
    "repeat",
)
