"""Backoff: when a failed attempt is tried again, as an option of `add`.

Only says what is stored with the job; the delay itself is computed by the worker that failed it.
"""

from __future__ import annotations

import msgspec

from supervisor.errors import InvalidJob
from supervisor.protocol.given import MAX_WHOLE, check_text
from supervisor.protocol.validate import check_jitter


class Backoff(msgspec.Struct, frozen=True):
    """What is stored as `backoff`. Made by `fixed`, `exponential` or `custom`.

    kind       `fixed`, `exponential`, or a name that the worker's own function knows.
    delay_ms   milliseconds, 0 or more.
    jitter     0 for exact delays, up to 1 for delays spread over the whole range below.
    """

    kind: str
    delay_ms: int = 0
    jitter: float = 0

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or not self.kind:
            raise InvalidJob("backoff: the kind is text: fixed, exponential, or a name the worker knows")
        check_text(self.kind, "backoff: the kind")
        delay_ms = self.delay_ms
        if isinstance(delay_ms, bool) or not isinstance(delay_ms, int) or not 0 <= delay_ms <= MAX_WHOLE:
            raise InvalidJob("backoff: the delay is a whole number of milliseconds, 0 or more")
        check_jitter(self.jitter)


def fixed(delay_ms: int, *, jitter: float = 0) -> Backoff:
    """Always `delay_ms`; with jitter j, evenly between (1 - j) * delay and delay."""
    return Backoff("fixed", delay_ms, jitter)


def exponential(delay_ms: int, *, jitter: float = 0) -> Backoff:
    """`delay_ms` after the first failure, then twice as long each time."""
    return Backoff("exponential", delay_ms, jitter)


def custom(kind: str, delay_ms: int = 0) -> Backoff:
    """Left to the function the worker was given (`@processor(backoff=f)`), which gets `kind` to tell."""
    return Backoff(kind, delay_ms)
