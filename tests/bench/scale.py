"""Whether it stays as it is when there is more of it: `./scripts/bench --scale`.

depth     what a job costs Redis, to add and to do, with few and with many jobs waiting, delayed, prioritized
counted   the same in instructions of Redis, which do not depend on what the host is doing
queues    64 queues in one master, beside one queue with as many slots
masters   a hundred masters on one queue, beside one: see masters.py
life      what the master holds while it does many jobs

It judges nothing but prints how far apart few and many are, as CPU of the server by its own count; its time
in scripts counts what it waited for a core, too. What is there before is put there by a script of this
module; the jobs that are counted are added by our client.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import depth
import masters
from ground import MIB, QUEUE, Contender, Failed, Ground, family, oxherd, pss_mib, wait_for, working

from supervisor.client import Queue

FEW: Final = 1_000
COUNTED: Final = 4_000
SLOTS: Final = 8
AT_ONCE: Final = 1_000
IDLE_S: Final = 5.0
QUEUES: Final = 64
EACH: Final = 100  # jobs of each of many queues
PRIORITIES: Final = 100
FAR_MS: Final = 86_400_000
FILL: Final = """
local base, place, now, keep = ARGV[1], ARGV[2], tonumber(ARGV[5]), ARGV[6]
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local id, priority = "f" .. i, 0
  if place == "prioritized" then
    priority = i % 100 + 1
    redis.call("ZADD", base .. ":prioritized", priority * 4294967296 + i, id)
  elseif place == "delayed" then
    redis.call("ZADD", base .. ":delayed", (now + 86400000 + i) * 4096, id)
  else
    redis.call("LPUSH", base .. ":wait", id)
  end
  redis.call("HSET", base .. ":" .. id, "name", "noop", "data", '{"i":' .. i .. "}", "opts", keep,
    "timestamp", now, "delay", place == "delayed" and 86400000 or 0, "priority", priority)
end
"""
KEEP_ALL, KEEP_FEW = "{}", '{"removeOnComplete":{"count":100}}'
Part = Callable[[Ground, int, int], None]


def run(ground: Ground, jobs: int, rounds: int, wanted: Sequence[str]) -> None:
    unknown = set(wanted) - set(PARTS)
    if unknown:
        raise Failed(f"--scale has no {', '.join(sorted(unknown))}; it has {', '.join(PARTS)}")
    for name, part in PARTS.items():
        if not wanted or name in wanted:
            ground.empty()
            print(f"\n### {name}\n", flush=True)
            part(ground, jobs, rounds)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fill(ground: Ground, base: str, place: str, first: int, last: int, keep: str = KEEP_ALL) -> None:
    script = ground.raw.register_script(FILL)
    for begin in range(first, last + 1, AT_ONCE):
        end = min(begin + AT_ONCE - 1, last)
        script(args=[base, place, begin, end, int(time.time() * 1000), keep])


# --- depth --------------------------------------------------------------------------------------------


def _depth(ground: Ground, jobs: int, rounds: int) -> None:
    figures: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for place in ("waiting", "delayed", "prioritized"):
        for at in range(rounds):
            for many in (FEW, jobs)[:: -1 if at % 2 else 1]:
                _say(f"round {at + 1} of {rounds}: {many:,} {place}")
                for what, value in _cost(ground, place, many).items():
                    figures[place, what, many].append(value)
    print(f"| {COUNTED:,} jobs beside those that are | | with {FEW:,} | with {jobs:,} | more by |")
    print("|---|---|---:|---:|---:|")
    for (place, what, many), values in figures.items():
        if many == FEW and (place, what, jobs) in figures:
            few, most = statistics.median(values), statistics.median(figures[place, what, jobs])
            print(f"| {place} | {what} | {few:.1f} | {most:.1f} | {100 * (most / few - 1):+.0f} % |")


def _counted(ground: Ground, jobs: int, rounds: int) -> None:
    print(f"| thousands of instructions a job | | with {FEW:,} | with {jobs:,} | more by |")
    print("|---|---|---:|---:|---:|")
    for place in depth.PLACES:
        _say(f"{FEW:,} and {jobs:,} {place}, under callgrind")
        few, most = (depth.cost(place, many, FILL) for many in (FEW, jobs))
        for what, value in few.items():
            more = 100 * (most[what] / value - 1)
            print(f"| {place} | {what} | {value:.1f} | {most[what]:.1f} | {more:+.1f} % |", flush=True)


def _cost(ground: Ground, place: str, many: int) -> dict[str, float]:
    """Microseconds a job."""
    ground.empty()
    _fill(ground, f"bull:{QUEUE}", place, 1, many)
    _settle(ground)
    before = ground.spent()
    asyncio.run(_add(ground, place))
    added = ground.spent()
    with working(ground, oxherd(ground, SLOTS)) as worker:
        worker.wait_done(COUNTED)
        done, count = ground.spent(), worker.done()
    to_add, to_do = (added.cpu_s - before.cpu_s) / COUNTED, (done.cpu_s - added.cpu_s) / count
    return {
        "to add, CPU of Redis, us": to_add * 1e6,
        "to do, CPU of Redis, us": to_do * 1e6,
        "both, CPU of Redis, us": (to_add + to_do) * 1e6,
        "to add, in scripts, us": (added.script_s - before.script_s) / COUNTED * 1e6,
        "to do, in scripts, us": (done.script_s - added.script_s) / count * 1e6,
    }


def _settle(ground: Ground) -> None:
    """Until Redis has no more to tidy up after so many new keys."""
    seen: list[float] = []

    def is_idle() -> bool:
        seen.append(ground.spent().cpu_s)
        return len(seen) > 1 and seen[-1] - seen[-2] < 0.01

    wait_for(is_idle, "an idle Redis", 60, every_s=0.5)


async def _add(ground: Ground, place: str) -> None:
    def options(i: int) -> dict[str, int]:
        if place == "delayed":
            return {"delay_ms": 1}
        return {"priority": i % PRIORITIES + 1} if place == "prioritized" else {}

    async with Queue(QUEUE, url=ground.url, prefix="bull") as queue:
        for first in range(0, COUNTED, AT_ONCE):
            await queue.add_bulk([("noop", {"i": i}, options(i)) for i in range(first, first + AT_ONCE)])


# --- queues -------------------------------------------------------------------------------------------


def _queues(ground: Ground, jobs: int, rounds: int) -> None:
    whole = QUEUES * min(EACH, max(1, jobs // QUEUES))
    command = [sys.executable, "-m", "oxherd", "run", "many_queues", "--redis", ground.url]
    many = Contender(f"{QUEUES} queues of one slot", "oxherd", sys.executable, command)
    one = oxherd(ground, QUEUES, name=f"one queue of {QUEUES} slots")
    names = {many.name: [f"{QUEUE}-{number}" for number in range(QUEUES)], one.name: [QUEUE]}
    print(
        f"| {whole:,} jobs | jobs/s | master, CPU us a job | Redis, CPU us a job | PSS MB | connections",
        end="",
    )
    print(" | idle: master's CPU | Redis' CPU | its commands/s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for who in (many, one):
        taken = []
        for at in range(rounds):
            _say(f"round {at + 1} of {rounds}: {who.name}")
            taken.append(_master_with(ground, who, names[who.name], whole))
        print(f"| {who.name} | {' | '.join(_row([*map(list, zip(*taken, strict=True))]))} |", flush=True)


def _row(columns: list[list[float]]) -> list[str]:
    rate, main, redis_us, pss, connections, idle, redis_idle, commands = map(statistics.median, columns)
    cells = [f"{rate:,.0f}", f"{main:.0f}", f"{redis_us:.0f}", f"{pss:.0f}", f"{connections:.0f}"]
    return [*cells, f"{100 * idle:.1f} %", f"{100 * redis_idle:.1f} %", f"{commands:.0f}"]


def _master_with(ground: Ground, who: Contender, queues: Sequence[str], whole: int) -> list[float]:
    ground.empty()
    for number, name in enumerate(queues):
        each = whole // len(queues)
        _fill(ground, f"bull:{name}", "waiting", number * each + 1, (number + 1) * each)
    before = ground.spent()
    with working(ground, who) as worker:
        worker.wait_done(whole)
        done, main = ground.spent(), family(worker.pid)[0].cpu_s
        records = worker.records()
        span_s = max(each.end_at for each in records) - min(each.start_at for each in records)
        pids = [each.pid for each in worker.family()]
        idle = _idle(ground, worker.pid)
        connected = len(ground.raw.client_list()) - 1
        return [
            *(whole / span_s, main / whole * 1e6, (done.cpu_s - before.cpu_s) / whole * 1e6),
            *(pss_mib(pids), connected, *idle),
        ]


def _idle(ground: Ground, pid: int) -> list[float]:
    """Of a second without a job: the master's CPU, Redis' CPU, the commands."""
    time.sleep(1)
    redis_s, commands, cpu_s = ground.spent().cpu_s, _commands(ground), family(pid)[0].cpu_s
    time.sleep(IDLE_S)
    spent = family(pid)[0].cpu_s - cpu_s, ground.spent().cpu_s - redis_s, _commands(ground) - commands
    return [each / IDLE_S for each in spent]


def _commands(ground: Ground) -> int:
    return int(ground.raw.info("stats")["total_commands_processed"])


# --- life ---------------------------------------------------------------------------------------------


def _life(ground: Ground, jobs: int, rounds: int) -> None:
    """Twenty looks at the master, the queue never empty."""
    step, ahead = max(1, jobs // 20), min(jobs, 50_000)
    print("| jobs done | the master's PSS, MB | all processes, MB | Redis, MB |\n|---:|---:|---:|---:|")
    filled, seen = ahead, []
    _fill(ground, f"bull:{QUEUE}", "waiting", 1, filled, KEEP_FEW)
    with working(ground, oxherd(ground, SLOTS)) as worker:
        for look in range(step, jobs + 1, step):
            while filled < min(jobs, look + ahead // 2):
                more = min(ahead // 2, jobs - filled)
                _fill(ground, f"bull:{QUEUE}", "waiting", filled + 1, filled + more, KEEP_FEW)
                filled += more
            worker.wait_done(look)
            whole = pss_mib([each.pid for each in worker.family()])
            seen.append(pss_mib([worker.pid]))
            redis_mib = ground.raw.info("memory")["used_memory"] / MIB
            print(f"| {look:,} | {seen[-1]:.1f} | {whole:.1f} | {redis_mib:.0f} |", flush=True)
    warm = seen[len(seen) // 5] if len(seen) > 5 else seen[0]
    print(f"\nFrom the first fifth on the master has grown by {seen[-1] - warm:+.1f} MB.")


def _masters(ground: Ground, jobs: int, rounds: int) -> None:
    masters.run(ground, jobs, _say)


PARTS: Final[dict[str, Part]] = {
    "depth": _depth,
    "counted": _counted,
    "queues": _queues,
    "masters": _masters,
    "life": _life,
}
