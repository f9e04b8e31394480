"""Dead letters: the jobs they tell of wait again.

A dead letter is made by `lua/finishAndFetch.lua` with the failure of its job. What becomes of a letter
that is replayed, and when it is left as it is, stands in `lua/replayDeadLetters.lua`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.protocol import fields
from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.manage import Count
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import Steps

REPLAYED_AT_ONCE: Final = 25  # about a millisecond of Redis
NO_LETTER: Final = "there is no such letter"


class Replayed(msgspec.Struct, frozen=True):
    """What became of one letter.

    queue, job_id   where the job waits now; empty when the letter is left as it is.
    why             the reason for that.
    """

    letter_id: str
    queue: str
    job_id: str
    why: str = ""

    @property
    def done(self) -> bool:
        return not self.why


class ReplayDeadLetters(msgspec.Struct, frozen=True):
    """Some letters by their ids, or up to `count` of those that stand first in the list `place`.

    to   the queue that gets their jobs; None for the one that each came from.
    """

    script: ClassVar[str] = "replayDeadLetters"

    queue: QueueKeys
    now_ms: int
    to: str | None = None
    letter_ids: Sequence[str] = ()
    place: str = ""
    count: int = 0

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        return (self.queue.base + ":", self.now_ms, self.to or "", self.place, self.count, *self.letter_ids)

    def decode(self, reply: Reply) -> list[Replayed]:
        texts = [text.decode("utf-8", "replace") for text in reply]
        return [Replayed(*texts[at : at + 4]) for at in range(0, len(texts), 4)]


def replay_letters(
    queue: QueueKeys, now_ms: int, *, to: str | None = None, limit: int | None = None
) -> Steps[list[Replayed]]:
    """Replay the letters that wait, the oldest first, at most `limit`; what became of each."""
    results: list[Replayed] = []
    for place in (fields.WAIT, fields.PAUSED):
        left: int = yield Count(queue, place)
        while left > 0 and (limit is None or len(results) < limit):
            count = min(left, REPLAYED_AT_ONCE)
            count = count if limit is None else min(count, limit - len(results))
            slice_ = yield ReplayDeadLetters(queue, now_ms, to, place=place, count=count)
            if not slice_:
                break
            results += slice_
            left -= len(slice_)
    return results
