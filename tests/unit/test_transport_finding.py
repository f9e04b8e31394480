"""Which node of a cluster has our slot, by what its nodes say; no server is needed for it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from supervisor.errors import RedisUnavailable
from supervisor.transport.address import Address, Place
from supervisor.transport.finding import FailingOver, Found, LoginRefused, find

A, B, C = (("a", 1), ("b", 2), ("c", 3))
ADDRESS = Address.parse("redis+cluster://a:1,b:2,c:3").for_prefix("{bull}")
SLOTS = [[0, 16383, [b"c", 3, b"id"]]]
AWAY = RedisUnavailable("cannot reach Redis at redis://x: silent. Nothing was sent.", sent=False)


def played(says: dict[Place, Any]) -> tuple[Found | RedisUnavailable, list[Place]]:
    """What is found, and who was asked for it. A node says something of the key, or is away."""
    finding, asked = find(ADDRESS), []
    reply: Any = None
    while True:
        try:
            node, _ = finding.send(reply)
        except StopIteration as end:
            return end.value, asked
        except RedisUnavailable as error:
            return error, asked
        asked.append((node.host, node.port))
        said = says[asked[-1]]
        if isinstance(said, str):
            said = hiredis.ReplyError(said)
        reply = said if isinstance(said, RedisUnavailable) else [said, SLOTS]


def place(found: Found | RedisUnavailable) -> Place:
    assert isinstance(found, Found), found
    return found.node.host, found.node.port


def test_the_node_that_is_named_is_asked_next() -> None:
    found, asked = played({A: "MOVED 9 c:3", C: 0})
    assert (place(found), asked) == (C, [A, C])


def test_a_node_that_is_away_is_asked_once_whoever_names_it() -> None:
    """Each try at one that is silent takes a third of the time there is."""
    found, asked = played({A: AWAY, B: "MOVED 9 a:1", C: "MOVED 9 a:1"})
    assert asked == [A, B, C]
    assert isinstance(found, FailingOver)
    assert "the node of the prefix '{bull}' is away, and no replica has taken over yet" in str(found)


def test_a_node_that_sees_too_few_others_is_not_believed_while_another_knows_more() -> None:
    found, asked = played({A: "CLUSTERDOWN The cluster is down", B: "MOVED 9 c:3", C: 0})
    assert (place(found), asked) == (C, [A, B, C])
    found, asked = played(dict.fromkeys((A, B, C), "CLUSTERDOWN The cluster is down"))
    assert isinstance(found, FailingOver) and asked == [A, B, C]


def test_a_node_that_gives_the_slot_away_still_is_the_one_to_begin_with() -> None:
    found, asked = played({A: "MOVED 9 b:2", B: "ASK 9 c:3"})
    assert (place(found), asked) == (B, [A, B])


@pytest.mark.parametrize(
    ("says", "kind"),
    [
        (dict.fromkeys((A, B, C), AWAY), RedisUnavailable),
        ({A: "NOPERM no right to 'exists'"}, LoginRefused),
        ({A: LoginRefused("no", sent=False)}, LoginRefused),
    ],
)
def test_what_no_replica_will_cure_is_not_waited_for(says: dict[Place, Any], kind: type) -> None:
    found, _ = played(says)
    assert type(found) is kind
