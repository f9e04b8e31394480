"""The measures. Each takes the ground and gives figures by name; none judges them.

throughput   jobs a second: COUNT no-op jobs wait before the worker starts; COUNT / (last end - first start).
             CPU is that of all processes of the worker, from the start to the last job, by job.
adding       jobs a second that one producer adds: one call after the other, and 1,000 in a call.
latency      milliseconds from the call of `add` to the end of the processor, of an idle worker; one job at a
             time, 10 ms apart. The same producer for every worker.
start        milliseconds from the launch of the worker to the end of its first job, one job waiting.
memory       PSS of all processes of the worker in MB, idle, after each runner has done a job or more.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Sequence
from functools import partial

from ground import HERE, QUEUE, Failed, Ground, Worker, family, wait_for, working

from supervisor.client import Queue

BULK = 1_000
Figures = dict[str, float]


async def _fill(ground: Ground, count: int) -> None:
    async with Queue(QUEUE, url=ground.url, prefix="bull") as queue:
        for first in range(0, count, BULK):
            await queue.add_bulk([("noop", {"i": i}) for i in range(first, min(count, first + BULK))])


def throughput(ground: Ground, command: Sequence[str], name: str, count: int) -> Figures:
    ground.empty()
    asyncio.run(_fill(ground, count))
    redis_cpu_s = family(ground.server.pid)[0].cpu_s
    with working(ground, command) as worker:
        worker.wait_done(count)
        usage = family(worker.pid)
        redis_cpu_s = family(ground.server.pid)[0].cpu_s - redis_cpu_s
        wait_for(lambda: ground.completed() == count, f"{count} completed jobs in Redis", 30)
        records = worker.records()
    if len({record.number for record in records}) != count or len(records) != count:
        raise Failed(f"{len(records)} runs of {count} jobs")
    took_s = max(record.end_at for record in records) - min(record.start_at for record in records)
    return {
        f"jobs/s, {name}": count / took_s,
        f"main process CPU µs/job, {name}": usage[0].cpu_s / count * 1e6,
        f"other processes CPU µs/job, {name}": sum(each.cpu_s for each in usage[1:]) / count * 1e6,
        f"Redis CPU µs/job, {name}": redis_cpu_s / count * 1e6,
    }


def adding(ground: Ground, count: int, *, with_node: bool) -> Figures:
    ground.empty()
    figures = asyncio.run(_adding(ground, count))
    if not with_node:
        return figures
    for how, times in (("one", 1), ("bulk", 10)):
        ground.empty()
        command = ["node", str(HERE / "produce.mjs"), str(ground.port), QUEUE, how, str(count * times)]
        said = subprocess.run(command, check=True, capture_output=True, text=True)
        figures[f"add {_HOW[how]}, jobs/s, Node"] = float(said.stdout)
    return figures


_HOW = {"one": "one by one", "bulk": f"{BULK:,} at once"}


async def _adding(ground: Ground, count: int) -> Figures:
    async with Queue(QUEUE, url=ground.url, prefix="bull") as queue:
        await queue.add("noop", {"i": -1})  # connects, and loads the script
        began_at = time.monotonic()
        for i in range(count):
            await queue.add("noop", {"i": i})
        one = count / (time.monotonic() - began_at)
    ground.empty()
    began_at = time.monotonic()
    await _fill(ground, count * 10)
    bulk = count * 10 / (time.monotonic() - began_at)
    return {f"add {_HOW['one']}, jobs/s, oxherd": one, f"add {_HOW['bulk']}, jobs/s, oxherd": bulk}


def latency(ground: Ground, command: Sequence[str], name: str, count: int) -> Figures:
    ground.empty()
    warming = 5
    with working(ground, command) as worker:
        added_at = asyncio.run(_one_at_a_time(ground, worker, warming + count))
        end_at = {record.number: record.end_at for record in worker.records()}
    taken_ms = sorted((end_at[i] - added_at[i]) * 1000 for i in range(warming, warming + count))
    return {
        f"add to done p50 ms, {name}": taken_ms[count // 2],
        f"add to done p99 ms, {name}": taken_ms[min(count - 1, int(count * 0.99))],
    }


async def _one_at_a_time(ground: Ground, worker: Worker, count: int) -> list[float]:
    """Add each job when the one before it is done; when each was added."""
    added_at = []
    async with Queue(QUEUE, url=ground.url, prefix="bull") as queue:
        for i in range(count):
            await asyncio.sleep(0.01)
            added_at.append(time.monotonic())
            await queue.add("noop", {"i": i})
            wait_for(partial(worker.has_done, i + 1), f"job {i}", 30, every_s=0.0001)
    return added_at


def start(ground: Ground, command: Sequence[str], name: str) -> Figures:
    ground.empty()
    asyncio.run(_fill(ground, 1))
    with working(ground, command) as worker:
        worker.wait_done(1)
        return {f"start to first job done ms, {name}": (worker.records()[0].end_at - worker.began_at) * 1000}


def memory(ground: Ground, command: Sequence[str], name: str, count: int) -> Figures:
    ground.empty()
    asyncio.run(_fill(ground, count))
    with working(ground, command) as worker:
        worker.wait_done(count)
        wait_for(lambda: ground.completed() == count, f"{count} completed jobs in Redis", 30)
        sizes = [each.pss_bytes for each in family(worker.pid)]
    if None in sizes:
        raise Failed("PSS of the runners may be read by root alone")
    return {f"PSS MB of {len(sizes)} processes, {name}": sum(filter(None, sizes)) / 1e6}
