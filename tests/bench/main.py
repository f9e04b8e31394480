"""The benchmark: which measures are taken of which worker, in which order, and the table at the end.

No test: it prints figures and judges none. The rounds go over all workers in turn, so that what else the
machine does meets each of them alike; a figure is the median of the rounds, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import containment
import measures
import slowlog
from ground import HERE, Failed, Ground, node, oxherd, standing

from supervisor import __version__

RUNNERS = (2, 8, 16)
NODES = (8, 50)
FRESH_JOBS = 3_000
MEASURES = ("throughput", "adding", "latency", "start", "memory")
OF_SANDBOX = ("spawning", "killing", "fresh", "memory")
Step = Callable[[], measures.Figures]


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "measure", nargs="*", choices=[*MEASURES, *OF_SANDBOX, []], help="only these (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each is taken (default: 3)")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs of a throughput run (default: 20,000)")
    parser.add_argument("--without-node", action="store_true", help="leave Node's worker out")
    parser.add_argument(
        "--slowlog",
        nargs="?",
        type=int,
        const=1_000_000,
        metavar="JOBS",
        help="instead: how long single calls of the management hold Redis (default: at a million jobs)",
    )
    parser.add_argument(
        "--sandbox",
        action="store_true",
        help=f"instead: what isolation costs and how fast a tree is ended ({', '.join(OF_SANDBOX)})",
    )
    asked = parser.parse_args(argv)
    if asked.slowlog is not None:
        return _slowlog(asked.slowlog)
    figures: dict[str, list[float]] = defaultdict(list)
    notes: list[str] = []
    try:
        with standing() as ground:
            for number in range(asked.rounds):
                _round(ground, number, asked, figures, notes)
    except KeyboardInterrupt:
        notes.append("interrupted: the rounds are not complete")
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    _report(figures, notes, asked.rounds)
    return 0


def _slowlog(jobs: int) -> int:
    try:
        with standing() as ground:
            slowlog.run(ground, jobs)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(f"\n{_machine()}")
    return 0


def _round(
    ground: Ground,
    number: int,
    asked: argparse.Namespace,
    figures: dict[str, list[float]],
    notes: list[str],
) -> None:
    steps = [step for step in _steps(ground, asked) if not asked.measure or step[0] in asked.measure]
    if number % 2:
        steps.reverse()  # so that nobody always goes first
    for measure, who, step in steps:
        print(f"round {number + 1} of {asked.rounds}: {measure} {who}", file=sys.stderr, flush=True)
        try:
            for name, value in step().items():
                figures[name].append(value)
        except Failed as error:
            notes.append(f"{measure} {who}: {error}")
            print(f"  {error}", file=sys.stderr, flush=True)


def _steps(ground: Ground, asked: argparse.Namespace) -> Iterator[tuple[str, str, Step]]:
    if asked.sandbox:
        for profile in containment.PROFILES:
            yield "spawning", profile, partial(containment.spawning, profile)
        yield "spawning", "plain fork", containment.plain_fork
        for profile in ("process", containment.NAMESPACE):
            yield "killing", profile, partial(containment.killing, profile)
        yield "memory", "", containment.memory
        jobs = min(asked.jobs, FRESH_JOBS)
        for profile in ("process", "strict"):
            yield "fresh", profile, partial(containment.fresh, ground, 2, jobs, profile)
            yield "fresh", profile, partial(containment.fresh, ground, 8, jobs, profile)
        return
    ours = [(f"oxherd {n} runners", oxherd(ground, n), oxherd(ground, n, "--burst")) for n in RUNNERS]
    theirs = [(f"Node inline {n}", node(ground, n)) for n in NODES if not asked.without_node]
    for name, _, burst in ours:
        yield "throughput", name, partial(measures.throughput, ground, burst, name, asked.jobs)
    for name, command in theirs:
        yield "throughput", name, partial(measures.throughput, ground, command, name, asked.jobs)
    yield "adding", "", partial(measures.adding, ground, 2_000, with_node=not asked.without_node)
    for name, command in [(name, command) for name, command, _ in ours[:1]] + theirs[:1]:
        yield "latency", name, partial(measures.latency, ground, command, name, 200)
        yield "start", name, partial(measures.start, ground, command, name)
    for name, command, _ in ours[:2]:
        yield "memory", name, partial(measures.memory, ground, command, name, 400)
    for name, command in theirs[:1]:
        yield "memory", name, partial(measures.memory, ground, command, name, 400)


# --- the table ----------------------------------------------------------------------------------------


def _report(figures: dict[str, list[float]], notes: list[str], rounds: int) -> None:
    print(f"\n{_machine()}\n\nMedian of {rounds} interleaved rounds (least to greatest).\n")
    print("| figure | worker | median | rounds |\n|---|---|---:|---|")
    for name, values in sorted(figures.items(), key=_by_kind):
        figure, _, who = name.rpartition(", ")
        spread = f"{_number(min(values))} to {_number(max(values))}"
        print(f"| {figure} | {who} | {_number(statistics.median(values))} | {spread} |")
    node_best = _best(figures, "jobs/s, Node")
    ours = _best(figures, "jobs/s, oxherd 8")
    if node_best and ours:
        print(
            f"\nWith 8 runners oxherd does {ours / node_best:.2f} of Node's best inline worker in this run."
        )
    for note in dict.fromkeys(notes):
        print(f"\nNot measured: {note}")


def _best(figures: dict[str, list[float]], prefix: str) -> float:
    return max(
        (statistics.median(values) for name, values in figures.items() if name.startswith(prefix)), default=0
    )


def _by_kind(item: tuple[str, list[float]]) -> tuple[int, int]:
    order = ["jobs/s", "add ", "add to", "start", "PSS", "main", "other", "Redis"]
    found = [place for place, prefix in enumerate(order) if item[0].startswith(prefix)]
    return (found[-1], 0) if found else (len(order), 0)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _machine() -> str:
    model = next(
        (
            line.partition(": ")[2]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    said = {name: _said(*command) for name, command in _VERSIONS.items()}
    return (
        f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"{said['redis']}, Node {said['node']} with bullmq {said['bullmq']}, "
        f"oxherd {__version__} at {said['commit']}; load {os.getloadavg()[0]:.1f} at the end, "
        f"{time.strftime('%Y-%m-%d')}"
    )


_VERSIONS = {
    "redis": ("sh", "-c", "redis-server --version | sed 's/ server v=/ /; s/ sha.*//'"),
    "node": ("node", "--version"),
    "bullmq": ("node", "-p", f"require('{HERE}/../interop/node_modules/bullmq/package.json').version"),
    "commit": ("git", "-C", str(HERE), "describe", "--always", "--dirty"),
}


def _said(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except OSError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
