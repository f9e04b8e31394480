"""The names of a queue's keys (core.md section 1)."""

from __future__ import annotations

import base64

DEFAULT_PREFIX = "bull"


class QueueKeys:
    """Every key of one queue. `base` is `<prefix>:<queue>`, as BullMQ writes it in `parent.queueKey`.

    A value: equal to another of the same name and prefix, and never changed. A plain class, because most of
    its attributes follow from two of them.
    """

    name: str
    prefix: str
    base: str
    id: str
    wait: str
    paused: str
    active: str
    delayed: str
    prioritized: str
    pc: str
    waiting_children: str
    completed: str
    failed: str
    stalled: str
    stalled_check: str
    limiter: str
    marker: str
    meta: str
    events: str
    repeat: str

    def __init__(self, name: str, prefix: str = DEFAULT_PREFIX) -> None:
        # Checked here because every path to Redis makes one of these first; the texts are BullMQ's.
        from supervisor.protocol.validate import (  # at the top it would be a cycle
            check_prefix,
            check_queue_name,
        )

        check_queue_name(name)
        check_prefix(prefix)
        base = f"{prefix}:{name}"
        keys = {part.replace("-", "_"): f"{base}:{part}" for part in PARTS}
        vars(self).update(keys, name=name, prefix=prefix, base=base)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"the keys of a queue cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueKeys) and (self.name, self.prefix) == (other.name, other.prefix)

    def __hash__(self) -> int:
        return hash((self.name, self.prefix))

    def __repr__(self) -> str:
        return f"QueueKeys(name={self.name!r}, prefix={self.prefix!r})"

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
