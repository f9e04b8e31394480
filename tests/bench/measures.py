"""The measures. Each takes a contender and gives figures by name; none judges them.

throughput   jobs a second: COUNT no-op jobs wait before the worker starts; COUNT / (last end - first start).
             Beside it by job: CPU of Redis, its time in scripts, script calls, CPU of the main process and
             of the others since the launch. For ours also what Redis could do: see bound.py.
cpu          how much of two cores is useful: 20 ms of computing a job / (wall x 2), Redis on the same cores.
latency      ms from the call of `add` to the end of the job; an idle worker, one job at a time, 10 ms apart;
             by the system's own producer.
start        seconds from the launch of the worker to the end of its first job, one job waiting.
memory       PSS of all processes of the worker in MiB, idle, after every slot has run a job of 1 s.
fresh        jobs a second when each job has a process of its own.
adding       jobs a second that one producer adds: one call after the other, and 1,000 in a call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import bound
from contenders import numpy_path
from ground import Contender, Failed, Ground, Mark, pss_mib, wait_for, working

Figures = dict[str, float]
BURN_S: Final = 0.020
CORES: Final = 2
SETTLING_S: Final = 1.5
MOST_JOBS: Final = 60_000


@dataclass
class Size:
    """How much is done for one figure. `rates` learns how fast each contender is."""

    seconds: float = 4.0
    latency_jobs: int = 200
    burns: int = 300
    adds: int = 3_000
    bulk: int = 20_000
    bound_jobs: int = 20_000
    rates: dict[str, float] = field(default_factory=dict)

    def jobs(self, who: Contender) -> int:
        return int(min(MOST_JOBS, max(10, self.rates.get(who.name, who.guess) * self.seconds)))


QUICK: Final = Size(0.05, 10, 10, 100, 500, 200)
Measure = Callable[[Ground, Contender, Size], Figures]


def throughput(ground: Ground, who: Contender, size: Size) -> Figures:
    figures = of_no_ops(ground, who, size)
    if who.peer == "oxherd":
        per_call = 1 / figures["script calls"]
        figures |= bound.drive(ground, max(1.0, per_call), size.bound_jobs)
        figures["share"] = figures["jobs/s"] / figures["bound jobs/s"]
    return figures


def fresh(ground: Ground, who: Contender, size: Size) -> Figures:
    return of_no_ops(ground, who, size)


def of_no_ops(ground: Ground, who: Contender, size: Size) -> Figures:
    count = size.jobs(who)
    ground.empty()
    ground.produce(who, "fill", "noop", count)
    ground.raw.config_resetstat()
    before = ground.spent()
    with working(ground, who) as worker:
        worker.wait_done(count)
        after, usage, records = ground.spent(), worker.family(), worker.records()
        if who.peer in ("oxherd", "node", "bullmq"):
            wait_for(lambda: ground.completed() == count, f"{count} completed jobs in Redis", 30)
    if len({record.number for record in records}) != count or len(records) != count:
        raise Failed(f"{who.name}: {len(records)} runs of {count} jobs")
    rate = count / _span_s(records)
    size.rates[who.name] = rate
    return {
        "jobs": count,
        "jobs/s": rate,
        "Redis CPU us": (after.cpu_s - before.cpu_s) / count * 1e6,
        "script us": (after.script_s - before.script_s) / count * 1e6,
        "script calls": (after.script_calls - before.script_calls) / count,
        "main CPU us": usage[0].cpu_s / count * 1e6,
        "other CPU us": sum(each.cpu_s for each in usage[1:]) / count * 1e6,
    }


def _span_s(records: list[Mark]) -> float:
    return max(record.end_at for record in records) - min(record.start_at for record in records)


def cpu(ground: Ground, who: Contender, size: Size) -> Figures:
    ground.empty()
    ground.produce(who, "fill", "burn", size.burns)
    with working(ground, who) as worker:
        worker.wait_done(size.burns)
        records = worker.records()
    firsts: dict[int, float] = {}
    for record in sorted(records):
        firsts.setdefault(record.pid, record.start_at)
    figures = {"efficiency": size.burns * BURN_S / (_span_s(records) * CORES), "processes": len(firsts)}
    if len(firsts) > 1:  # without the time in which only the first was there
        late = [record for record in records if record.start_at >= sorted(firsts.values())[1]]
        figures["efficiency of both"] = len(late) * BURN_S / (_span_s(late) * CORES)
    return figures


def latency(ground: Ground, who: Contender, size: Size) -> Figures:
    ground.empty()
    with working(ground, who) as worker:
        ground.produce(who, "fill", "noop", 4)
        worker.wait_done(4)
        time.sleep(1)  # it is idle then, whatever it still had to do
        said = ground.produce(who, "latency", "noop", size.latency_jobs, worker.marks)
    return {"p50 ms": said["p50"], "p99 ms": said["p99"]}


def start(ground: Ground, who: Contender, size: Size) -> Figures:
    ground.empty()
    ground.produce(who, "fill", "noop", 1)
    with working(ground, who) as worker:
        worker.wait_done(1)
        return {"s": worker.records()[0].end_at - worker.began_at}


def memory(ground: Ground, who: Contender, size: Size) -> Figures:
    return _memory(ground, who, "", {})


def memory_with_numpy(ground: Ground, who: Contender, size: Size) -> Figures:
    """As NumPy comes, and told to start no threads of its own, as one does where a job has a core."""
    where = numpy_path()
    if where is None:
        raise Failed("NumPy could not be installed (see .state/install.log)")
    env = {"BENCH_NUMPY": "1", "PYTHONPATH": f"{ground.environment()['PYTHONPATH']}:{where}"}
    alone = {**env, "OPENBLAS_NUM_THREADS": "1"}
    return _memory(ground, who, " with NumPy", env) | _memory(ground, who, " with NumPy of one thread", alone)


def _memory(ground: Ground, who: Contender, kind: str, env: dict[str, str]) -> Figures:
    slots = int(who.name.rpartition(" ")[2])
    ground.empty()
    with working(ground, who, env) as worker:
        ground.produce(who, "fill", "sleep", slots)
        worker.wait_done(2 * slots)
        time.sleep(SETTLING_S)
        pids = [each.pid for each in worker.family()]
        return {f"MiB{kind}": pss_mib(pids), f"processes{kind}": len(pids)}


def adding(ground: Ground, who: Contender, size: Size) -> Figures:
    ground.empty()
    one = ground.produce(who, "one", "noop", size.adds)["rate"]
    ground.empty()
    bulk = ground.produce(who, "bulk", "noop", size.bulk)["rate"]
    ground.empty()
    return {"one/s": one} | ({"bulk/s": bulk} if bulk is not None else {})


@dataclass(frozen=True)
class Plan:
    """Which contenders a measure is taken of: ours, and those that its row of the aims names."""

    measure: Measure
    contenders: tuple[str, ...]


PLANS: Final = {
    "throughput": Plan(
        throughput,
        (
            *("Oxherd 16", "Node inline 50", "Node sandboxed 4", "Oxherd 8", "Oxherd 2"),
            *("Taskiq 2", "Huey 2", "Dramatiq 2x8", "Celery prefork 2", "PyPI bullmq 50"),
        ),
    ),
    "cpu": Plan(cpu, ("Oxherd 2", "Huey 2", "Taskiq 2", "Celery prefork 2", "Node sandboxed 2")),
    "latency": Plan(latency, ("Oxherd 2", "Huey 2", "Node inline 1", "Node sandboxed 2")),
    "start": Plan(
        start,
        ("Oxherd 2", "PyPI bullmq 1", "Huey 2", "RQ fork", "Node sandboxed 2", "Celery prefork 2"),
    ),
    "memory": Plan(
        memory,
        (
            *("Oxherd 2", "Oxherd 8", "Huey 2", "Huey 8", "Node sandboxed 2", "Node sandboxed 8"),
            *("Celery prefork 2", "Celery prefork 8"),
        ),
    ),
    "numpy": Plan(memory_with_numpy, ("Oxherd 2", "Oxherd 8", "Huey 2", "Huey 8")),
    "fresh": Plan(fresh, ("Oxherd fresh 2", "Oxherd fresh 8", "RQ fork", "Celery fresh 2")),
    "adding": Plan(adding, ("Oxherd 2", "Huey 2", "Node inline 1")),
}
