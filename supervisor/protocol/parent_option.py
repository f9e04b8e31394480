"""The option `parent`: which job waits for a new one, and what the new one's failure does to it (core.md 9).

Decides how a parent may be named and how it is stored. Whether it exists, and whether it may still get
children, the scripts see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor.errors import InvalidJob, UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.add import ParentRef
from supervisor.protocol.given import check_job_ref, check_text
from supervisor.protocol.jsontext import encode
from supervisor.protocol.validate import PARENT_POLICIES, check_parent_policies, check_queue_name


class ParentLink(msgspec.Struct, frozen=True):
    """A parent by its id and `<prefix>:<queue>`."""

    job_id: str
    queue_key: str

    @property
    def key(self) -> str:
        return f"{self.queue_key}:{self.job_id}"

    def option(self) -> dict[str, str]:
        """As it stands among the child's stored options."""
        return {fields.PARENT_ID: self.job_id, fields.PARENT_QUEUE: self.queue_key}

    def ref(self, options: Mapping[str, Any]) -> ParentRef:
        """As the child's own fields tell it, with the policy that `options` choose."""
        told: dict[str, Any] = {fields.PARENT_ID: self.job_id, fields.PARENT_QUEUE_KEY: self.queue_key}
        for name in PARENT_POLICIES:
            if options.get(name):
                told[fields.OPTION_NAMES[name]] = True
        return ParentRef(self.key, encode(told))


def parent_link(value: Any, prefix: str) -> ParentLink:
    """What the option `parent` was given: a job, or a mapping of `id` and `queue`.

    A queue named alone has the child's own `prefix`; as `<prefix>:<queue>` it has another. Raises
    `InvalidJob`.
    """
    if isinstance(value, ParentLink):
        return value
    if isinstance(value, Mapping):
        job_id = value.get(fields.PARENT_ID)
        queue = value.get(fields.PARENT_QUEUE, value.get(fields.PARENT_QUEUE_KEY))
    else:
        job_id, queue = getattr(value, "id", None), getattr(value, "queue", None)
    if not isinstance(job_id, str) or not isinstance(queue, str) or not job_id:
        raise InvalidJob("parent is a job, or a mapping with the texts id and queue")
    check_text(f"{queue}{job_id}", "parent")
    try:
        check_job_ref(job_id)
    except UsageError as error:
        raise InvalidJob(f"parent: {error}") from None
    own_prefix, _, name = queue.rpartition(":")
    check_queue_name(name)
    return ParentLink(job_id, queue if own_prefix else f"{prefix}:{name}")


def take_parent(options: dict[str, Any], prefix: str) -> ParentRef | None:
    """Replace the option `parent` by its link; what the new job's fields will say of it, or None."""
    check_parent_policies(options)
    if options.get("parent") is None:
        options.pop("parent", None)
        return None
    if options.get("deduplication") is not None:
        raise InvalidJob("Deduplication and parent options cannot be used together")
    link = options["parent"] = parent_link(options["parent"], prefix)
    return link.ref(options)


def stored_parent(name: str, value: Any) -> dict[str, str]:
    """The check of a job's options for `parent`, once it is a link."""
    if not isinstance(value, ParentLink):
        raise InvalidJob(f"{name} cannot be a default: each job says its own")
    return value.option()
