"""All that a database holds, to be compared and put back: for tests that prove that nothing was touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import redis

# The dump of a table of fields or members is in an order that is another when it was put back.
_UNORDERED = {b"hash": "hgetall", b"set": "smembers"}


@dataclass(frozen=True)
class Stored:
    """One key. `content` of a stream has its last id in it; `ends_on` is -1 for never."""

    content: Any
    ends_on: int
    dump: bytes = field(compare=False, repr=False)


Keyspace: TypeAlias = dict[bytes, Stored]


def keyspace(raw: redis.Redis) -> Keyspace:
    keys = sorted(raw.keys())
    pipe = raw.pipeline(transaction=False)
    for key in keys:
        pipe.type(key)
    kinds = pipe.execute()
    for key, kind in zip(keys, kinds, strict=True):
        pipe.dump(key)
        pipe.pexpiretime(key)
        getattr(pipe, _UNORDERED.get(kind, "dump"))(key)
    found = pipe.execute()
    return {key: Stored(found[3 * at + 2], found[3 * at + 1], found[3 * at]) for at, key in enumerate(keys)}


def put_back(raw: redis.Redis, stored: Keyspace) -> None:
    pipe = raw.pipeline(transaction=False)
    pipe.flushdb()
    for key, value in stored.items():
        pipe.restore(key, max(value.ends_on, 0), value.dump, absttl=value.ends_on > 0)
    pipe.execute()


def difference(before: Keyspace, after: Keyspace) -> str | None:
    """Which keys are not as they were; None when all are."""
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return ", ".join(repr(key[:80]) for key in changed) if changed else None
