"""What is looked at in a Redis before jobs are trusted to it: its version, and what it does when it is full.

A server that is too old is refused: a script might break off in the middle. One that may throw keys away is a
warning, as BullMQ has it: many a hosted Redis cannot be told otherwise.

Tells    `redis.unsafe` in the log, at the start and after each reconnect: a new master may be set otherwise
"""

from __future__ import annotations

from typing import Final

from supervisor.errors import ConfigError
from supervisor.observe.log import get
from supervisor.transport.aio import Redis
from supervisor.transport.opening import Server

log = get("redis")

OLDEST: Final = (6, 2)
_KEEPS: Final = "noeviction"


def look_at(redis: Redis, address: str) -> None:
    """At the start. Raises `ConfigError` for a server that is known to be too old."""
    check_version(redis.server, address)
    tell_doubts(redis, address)


def check_version(server: Server, address: str) -> None:
    if (0,) < server.version < OLDEST:
        raise ConfigError(
            f"{server.display} at {address} is too old: Oxherd needs Redis 6.2 or any Valkey. "
            "No job was taken; jobs that wait there can be taken over by a newer server"
        )


def doubts(server: Server) -> list[str]:
    """One sentence for each thing about it that may cost jobs."""
    if server.version == (0,):
        return ["it tells neither its version nor its maxmemory-policy (this user has no right to INFO)"]
    policy = server.maxmemory_policy
    if policy and policy != _KEEPS:
        return [
            f"its maxmemory-policy is {policy}, so when it is full it throws jobs away without a word; "
            f"set it to {_KEEPS} (CONFIG SET maxmemory-policy {_KEEPS})"
        ]
    return []


def tell_doubts(redis: Redis | None, address: str) -> None:
    """Of the server that answered last; None before the first has."""
    if redis is None:
        return
    for why in doubts(redis.server):
        log.warning("redis.unsafe", address=address, server=redis.server.display, why=why)
