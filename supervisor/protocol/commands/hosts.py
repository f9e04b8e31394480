"""The masters that live, as Redis knows them: one key each that expires, and a list of who was there.

A key that has expired tells nothing, not even that it was there; so each beat also writes its id into a
sorted set, by the time of the beat. Who stands in the set without a key has vanished. The set is bounded in
age and in number, whoever forgets to leave, and each of these keys stands in one hash slot with the queues of
its prefix.

Rule     the keys and the members of a record are told in docs/explain/wire.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.jsontext import decode

REMEMBERED_MS: Final = 86_400_000  # so long a host that has vanished is told of
MOST_HOSTS: Final = 1_000
_TAG: Final = re.compile(r"[^{]*(\{[^}]+\})")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")


class HostKeys(msgspec.Struct, frozen=True):
    """Where the hosts of a prefix are: a hash tag of the prefix, as a cluster needs one, is in these too."""

    prefix: str

    @property
    def tag(self) -> str:
        found = _TAG.match(self.prefix)
        return found[1] if found else ""

    @property
    def hosts(self) -> str:
        return f"oxherd:hosts{self.tag}"

    def host(self, host_id: str) -> str:
        return f"oxherd:host:{self.tag}{host_id}"


class HostId(msgspec.Struct, frozen=True):
    """Who beats: `host` and `pid` are for people, `work` is the same for all that serve the same queues."""

    host: str
    pid: int
    work: str
    run: str

    def __str__(self) -> str:
        return f"{_UNFIT.sub('_', self.host)[:100]}:{self.pid}:{self.work}:{self.run}"

    @classmethod
    def parse(cls, text: str) -> HostId | None:
        parts = text.split(":")
        if len(parts) != 4 or not parts[1].isdecimal():
            return None
        return cls(parts[0], int(parts[1][:10]), parts[2], parts[3])

    def replaces(self, other: HostId) -> bool:
        """Does `other`, who has vanished, need no telling of, because this one does its work?"""
        mine = (_UNFIT.sub("_", self.host)[:100], self.work)
        return mine == (other.host, other.work) and self.run != other.run


class Beat(msgspec.Struct, frozen=True):
    """Say that a master lives, for `ttl_ms`. To be repeated at will."""

    keys: HostKeys
    host_id: str
    record: bytes
    now_ms: int
    ttl_ms: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        hosts = self.keys.hosts
        return (
            ("SET", self.keys.host(self.host_id), self.record, "PX", self.ttl_ms),
            ("ZADD", hosts, self.now_ms, self.host_id),
            ("ZREMRANGEBYSCORE", hosts, "-inf", self.now_ms - REMEMBERED_MS),
            ("ZREMRANGEBYRANK", hosts, 0, -MOST_HOSTS - 1),
            ("PEXPIRE", hosts, REMEMBERED_MS),
        )

    def decode(self, reply: Reply) -> None:
        return None


class Leave(msgspec.Struct, frozen=True):
    """Forget these masters: they have stopped, or somebody stands in for them."""

    keys: HostKeys
    host_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (
            ("DEL", *(self.keys.host(each) for each in self.host_ids)),
            ("ZREM", self.keys.hosts, *self.host_ids),
        )

    def decode(self, reply: Reply) -> None:
        return None


class SeenHosts(msgspec.Struct, frozen=True):
    """Who was there: id -> epoch milliseconds of its last beat, the newest first."""

    keys: HostKeys

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("ZREVRANGE", self.keys.hosts, 0, MOST_HOSTS - 1, "WITHSCORES"),)

    def decode(self, reply: Reply) -> dict[str, int]:
        (flat,) = reply
        return {
            flat[at].decode("utf-8", "replace"): round(float(flat[at + 1])) for at in range(0, len(flat), 2)
        }


class ReadHosts(msgspec.Struct, frozen=True):
    """What these masters say of themselves; None for one whose key is gone: it has vanished.

    Anybody may write such a key: what is no object of JSON is an empty one.
    """

    keys: HostKeys
    host_ids: Sequence[str]

    def requests(self) -> Sequence[Sequence[Arg]]:
        return [("MGET", *(self.keys.host(each) for each in self.host_ids))]  # of what is no text: None

    def decode(self, reply: Reply) -> list[Mapping[str, Any] | None]:
        return [None if raw is None else _record(raw) for raw in reply[0]]


def _record(raw: bytes) -> Mapping[str, Any]:
    try:
        told = decode(raw)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
