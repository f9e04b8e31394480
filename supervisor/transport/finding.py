"""Which server is meant now, where Sentinels or a cluster decide that: whom to ask, and what is answered.

Pure: a generator yields (whom to ask, the requests) and is sent the replies, or the `RedisUnavailable` that
came instead of them; so the asyncio and the blocking client find the same. It connects nowhere.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple, TypeAlias

import hiredis

from supervisor.errors import RedisUnavailable
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.transport.address import Address, Place
from supervisor.transport.answers import (
    ASK,
    CLUSTER_DOWN,
    MOVED,
    cannot_reach,
    moved_to,
    why_login_refused,
    why_not,
    word_of,
)

Question: TypeAlias = tuple[Address, Sequence[Sequence[Arg]]]
_HOPS: Final = 32


class LoginRefused(RedisUnavailable):
    """Trying again will not help: the server was reached and does not want us."""


class FailingOver(RedisUnavailable):
    """Those who know where Redis is have answered, and who they name is not there: soon another may be."""


class Found(NamedTuple):
    """A server, and the nodes of its cluster that were heard of on the way."""

    node: Address
    heard: tuple[Place, ...] = ()


Finding: TypeAlias = Generator[Question, "list[Reply] | RedisUnavailable", Found]


def find(address: Address, heard: Sequence[Place] = ()) -> Finding:
    """The master that the Sentinels name, or the node that holds our slot; else the address itself.

    heard   nodes that were heard of before; asked first.

    Raises `RedisUnavailable` with a sentence, `LoginRefused` when asking again is of no use.
    """
    if address.master is not None:
        return (yield from _find_master(address))
    if address.cluster:
        return (yield from _find_owner(address, heard))
    return Found(address)


def _find_master(address: Address) -> Finding:
    troubles: list[str] = []
    others: set[str] = set()
    answered = False
    for place in address.seeds:
        asked = address.sentinel(place)
        replies = yield (
            asked,
            [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master or ""), ("SENTINEL", "MASTERS")],
        )
        if isinstance(replies, RedisUnavailable):
            troubles.append(why_not(replies))
            continue
        found, masters = replies
        if isinstance(found, list) and len(found) == 2:
            return Found(address.at((found[0].decode(), int(found[1]))))
        if found is None:
            answered = True
            others |= _names(masters)
        else:
            troubles.append(_no_sentinel(asked, str(found)))
    if answered:
        known = f"; they know {', '.join(sorted(others))}" if others else ""
        why = f"its Sentinels know no master called {address.master!r}{known}"
        raise LoginRefused(cannot_reach(address, why), sent=False)
    raise RedisUnavailable(cannot_reach(address, f"no Sentinel tells the master ({troubles[0]})"), sent=False)


def _no_sentinel(asked: Address, text: str) -> str:
    if text.startswith("ERR unknown command"):
        return f"{asked} is no Sentinel; to name a Redis itself, write {asked.display}"
    if word_of(text) in ("NOAUTH", "WRONGPASS"):
        return f"{asked}: {why_login_refused(text)}; Sentinels have sentinel_password of their own"
    if word_of(text) == "NOPERM":
        return f"{asked}: {text}; docs/how-to/redis.md names the rights that a user of Sentinels needs"
    return f"{asked}: {text}"


def _names(masters: Reply) -> set[str]:
    """The masters that a Sentinel knows; each is a flat list of fields and values."""
    if not isinstance(masters, list):
        return set()
    return {each[each.index(b"name") + 1].decode() for each in masters if b"name" in each}


def _find_owner(address: Address, heard: Sequence[Place]) -> Finding:
    if address.guard is None:
        raise AssertionError("an address of a cluster needs for_prefix() before anybody connects")
    known = list(dict.fromkeys((*heard, *address.seeds)))
    todo = list(known)
    away: dict[Place, str] = {}  # is not asked twice: one that is silent takes its whole time again
    troubles: list[str] = []
    for _ in range(_HOPS):
        if not todo:
            break
        place = todo.pop(0)
        if place in away:
            continue
        replies = yield address.at(place), [("EXISTS", address.guard), ("CLUSTER", "SLOTS")]
        if isinstance(replies, LoginRefused):
            raise replies
        if isinstance(replies, RedisUnavailable):
            away[place] = why_not(replies)
            troubles.append(away[place])
            continue
        here, slots = replies
        nodes = _nodes(slots, place)
        todo += [each for each in nodes if each not in known]
        known += [each for each in nodes if each not in known]
        # A node that gives the slot away says ASK of what it has not, and still is the one to begin with.
        if not isinstance(here, hiredis.ReplyError) or word_of(str(here)) == ASK:
            _check_cluster(address, place, slots)
            return Found(address.at(place), (place, *(each for each in known if each != place)))
        text = str(here)
        if word_of(text) == MOVED:
            _, to = moved_to(text, place)
            todo.insert(0, to)
            if to in away:
                troubles.append(
                    f"the node of the prefix {address.prefix!r} is away, and no replica has taken over yet "
                    f"({away[to]})"
                )
            else:
                troubles.append("its nodes do not agree yet on who has the slot")
        elif word_of(text) == CLUSTER_DOWN:
            troubles.append(text)
        else:
            raise LoginRefused(cannot_reach(address, why_login_refused(text)), sent=False)
    told = [each for each in troubles if each not in away.values()]  # by nodes that answered, who know more
    if told:
        raise FailingOver(cannot_reach(address, told[-1]), sent=False)
    raise RedisUnavailable(cannot_reach(address, troubles[-1]), sent=False)


def _check_cluster(address: Address, place: Place, slots: Reply) -> None:
    if isinstance(slots, hiredis.ReplyError) and "cluster support disabled" in str(slots):
        plain = address.at(place)
        raise LoginRefused(cannot_reach(address, f"{plain} is no cluster; name it as {plain}"), sent=False)


def _nodes(slots: Reply, asked: Place) -> list[Place]:
    """The nodes in a reply to CLUSTER SLOTS; one without a host is the one that was asked."""
    if not isinstance(slots, list):
        return []
    nodes = [node for each in slots for node in each[2:]]
    return list(dict.fromkeys(((node[0] or b"").decode() or asked[0], int(node[1])) for node in nodes))
