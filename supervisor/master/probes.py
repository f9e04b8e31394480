"""`/livez` and `/readyz`: the judgement of status.py for programs that ask over HTTP.

Decides which status is answered. `/livez` is 503 when a restart would help: the master is stuck. `/readyz` is
503 whenever it takes no jobs, for whatever reason; the text says which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from supervisor.master.status import Proof

if TYPE_CHECKING:
    from supervisor.master.watchdog import Watchdog
    from supervisor.observe.http import Answer, Page

LIVE, READY = "/livez", "/readyz"
STARTING: Final = Proof(False, True, "the master is starting")
WELL: Final = "ok"


def judged(dog: Watchdog | None) -> Proof:
    """The last judgement; that of a master which has not looked yet is that it starts."""
    return STARTING if dog is None else dog.judged


def pages(dog: Callable[[], Watchdog | None]) -> dict[str, Page]:
    # At the top it would cost every master that has no pages.
    from supervisor.observe.http import Answer

    async def live() -> Answer:
        found = judged(dog())
        return Answer(f"{WELL}\n") if found.alive else Answer(f"{found.why}\n", 503)

    async def ready() -> Answer:
        found = judged(dog())
        return Answer(f"{WELL}\n") if found.ok else Answer(f"{found.why}\n", 503)

    return {LIVE: live, READY: ready}
