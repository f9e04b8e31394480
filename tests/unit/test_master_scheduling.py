"""What a master does about the run after a fetched job: what it asks, how often, and when it gives up."""

from __future__ import annotations

import json

import pytest

from supervisor.errors import NotRepeatable, RedisRefused
from supervisor.master.scheduling import PLACES_TRIED, add_following
from supervisor.protocol.codes import Code
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.keys import QueueKeys

NOW_MS = 1_800_000_000_000


class Redis:
    """Answers one after the other, the last for ever; keeps the calls."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    async def execute_repeatable(self, command, *, give_up=None):
        self.calls.append(command)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def job(scheduler_id="s", **repeat):
    opts = json.dumps({"repeat": {"count": 1, **repeat}, "repeatJobKey": "s"}).encode()
    return FetchedJob(
        f"repeat:s:{NOW_MS}", "t", "n", b"{}", opts, NOW_MS, 0, 0, 1, 0, None, None, scheduler_id
    )


@pytest.fixture
def told(monkeypatch):
    """The log's lines, as (event, fields)."""
    lines = []

    class Log:
        def __getattr__(self, level):
            return lambda event, **fields: lines.append((event, fields))

    monkeypatch.setattr("supervisor.master.scheduling.log", Log())
    return lines


async def follow(redis, fetched):
    await add_following(redis, QueueKeys("q"), fetched, now_ms=NOW_MS)


async def test_a_job_without_a_scheduler_costs_no_call(told):
    redis = Redis("id")
    await follow(redis, job(scheduler_id=None))
    assert redis.calls == told == []


async def test_a_pattern_whose_next_run_is_there_already_is_asked_for_a_later_one(told):
    redis = Redis(Code.ID_COLLISION, Code.ID_COLLISION, "repeat:s:3")
    await follow(redis, job(pattern="* * * * * *"))
    assert [call.run.cron_next_ms for call in redis.calls] == [NOW_MS + n * 1_000 for n in (1, 2, 3)]
    assert [event for event, _ in told] == ["scheduler.advanced"]


async def test_when_every_place_is_taken_the_log_says_so(told):
    redis = Redis(Code.ID_COLLISION)
    await follow(redis, job(pattern="* * * * * *"))
    assert len(redis.calls) == PLACES_TRIED
    ((event, fields),) = told
    assert event == "scheduler.stuck" and "there already" in fields["why"]


async def test_slots_of_every_are_not_asked_for_twice(told):
    redis = Redis(Code.SLOTS_BUSY)
    await follow(redis, job(every=1_000))
    assert len(redis.calls) == 1
    assert told[0][0] == "scheduler.stuck"


async def test_a_lost_reply_that_the_transport_does_not_repeat_is_asked_again(told):
    redis = Redis(NotRepeatable("CLIENT KILL is refused"), None)
    await follow(redis, job(every=1_000))
    assert len(redis.calls) == 2
    assert told == []


async def test_what_redis_refuses_is_told(told):
    await follow(Redis(RedisRefused("NOPERM")), job(every=1_000))
    assert "NOPERM" in told[0][1]["why"]


@pytest.mark.parametrize(
    "over", [{"limit": 1}, {"endDate": NOW_MS - 1}, {"endDate": "2020-01-01T00:00:00.000Z"}]
)
async def test_a_schedule_that_is_over_asks_nothing(told, over):
    redis = Redis("id")
    await follow(redis, job(every=1_000, **over))
    assert redis.calls == told == []
