"""Circuit breakers, asked and told for the processors of one queue.

Decides nothing of when one opens, which is the scripts' (lua/enterBreaker, lua/leaveBreaker). It gives them
the clock, the token and the lock that a processor does not have, and says in the log what changed.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

import msgspec

from supervisor.errors import UsageError
from supervisor.master.messages import Ask
from supervisor.observe.log import get
from supervisor.protocol.commands.base import RepeatableCommand
from supervisor.protocol.commands.breaker import LONGEST_MS, BreakerKeys, EnterBreaker, LeaveBreaker, Rule
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.jsontext import decode
from supervisor.protocol.keys import QueueKeys

log = get("breaker")

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
_Span = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_MS)]
_Token = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


class _Use(msgspec.Struct, frozen=True):
    """What a processor says of its breaker (I7: checked, whoever wrote it)."""

    failures: _Count
    within_ms: _Span
    open_ms: _Span
    longest_ms: _Span
    trials: _Count
    token: _Token | None = None
    said: Literal["failed", "worked", "nothing"] = "nothing"


class Redis(Protocol):
    """What of transport.aio.Redis is needed here."""

    async def execute_repeatable(self, command: RepeatableCommand[Any]) -> Any: ...


class Breakers:
    """For the processors of one queue; the breakers are those of its prefix."""

    def __init__(
        self,
        redis: Redis,
        keys: QueueKeys,
        *,
        wall_clock: Callable[[], float],
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._wall_clock = wall_clock
        self._rng = rng

    async def enter(self, job: FetchedJob, ask: Ask) -> dict[str, Any]:
        """Whether the job may use the dependency; `wait_ms` None if so. Raises `UsageError` for nonsense."""
        breaker, use = self._asked(ask)
        token = uuid.uuid4().hex
        entry = await self._redis.execute_repeatable(
            EnterBreaker(
                breaker,
                now_ms=self._now_ms(),
                token=token,
                lock=self._keys.lock(job.id),
                lock_token=job.token,
                trials=use.trials,
                share=self._rng(),
            )
        )
        return {"wait_ms": entry.wait_ms, "trial": entry.is_trial, "token": token}

    async def leave(self, job: FetchedJob, ask: Ask) -> dict[str, Any]:
        """Tell what became of it; whether that opened or closed the breaker."""
        breaker, use = self._asked(ask)
        if use.token is None:
            raise UsageError(f"breaker {breaker.name}: it was left without having been entered")
        rule = Rule(use.failures, use.within_ms, use.open_ms, use.longest_ms)
        told = await self._redis.execute_repeatable(
            LeaveBreaker(breaker, self._now_ms(), use.token, use.said, rule)
        )
        if told.change == "opened":
            log.warning(
                "breaker.opened",
                breaker=breaker.name,
                queue=self._keys.name,
                job_id=job.id,
                open_ms=told.open_ms,
                trips=told.trips,
            )
        elif told.change == "closed":
            log.info("breaker.closed", breaker=breaker.name, queue=self._keys.name, job_id=job.id)
        return {"change": told.change, "open_ms": told.open_ms}

    def _asked(self, ask: Ask) -> tuple[BreakerKeys, _Use]:
        breaker = BreakerKeys(ask.name, self._keys.prefix)
        said = {name: decode(bytes(value)) for name, value in ask.options.items()}
        try:
            return breaker, msgspec.convert(said, _Use)
        except msgspec.ValidationError as error:
            raise UsageError(f"breaker {breaker.name}: {error}") from None

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)
