"""How long each slice of a bulk operation holds Redis: 10,000 jobs, 100,000 under `--long`.

What is asked is the median of the slowlog: a single call may be long because the host gave the server's core
to another. `-s` prints the figures of docs/explain/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from supervisor.protocol.commands import manage
from supervisor.protocol.steps import Steps, drive_blocking

NOW = 1_800_000_000_000
OLD = 1_700_000_000_000
PROMISED_MS = 10
NOTED_US = 200  # what a script calls is noted too, and that is less

FILL = """
local base, place, priority = ARGV[1], ARGV[2], ARGV[5]
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  redis.call("HSET", base .. ":" .. i, "name", "n", "data", [[{"n":1,"path":"/a.jpg"}]], "opts", "{}",
    "timestamp", "1700000000000", "delay", "0", "priority", priority, "ats", "1", "atm", "1",
    "finishedOn", "1700000000000", "failedReason", "boom", "stacktrace", "[]")
  if place == "wait" then
    redis.call("LPUSH", base .. ":wait", i)
  else
    redis.call("ZADD", base .. ":" .. place, 1700000000000 + i, i)
  end
end
"""


@pytest.fixture
def slices_ms(raw: redis.Redis) -> Iterator[Callable[[], list[float]]]:
    """How long each script call held the server, shortest first; 0 for less than `NOTED_US`."""
    before = raw.config_get("slowlog-*")
    raw.config_set("slowlog-log-slower-than", NOTED_US)
    raw.config_set("slowlog-max-len", 10_000)

    def read() -> list[float]:
        entries = raw.slowlog_get(10_000)
        noted = sorted(e["duration"] / 1_000 for e in entries if e["command"].startswith(b"EVAL"))
        calls = raw.info("commandstats")["cmdstat_eval"]["calls"]
        return [0.0] * (calls - len(noted)) + noted

    yield read
    for name, value in before.items():
        raw.config_set(name, value)


OPERATIONS: dict[str, tuple[str, Callable[[Any], Steps[Any]], int]] = {
    # name: where the jobs stand, what is done, how much of them it takes
    "drain": ("wait", lambda queue: manage.drain_queue(queue, NOW), 1),
    "clean completed": ("completed", lambda queue: manage.clean_jobs(queue, "completed", NOW), 1),
    "clean waiting": ("wait", lambda queue: manage.clean_jobs(queue, "waiting", NOW), 1),
    "clean waiting, all young": ("wait", lambda queue: manage.clean_jobs(queue, "waiting", OLD - 1), 0),
    "clean delayed": ("delayed", lambda queue: manage.clean_jobs(queue, "delayed", NOW), 1),
    "retry all": ("failed", lambda queue: manage.retry_jobs(queue, "failed", NOW), 1),
    "promote all": ("delayed", lambda queue: manage.promote_jobs(queue), 1),
    "obliterate": ("completed", lambda queue: manage.obliterate_queue(queue, NOW), 1),
}


@pytest.mark.parametrize("what", OPERATIONS)
def test_no_slice_holds_redis_for_long(wire, slices_ms, request: pytest.FixtureRequest, what: str) -> None:
    jobs = 100_000 if request.config.getoption("--long", default=False) else 10_000
    place, steps, share = OPERATIONS[what]
    for first in range(1, jobs + 1, 1_000):
        wire.raw.eval(FILL, 0, wire.queue.base, place, first, first + 999, 3 if place == "failed" else 0)
    wire.raw.slowlog_reset()
    wire.raw.config_resetstat()

    answer = drive_blocking(steps(wire.queue), wire.run)

    held = slices_ms()
    median = held[len(held) // 2]
    print(
        f"{what}: {len(held)} slices, median {median:.2f} ms, {sum(ms > PROMISED_MS for ms in held)} over 10"
    )
    if answer is not None:
        assert (len(answer) if isinstance(answer, list) else answer) == jobs * share
    assert len(held) >= jobs / manage.REMOVED_AT_ONCE
    assert median < PROMISED_MS / 2
