"""Circuit breakers: what stands between jobs and a dependency that fails. Ours, not BullMQ's.

Each belongs to a prefix, so that all queues and masters share it: a hash `<prefix>:ox:breaker:<name>`, there
while there is something to remember, and one sorted set of their names. What the states are and when they
change is the scripts' decision (`lua/*Breaker.lua`); every time comes from the caller's clock.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from supervisor.errors import UsageError
from supervisor.protocol.commands.base import Arg, Reply

KEEP_MS: Final = 24 * 3_600_000  # after the last change
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half open"
LONGEST_MS: Final = 30 * 24 * 3_600_000
_NAME: Final = re.compile(r"[\w.@/-]{1,100}")


class BreakerKeys(msgspec.Struct, frozen=True):
    """Where one breaker is kept. Raises `UsageError` for a name that no processor can give."""

    name: str
    prefix: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"no breaker is named {self.name[:120]!r}: a name has 1 to 100 letters, digits and . _ - / @"
            )

    @property
    def state(self) -> str:
        return f"{self.prefix}:ox:breaker:{self.name}"

    @property
    def all(self) -> str:
        return all_breakers(self.prefix)


def all_breakers(prefix: str) -> str:
    """The key of the names."""
    return f"{prefix}:ox:breakers"


class Rule(msgspec.Struct, frozen=True):
    """When a breaker opens, and for how long."""

    failures: int
    within_ms: int
    open_ms: int
    longest_ms: int


class Entry(msgspec.Struct, frozen=True):
    """May the job come in? `wait_ms` is None if so."""

    wait_ms: int | None
    is_trial: bool = False


class EnterBreaker(msgspec.Struct, frozen=True):
    """Ask to use the dependency. Decodes to an `Entry`.

    share   a random number from 0 to 1.
    """

    script: ClassVar[str] = "enterBreaker"

    breaker: BreakerKeys
    now_ms: int
    token: str
    lock: str
    lock_token: str
    trials: int
    share: float

    def keys(self) -> Sequence[str]:
        return (self.breaker.state,)

    def args(self) -> Sequence[Arg]:
        return (self.now_ms, self.token, self.lock, self.lock_token, self.trials, self.share)

    def decode(self, reply: Reply) -> Entry:
        if reply[0] == 0:
            return Entry(int(reply[1]))
        return Entry(None, is_trial=reply[0] == 2)

    def repetition(self) -> EnterBreaker:
        """The same call: a trial that was let in is let in again."""
        return self


class Change(msgspec.Struct, frozen=True):
    """What telling did: `change` is `opened`, `closed` or empty. `trips`: openings since it was closed."""

    change: str
    open_ms: int = 0
    trips: int = 0


class LeaveBreaker(msgspec.Struct, frozen=True):
    """Tell what became of it: `failed`, `worked`, or `nothing`. Decodes to a `Change`."""

    script: ClassVar[str] = "leaveBreaker"

    breaker: BreakerKeys
    now_ms: int
    token: str
    said: str
    rule: Rule

    def keys(self) -> Sequence[str]:
        return (self.breaker.state, self.breaker.all)

    def args(self) -> Sequence[Arg]:
        rule = self.rule
        bounds = (rule.failures, rule.within_ms, rule.open_ms, rule.longest_ms)
        return (self.now_ms, self.token, self.said, *bounds, self.breaker.name, KEEP_MS)

    def decode(self, reply: Reply) -> Change:
        change, open_ms, trips = reply
        return Change(change.decode(), int(open_ms), int(trips))

    def repetition(self) -> LeaveBreaker:
        """The same call: what this token has told is told once."""
        return self


class SetBreaker(msgspec.Struct, frozen=True):
    """By hand: open it for `open_ms`, or with 0 forget it. Decodes to whether anything was known of it."""

    script: ClassVar[str] = "setBreaker"

    breaker: BreakerKeys
    now_ms: int
    open_ms: int

    def keys(self) -> Sequence[str]:
        return (self.breaker.state, self.breaker.all)

    def args(self) -> Sequence[Arg]:
        return (self.now_ms, self.open_ms, self.breaker.name, KEEP_MS)

    def decode(self, reply: Reply) -> bool:
        return bool(reply)


# --- looking ------------------------------------------------------------------------------------------


class BreakerState(msgspec.Struct, frozen=True):
    """A breaker as it is seen at one moment.

    state       `closed`, `open` or `half open`.
    failed      how many failures count against it now; while it is closed.
    failures    how many open it, within `within_ms`; 0 if none has been seen.
    until_on    epoch ms when it lets a trial in; None while it is closed.
    opened_on   epoch ms when it was first opened since it was closed; None while it is closed.
    trips       how often it was opened since.
    trials      how many jobs try it now.
    """

    name: str
    state: str
    failed: int = 0
    failures: int = 0
    within_ms: int = 0
    until_on: int | None = None
    opened_on: int | None = None
    trips: int = 0
    trials: int = 0


class GetBreaker(msgspec.Struct, frozen=True):
    """Look at one. Decodes to a `BreakerState`; one of which nothing is known is closed."""

    breaker: BreakerKeys
    now_ms: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("HGETALL", self.breaker.state),)

    def decode(self, reply: Reply) -> BreakerState:
        pairs = reply[0]
        found = {
            pairs[at].decode("utf-8", "replace"): pairs[at + 1].decode() for at in range(0, len(pairs), 2)
        }
        whole = {name: int(text) for name, text in found.items() if text.isdigit()}
        until_on = whole.get("until")
        within_ms = whole.get("within_ms", 0)
        failed = [int(one.partition("-")[0]) for one in found.get("failed", "").split()]
        trials = sum(name.startswith("trial:") for name in found)
        state = CLOSED if until_on is None else OPEN if until_on > self.now_ms else HALF_OPEN
        return BreakerState(
            name=self.breaker.name,
            state=state,
            failed=sum(at > self.now_ms - within_ms for at in failed),
            failures=whole.get("failures", 0),
            within_ms=within_ms,
            until_on=until_on,
            opened_on=whole.get("opened_on"),
            trips=whole.get("trips", 0),
            trials=trials,
        )


class ListBreakers(msgspec.Struct, frozen=True):
    """The names of those of which something is known. Decodes to them in order."""

    prefix: str
    now_ms: int

    def requests(self) -> Sequence[Sequence[Arg]]:
        return (("ZRANGEBYSCORE", all_breakers(self.prefix), self.now_ms, "+inf"),)

    def decode(self, reply: Reply) -> list[str]:
        return sorted(name.decode("utf-8", "replace") for name in reply[0])
