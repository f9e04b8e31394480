"""How long each slice of replaying dead letters holds Redis: 10,000 letters, 100,000 under `--long`."""

from __future__ import annotations

import pytest
from test_manage_slices import slices_ms as slices_ms

from supervisor.protocol.commands.dead_letter import REPLAYED_AT_ONCE, replay_letters
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.steps import drive_blocking

DEAD = QueueKeys("paint-dead")
NOW = 1_800_000_000_000
PROMISED_MS = 10

FILL = """
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  if ARGV[5] == "failed" then
    redis.call("HSET", ARGV[1] .. ":" .. i, "name", "n", "data", "{}", "opts", "{}", "timestamp", "17",
      "atm", "1", "finishedOn", "18", "failedReason", "boom")
    redis.call("ZADD", ARGV[1] .. ":failed", 18, i)
  elseif ARGV[5] == "waiting" then
    redis.call("HSET", ARGV[1] .. ":" .. i, "name", "n", "timestamp", "17")
  end
  redis.call("HSET", ARGV[2] .. ":" .. i, "name", "n", "opts", "{}", "timestamp", "18", "data", cjson.encode({
    queue = "paint", id = tostring(i), name = "n", data = [[{"n":1,"path":"/a.jpg"}]], opts = "{}",
    failedReason = "boom", stacktrace = { string.rep("at x\\n", 50) }, attemptsMade = 1, timestamp = 17,
  }))
  redis.call("LPUSH", ARGV[2] .. ":wait", i)
end
"""


@pytest.mark.parametrize("original", ["failed", "gone", "waiting"])
def test_no_slice_holds_redis_for_long(
    wire, slices_ms, request: pytest.FixtureRequest, original: str
) -> None:
    letters = 100_000 if request.config.getoption("--long", default=False) else 10_000
    for first in range(1, letters + 1, 1_000):
        wire.raw.eval(FILL, 0, wire.queue.base, DEAD.base, first, first + 999, original)
    wire.raw.slowlog_reset()
    wire.raw.config_resetstat()

    results = drive_blocking(replay_letters(DEAD, NOW), wire.run)

    held = slices_ms()
    median = held[len(held) // 2]
    over = sum(ms > PROMISED_MS for ms in held)
    print(f"{original}: {len(held)} slices, median {median:.2f} ms, {over} over 10")
    assert len(results) == letters
    assert all(each.done == (original != "waiting") for each in results)
    assert wire.raw.llen(DEAD.wait) == (letters if original == "waiting" else 0)
    assert len(held) >= letters / REPLAYED_AT_ONCE
    assert median < PROMISED_MS / 2
