"""While a slot moves: which keys are on the node that takes it over, and what is asked there.

Redis says ASK of a request all of whose keys are not here, or no longer; with ASKING before it, the node that
is named serves it. That is done for what touches one key a request: plain requests, and scripts of one key
(`requests.ONE_KEY`). Any other script waits until the move is over, as Redis wants it: on the new node one
that declares a key which does not exist is refused (TRYAGAIN), and most do; and it might make names of keys
which are still on the old one.

Pure: decides what to ask whom. The connection is opened by `opening` and `pool`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from supervisor.protocol.commands.base import Reply
from supervisor.transport.address import Place
from supervisor.transport.answers import ASK, moved_to, word_of
from supervisor.transport.requests import Script, pack

_ASKING: Final = pack(("ASKING",))


class Elsewhere(NamedTuple):
    """Whom to ask, what, and which of the replies are to be put in whose place.

    requests   packed, each with its own reply.
    places     for each reply to keep: its number among the new ones, and among the old.
    """

    node: Place
    requests: list[bytes]
    places: list[tuple[int, int]]

    def patched(self, replies: Sequence[Reply], told: Sequence[Reply]) -> list[Reply]:
        """The old replies with the new ones in place."""
        whole = list(replies)
        for new, old in self.places:
            whole[old] = told[new]
        return whole


def elsewhere(
    requests: Sequence[bytes], replies: Sequence[Reply], script: Script | None, asked: Place
) -> Elsewhere | None:
    """What to ask the other node; None when that is of no use.

    requests   as they were sent, one for each reply.
    replies    that of a request which is to be sent there is an ASK.
    script     the one that was called; the other node may not know it.
    asked      who has sent the replies.
    """
    if script is not None and script.guard:
        return None
    named = [number for number, reply in enumerate(replies) if _is_ask(reply)]
    if not named:
        return None
    _, node = moved_to(str(replies[named[0]]), asked)
    there = [] if script is None else [script.load]
    places = []
    for number in named:
        there += [_ASKING, requests[number]]
        places.append((len(there) - 1, number))
    return Elsewhere(node, there, places)


def _is_ask(reply: Reply) -> bool:
    """An error reply, of either client's kind: everything else has one of these types."""
    return not isinstance(reply, bytes | int | list | None) and word_of(str(reply)) == ASK
