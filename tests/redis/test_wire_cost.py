"""What the master's call costs Redis, in commands: their number does not depend on the machine's mood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from supervisor.protocol.commands.work import Completed
from supervisor.protocol.job_options import KEEP_ALL

OURS = ("eval", "info", "config", "client")  # what the test itself asks
A_JOB = 8  # of its end: HMGET, LREM, HSET, XADD; of its begin: HGETALL, SET, XADD, HSET
A_CALL = 17  # of them two where more than one job is taken
NOTHING_TO_DO = 4


def commands(wire: Any, act: Callable[[], object]) -> int:
    """How many commands the scripts of `act` run."""
    wire.raw.config_resetstat()
    act()
    stats = wire.raw.info("commandstats")
    names = {name: name.removeprefix("cmdstat_") for name in stats}
    return sum(stats[name]["calls"] for name, command in names.items() if not command.startswith(OURS))


def to_finish_and_fetch(wire: Any, count: int) -> int:
    wire.add(count=2 * count)
    outcomes = [Completed(job.id, job.token, b"null", KEEP_ALL) for job in wire.fetch(count)]
    taken: list[Any] = []
    found = commands(wire, lambda: taken.extend(wire.exchange(outcomes, count).jobs))
    assert len(taken) == count
    wire.raw.flushall()
    return found


def test_a_job_that_does_nothing_costs_eight_commands_and_a_call_seventeen_beside(wire):
    few, many = to_finish_and_fetch(wire, 10), to_finish_and_fetch(wire, 30)

    assert (many - few) / 20 <= A_JOB
    assert few - 10 * A_JOB <= A_CALL


def test_a_call_for_one_job_costs_less(wire):
    assert to_finish_and_fetch(wire, 1) <= A_JOB + A_CALL - 2


def test_a_call_that_finds_nothing_asks_four_times(wire):
    wire.add(count=1)
    wire.fetch()

    assert commands(wire, lambda: wire.exchange(count=4)) <= NOTHING_TO_DO
