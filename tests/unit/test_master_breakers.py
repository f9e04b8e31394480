"""What the master takes from a processor about breakers: checked, whoever wrote it (I7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from supervisor.errors import UsageError
from supervisor.master.breakers import Breakers
from supervisor.master.messages import read_ask
from supervisor.protocol.commands.breaker import Change, EnterBreaker, Entry, LeaveBreaker
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.keys import QueueKeys

RULE = {"failures": 5, "within_ms": 60_000, "open_ms": 30_000, "longest_ms": 300_000, "trials": 2}
TOKEN = "0123456789abcdef" * 2


class Redis:
    def __init__(self) -> None:
        self.commands: list[Any] = []

    async def execute_repeatable(self, command: Any) -> Any:
        self.commands.append(command)
        return (
            Entry(None, is_trial=True) if isinstance(command, EnterBreaker) else Change("opened", 30_000, 1)
        )


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def breakers(redis: Redis) -> Breakers:
    return Breakers(redis, QueueKeys("orders"), wall_clock=lambda: 1_800_000_000.5, rng=lambda: 0.25)


@pytest.fixture
def job() -> FetchedJob:
    return FetchedJob(
        **dict.fromkeys(FetchedJob.__struct_fields__, "") | {"id": "17", "token": "lock-token"}  # type: ignore[arg-type]
    )


def ask(what: str, name: str = "payments", **options: Any):
    return read_ask(json.dumps({"seq": 1, "what": what, "name": name, "options": options}).encode())


async def test_entering_uses_the_master_s_clock_and_the_lock_of_the_job(breakers, redis, job):
    told = await breakers.enter(job, ask("breaker_enter", **RULE))

    (command,) = redis.commands
    assert (command.now_ms, command.share, command.trials) == (1_800_000_000_500, 0.25, 2)
    assert (command.lock, command.lock_token) == ("bull:orders:17:lock", "lock-token")
    assert told == {"wait_ms": None, "trial": True, "token": command.token}


async def test_leaving_says_the_token_it_was_let_in_with(breakers, redis, job):
    told = await breakers.leave(job, ask("breaker_leave", **RULE, token=TOKEN, said="failed"))

    (command,) = redis.commands
    assert isinstance(command, LeaveBreaker)
    assert (command.token, command.said, command.rule.longest_ms) == (TOKEN, "failed", 300_000)
    assert told == {"change": "opened", "open_ms": 30_000}


@pytest.mark.parametrize(
    "bad",
    [
        {"failures": 0},
        {"failures": 1_001},
        {"failures": "5"},
        {"within_ms": -1},
        {"open_ms": 2**63},
        {"longest_ms": 1.5},
        {"trials": None},
        {"token": "by hand"},
        {"token": TOKEN + "\n"},
        {"said": "opened"},
    ],
)
async def test_nonsense_is_refused_and_nothing_is_sent(breakers, redis, job, bad):
    with pytest.raises(UsageError, match="breaker payments"):
        await breakers.leave(job, ask("breaker_leave", **RULE | {"token": TOKEN, "said": "failed"} | bad))
    assert redis.commands == []


async def test_a_name_with_colons_reaches_no_other_key(breakers, redis, job):
    with pytest.raises(UsageError, match="no breaker is named"):
        await breakers.enter(job, ask("breaker_enter", name="x:../bull:orders:meta", **RULE))
    assert redis.commands == []


async def test_leaving_without_having_entered_is_refused(breakers, redis, job):
    with pytest.raises(UsageError, match="without having been entered"):
        await breakers.leave(job, ask("breaker_leave", **RULE, said="failed"))
    assert redis.commands == []
