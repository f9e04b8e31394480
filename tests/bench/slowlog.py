"""How long single calls of the management hold Redis, at a million jobs: `./scripts/bench --slowlog`.

The slowlog has the server's own time of each call, with what it waited for a core that somebody else had. So
beside it stands what the server's thread has computed for the longest call, as the kernel counts it. The jobs
are put there by a script of this module and not by adds. It judges nothing.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ground import QUEUE, Ground

from supervisor.client import core, edit, flows, getters, manage
from supervisor.client.core import Action, Context
from supervisor.protocol.keys import QueueKeys
from supervisor.protocol.new_job import check_defaults
from supervisor.protocol.steps import drive_blocking
from supervisor.transport.blocking import Redis

NOW, OLD = 1_800_000_000_000, 1_700_000_000_000
NOTED_US = 300
LIMIT_MS = 10
NOTED = 100_000
AT_ONCE = 1_000

FILL = """
local base, place, old_from, old_to = ARGV[1], ARGV[2], tonumber(ARGV[5]), tonumber(ARGV[6])
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local time = (i >= old_from and i <= old_to) and "1700000000000" or "1900000000000"
  redis.call("HSET", base .. ":" .. i, "name", "n", "data", [[{"n":1,"path":"/a.jpg"}]], "opts", "{}",
    "timestamp", time, "delay", "0", "priority", "0")
  if place == "wait" then
    redis.call("LPUSH", base .. ":wait", i)
  else
    redis.call("ZADD", base .. ":" .. place, 1700000000000 + i, i)
  end
end
"""
EVENTS = 'for i = 1, 1000 do redis.call("XADD", ARGV[1], "*", "event", "added", "jobId", i) end'
FLOW = """
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local id = "c" .. i
  redis.call("HSET", ARGV[1] .. ":" .. id, "name", "n", "data", "{}", "opts", "{}", "timestamp", "1",
    "parentKey", ARGV[2], "parent", [[{"id":"P","queueKey":"]] .. ARGV[1] .. [["}]])
  redis.call("SADD", ARGV[2] .. ":dependencies", ARGV[1] .. ":" .. id)
  redis.call("LPUSH", ARGV[1] .. ":wait", id)
end
"""


@dataclass
class Scene:
    ground: Ground
    redis: Redis
    context: Context
    jobs: int
    calls: int = 0
    longest_ns: int = 0

    @property
    def base(self) -> str:
        return self.context.keys.base

    def fill(self, place: str, old_from: int = 1, old_to: int | None = None) -> None:
        for first in range(1, self.jobs + 1, AT_ONCE):
            last = min(first + AT_ONCE - 1, self.jobs)
            to = self.jobs if old_to is None else old_to
            self.ground.raw.eval(FILL, 0, self.base, place, first, last, old_from, to)

    def run(self, action: Action[Any]) -> None:
        def execute(command: Any) -> Any:
            self.calls += 1
            before = self._computed_ns()
            reply = self.redis.execute(command, timeout_s=60)
            self.longest_ns = max(self.longest_ns, self._computed_ns() - before)
            return reply

        drive_blocking(action(self.context), execute)

    def _computed_ns(self) -> int:
        pid = self.ground.server.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])

    def measure(self, what: str, *actions: Action[Any]) -> None:
        """Print one row of the table."""
        raw = self.ground.raw
        raw.slowlog_reset()
        self.calls, self.longest_ns, begin = 0, 0, time.monotonic()
        for action in actions:
            self.run(action)
        took = time.monotonic() - begin
        noted = sorted(
            entry["duration"] / 1_000
            for entry in raw.slowlog_get(NOTED)
            if entry["command"].startswith(b"EVAL")  # what a script calls is noted too
        )
        longest = f"{noted[-1]:.1f}" if noted else f"under {NOTED_US / 1_000}"
        over = sum(each > LIMIT_MS for each in noted)
        computed = self.longest_ns / 1e6
        print(f"| {what} | {self.calls:,} | {computed:.1f} | {longest} | {over} | {took:.1f} |", flush=True)


def run(ground: Ground, jobs: int) -> None:
    """Print the table. Each step leaves what the next one needs."""
    try:
        os.setpriority(os.PRIO_PROCESS, ground.server.pid, -20)
    except PermissionError:
        print("the server has no priority over others, so more calls are long by chance", file=sys.stderr)
    ground.raw.config_set("slowlog-log-slower-than", NOTED_US)
    ground.raw.config_set("slowlog-max-len", NOTED)
    context = Context(QueueKeys(QUEUE, "bull"), lambda: NOW, check_defaults(None))
    redis = Redis.connect(ground.url)
    try:
        scene = Scene(ground, redis, context, jobs)
        print(f"{jobs:,} jobs\n\n| action | calls | computed, ms | slowlog, ms | over {LIMIT_MS} ms | s |")
        print("|---|---:|---:|---:|---:|---:|")
        for part in (_beside_waiting, _waiting, _delayed, _finished):
            ground.empty()
            part(scene)
    finally:
        redis.close()


def _beside_waiting(scene: Scene) -> None:
    middle, raw = scene.jobs // 2, scene.ground.raw
    scene.fill("wait", middle, middle + 999)
    scene.measure("counts", *[getters.counts()] * 100)
    scene.measure("100 jobs of the middle", *[getters.jobs("waiting", start=middle, end=middle + 99)] * 100)
    scene.measure("pause, resume", *[core.pause, core.resume] * 50)
    for number in range(5_000 // AT_ONCE):
        first = number * AT_ONCE + 1
        raw.eval(FLOW, 0, scene.base, f"{scene.base}:P", first, first + AT_ONCE - 1)
    raw.hset(f"{scene.base}:P", mapping={"name": "n", "data": "{}", "opts": "{}", "timestamp": 1})
    raw.zadd(f"{scene.base}:waiting-children", {"P": 1})
    scene.measure("remove a flow of 5,000 waiting children", flows.remove("P"))
    for number in range(1_000):
        raw.hset(f"{scene.base}:orphan{number}", mapping={"name": "n", "timestamp": OLD})
    scene.measure("remove 1,000 orphans", manage.remove_orphaned())
    scene.measure("clean 1,000 old ones in the middle of young ones", manage.clean("waiting"))
    ids = [raw.lindex(f"{scene.base}:wait", middle + at).decode() for at in range(0, 2_000, 100)]
    scene.measure("remove one in the middle", *map(edit.remove, ids[:10]))
    changes = [edit.change_priority(one, 5) for one in ids[10:]]
    scene.measure("change the priority of one in the middle", *changes)
    raw.rename(f"{scene.base}:wait", f"{scene.base}:paused")
    raw.lpush(f"{scene.base}:wait", ids[-1])
    scene.measure("resume what BullMQ 5 put aside", core.resume)
    scene.measure("drain", manage.drain())


def _waiting(scene: Scene) -> None:
    scene.fill("delayed")
    scene.measure("promote all", manage.promote_all())
    scene.measure("clean waiting, all old", manage.clean("waiting"))


def _delayed(scene: Scene) -> None:
    scene.fill("delayed")
    scene.measure("clean delayed", manage.clean("delayed"))
    for _ in range(scene.jobs // 1_000):
        scene.ground.raw.eval(EVENTS, 0, f"{scene.base}:events")
    scene.measure("trim events", manage.forget_events(1_000))


def _finished(scene: Scene) -> None:
    scene.fill("failed")
    scene.measure("retry all", manage.retry_all())
    scene.measure("obliterate", manage.obliterate())
    scene.fill("completed")
    scene.measure("clean completed", manage.clean("completed"))
