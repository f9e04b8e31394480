"""What a processor may ask the master for: it holds no connection of its own (I1).

Decides which questions are answered and how their arguments are checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from supervisor.errors import UsageError
from supervisor.master.messages import Ask
from supervisor.protocol.commands.base import Command
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.keys import QueueKeys


class Redis(Protocol):
    async def execute(self, command: Command[Any]) -> Any: ...


class Asks:
    """Answers for the processors of one queue."""

    def __init__(self, redis: Redis, keys: QueueKeys, *, wall_clock: Callable[[], float]) -> None:
        self._redis = redis
        self._keys = keys
        self._wall_clock = wall_clock

    async def answer(self, job: FetchedJob, ask: Ask) -> bytes:
        """The answer as JSON text; raises an `OxherdError` whose sentence the processor gets."""
        raise UsageError(f"the master does not know the question {ask.what!r}")
