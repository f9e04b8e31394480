"""The option `deduplication` of a new job, checked, and as it is stored (management.md section 2).

What the modes do to the jobs of a queue is told here for the caller, and done by lua/lib/claim.lua.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from supervisor.errors import InvalidJob
from supervisor.protocol import fields


class Deduplication(msgspec.Struct, frozen=True):
    """A job that is added while another of the same `id` stands is not added: the other one's id comes back.

    id                    what makes two jobs the same; any text.
    ttl_ms                the id stands so long, also after its job has ended; without it, until that end.
    extend                each job that is not added starts `ttl_ms` anew.
    replace               a job that is still delayed makes room for the new one.
    keep_last_if_active   while the job runs the latest of the others is kept, and added when it ends.
    reschedule            a job that is still delayed becomes due when the new one would; its data stays.
    """

    id: str
    ttl_ms: int | None = None
    extend: bool = False
    replace: bool = False
    keep_last_if_active: bool = False
    reschedule: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise InvalidJob(f"the deduplication id is text, not {type(self.id).__name__}")
        if not self.id:
            raise InvalidJob("Deduplication id must be provided")
        try:
            self.id.encode()
        except UnicodeEncodeError:
            raise InvalidJob("the deduplication id holds half of a surrogate pair") from None
        ttl = self.ttl_ms
        if ttl is not None and (isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl < 2**53):
            raise InvalidJob("the ttl_ms of a deduplication is a whole number of milliseconds, 0 or more")
        for name in ("extend", "replace", "keep_last_if_active", "reschedule"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidJob(f"the {name} of a deduplication is True or False")
        if self.extend and not self.ttl_ms:
            raise InvalidJob("a deduplication that is to extend needs a ttl_ms")
        if self.reschedule and self.replace:
            raise InvalidJob("a deduplication replaces the delayed job or reschedules it, not both")

    def stored(self) -> dict[str, Any]:
        """The parts that say something, under their stored names."""
        given = ((wire, getattr(self, name)) for name, wire in fields.DEDUPLICATION_PARTS.items())
        return {wire: value for wire, value in given if value is not None and value is not False}


def deduplication_of(value: Any) -> Deduplication:
    """What the option was given: the value itself, or a mapping of its parts."""
    if isinstance(value, Deduplication):
        return value
    if not isinstance(value, Mapping) or not set(value) <= set(fields.DEDUPLICATION_PARTS):
        parts = ", ".join(fields.DEDUPLICATION_PARTS)
        raise InvalidJob(f"deduplication is Deduplication({parts}), or a mapping of these")
    if "id" not in value:
        raise InvalidJob("Deduplication id must be provided")
    return Deduplication(**value)
