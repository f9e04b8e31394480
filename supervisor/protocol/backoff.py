"""When a failed attempt is tried again (core.md section 7.5). Pure: the random number is passed in.

Knows the two built-in types; a type of the user's own is computed in the runner and never comes here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from supervisor.errors import InvalidOptions
from supervisor.protocol.job_options import Backoff

# Doubling has no end, scores have: a century is as far as anybody can mean it.
MAX_DELAY_MS: Final = 100 * 366 * 24 * 3_600_000
_MAX_DOUBLINGS: Final = 64


def delay_of(backoff: Backoff, attempt: int, rng: Callable[[], float]) -> int:
    """Milliseconds until the next attempt, after `attempt` attempts (1 and more) have failed.

    `rng` gives a number from 0 to below 1; it is asked only when there is jitter.
    Raises `InvalidOptions` for a type that nobody here knows.
    """
    if backoff.type == "fixed":
        most = backoff.delay
    elif backoff.type == "exponential":
        most = _rounded(2.0 ** min(attempt - 1, _MAX_DOUBLINGS) * backoff.delay)
    else:
        raise InvalidOptions(
            f"Unknown backoff strategy {backoff.type}. Built in are fixed and exponential; "
            "another one is given to the processor: @processor(queue, backoff=function)"
        )
    if backoff.jitter > 0:
        most = rng() * most * backoff.jitter + most * (1 - backoff.jitter)
    return math.floor(min(max(most, 0), MAX_DELAY_MS))


def _rounded(value: float) -> float:
    """To the nearest whole number, halves up, as JavaScript does."""
    return math.floor(value + 0.5) if value < MAX_DELAY_MS else MAX_DELAY_MS
