"""Values that nobody should give, and what must come of them: the tables of the tests of bad input.

`Kind`      for one kind of parameter: what must be refused, what may be, what is merely odd
`judged`    whether what came of a value is what a user can live with
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from supervisor.errors import OxherdError, RedisError
from supervisor.protocol.keys import PARTS

LONGEST_SENTENCE = 500

HALF = "half\ud800"
NUL = "a\0b"
BRACES = "{a}{b}"
MEGABYTE = "n" * 1_000_000
ODD_TEXTS = (" ", NUL, BRACES, "}{", "é\u2028\U0001f402", "\n", "*", "%s", "-1", "null", MEGABYTE)
NO_TEXTS = (None, True, 7, 1.5, math.nan, [], ["a"], {}, {"a": 1}, ("a",), object(), b"a", b"\xff")
NO_NUMBERS = (True, "1", "", 1.5, math.nan, math.inf, -math.inf, [], [1], {}, object(), b"1", 1j)
HUGE = (2**53, 2**63, 2**64, 10**400, 10**5000, 10.0**300)
BELOW = (-1, -(2**53), -(2**63), -(10**400), -(10**5000))
NO_FLAGS = (None, 0, 1, "", "no", 1.0, [], object())


def deep(levels: int, inside: Any = None) -> Any:
    for _ in range(levels):
        inside = [inside]
    return inside


def circle() -> Any:
    ring: list[Any] = []
    ring.append({"again": ring})
    return ring


@dataclass(frozen=True)
class Kind:
    """bad       refused, with a sentence that has one of `words` in it; nothing changes
    strange   refused by one of our errors or taken; nothing changes
    fine      refused by one of our errors or taken
    """

    bad: Sequence[Any] = ()
    strange: Sequence[Any] = ()
    fine: Sequence[Any] = ()
    words: Sequence[str] = ()

    def but(self, *fine: Any) -> Kind:
        """The same, but that these are allowed."""
        return replace(self, bad=[value for value in self.bad if not any(value is one for one in fine)])


def whole(least: int | None, *words: str, none: bool = False) -> Kind:
    bad = [*NO_NUMBERS, *HUGE[2:], *BELOW[2:], *([] if none else [None])]
    if least is not None:
        bad += [least - 1, *BELOW[:2]]
    return Kind(bad, fine=[least or 0, 5, *HUGE[:2], *([None] if none else [])], words=words)


TEXT = Kind([*NO_TEXTS, HALF], fine=ODD_TEXTS)
JOB_ID = Kind(
    [*NO_TEXTS, "", HALF, *PARTS],
    strange=[
        *("unknown", "0", "0:", "00", "-1", "1.0", "999999999999999999999", ":", "a:b", "a:b:c"),
        *("1:logs", "1:lock", "1:dependencies", "de:same", "dn:same", "metrics:completed", "repeat:nightly"),
        *("de", "metrics", "ox", "ox:x", *ODD_TEXTS),
    ],
    words=["id of a job", "id", "job"],
)
STATE = Kind([*NO_TEXTS, "", HALF, NUL, MEGABYTE, "wait", "FAILED", "paused", "meta"], words=["state"])
FLAG = Kind(NO_FLAGS, fine=[True, False])
DATA = Kind(
    [
        *(
            object(),
            object,
            lambda: 0,
            iter([]),
            1j,
            math.nan,
            math.inf,
            [math.nan],
            {"a": [-math.inf, None]},
        ),
        *({("a",): 1}, {object(): 1}, circle(), deep(10_000), deep(100_000), 10**5000, [object()]),
    ],
    fine=[
        *(None, True, 0, -1, "", HALF, NUL, BRACES, MEGABYTE, b"\xff", {1: 2}, {None: 1}, {HALF: HALF}),
        *(2**53, 2**63, 2**64, 10**400, deep(300), deep(470), deep(700), deep(950), {"a": deep(480)}),
    ],
    words=["data", "JSON", "nested"],
)


def shown(value: Any) -> str:
    """A value in a line of a report; it may be as large or as deep as it likes."""
    try:
        return repr(value)[:60]
    except (RecursionError, ValueError):
        return f"<{type(value).__name__}>"


def judged(error: BaseException | None, words: Sequence[str], *, must_fail: bool) -> str | None:
    """What is wrong with how a call ended; None when nothing is."""
    if error is None:
        return "it was taken" if must_fail else None
    if not isinstance(error, OxherdError) or isinstance(error, RedisError):
        return f"{type(error).__name__}: {str(error)[:200]}"
    text = str(error)
    if not text or "\n" in text or len(text) > LONGEST_SENTENCE:
        return f"no sentence of one line but {len(text):,} characters: {text[:200]!r}"
    if "object at 0x" in text or "Traceback" in text:
        return f"it speaks of our insides: {text}"
    if must_fail and words and not any(word.lower() in text.lower() for word in words):
        return f"none of {words} is named: {text}"
    return None
