"""Where a key lives in a Redis Cluster: its slot, by the part of it in braces.

Pure. BullMQ's scripts touch keys that they make themselves, of several queues at times, so all keys of one
program must share a slot: the prefix has to carry the braces.
"""

from __future__ import annotations

import binascii
from typing import Final

from supervisor.errors import ConfigError

SLOTS: Final = 16_384


def hash_tag(key: str) -> str | None:
    """What stands between the first `{` and the next `}`; None if there is no such part or nothing in it."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return tag if opened and closed and tag else None


def slot_of(key: str) -> int:
    """The slot of `key`, from 0 to 16,383."""
    return binascii.crc_hqx((hash_tag(key) or key).encode(), 0) % SLOTS


def check_tagged(prefix: str) -> None:
    """Raises `ConfigError` for a prefix that would strew the keys of a queue over a cluster."""
    if hash_tag(prefix) is None:
        braced = f"{{{prefix.replace('{', '').replace('}', '') or 'bull'}}}"
        raise ConfigError(
            f"in a Redis Cluster all keys of the queues must live on one node, and the prefix {prefix!r} has "
            f"no hash tag to keep them together; nothing was sent: use the prefix {braced!r} "
            f"(--prefix '{braced}', OXHERD_REDIS_PREFIX) for producers and workers alike"
        )
