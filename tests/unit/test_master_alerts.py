"""Thresholds in the master's log: each is said when it is passed and when it is over, and not in between."""

from __future__ import annotations

import pytest

from supervisor.errors import RedisUnavailable
from supervisor.master.alerts import Alerts
from supervisor.observe.log import hooked
from supervisor.protocol.commands.read import GetCounts
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.thresholds import Thresholds


class Server:
    """A queue with the counts that the test gives it, or none at all."""

    def __init__(self) -> None:
        self.waiting, self.failed, self.away = 0, 0, False

    async def execute(self, command):
        if self.away:
            raise RedisUnavailable("nobody answers", sent=False)
        assert isinstance(command, GetCounts), "no age was asked for"
        return {"waiting": self.waiting, "prioritized": 0, "completed": 9, "failed": self.failed}


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def alerts(server):
    limits = Thresholds(max_waiting=2, max_failed_share=0.5)
    return Alerts(server, QueueKeys("paint"), limits, wall_clock=lambda: 0.0)


@pytest.fixture
def said():
    lines = []
    with hooked(lambda event, fields: lines.append((event, fields.get("threshold")))):
        yield lines


async def test_a_queue_that_is_well_is_not_spoken_of(alerts, server, said):
    server.waiting = 2
    await alerts.look()
    assert said == []


async def test_a_threshold_is_said_once_when_it_is_passed_and_once_when_it_is_over(alerts, server, said):
    for server.waiting in (3, 4, 1_000, 2, 0, 3):
        await alerts.look()
    assert said == [("alert.raised", "waiting"), ("alert.cleared", "waiting"), ("alert.raised", "waiting")]


async def test_thresholds_are_told_apart(alerts, server, said):
    server.waiting, server.failed = 3, 91
    await alerts.look()
    server.waiting = 0
    await alerts.look()
    assert said == [("alert.raised", "waiting"), ("alert.raised", "failed"), ("alert.cleared", "waiting")]


async def test_what_is_wrong_stands_in_the_line(alerts, server):
    server.waiting = 3
    told = []
    with hooked(lambda event, fields: told.append(fields)):
        await alerts.look()
    assert told == [{"queue": "paint", "threshold": "waiting", "why": "3 jobs wait, more than 2"}]


async def test_a_server_that_is_away_is_said_once_and_clears_nothing(alerts, server, said):
    server.waiting = 3
    await alerts.look()
    server.away = True
    for _ in range(3):
        await alerts.look()
    server.away = False
    await alerts.look()
    server.away = True
    await alerts.look()
    assert said == [("alert.raised", "waiting"), ("alert.check_failed", None), ("alert.check_failed", None)]
