"""What is aimed at, row by row: the table of the aims with `at least` and `aim`, and how a run stands to it.

Only judges figures that were taken; a ratio is that of one round, and its median over the rounds counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

BEST: Final = "the best other"
Rounds = Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]  # (measure, contender): round: figures


@dataclass(frozen=True)
class Bar:
    """What a figure is held against: `value`, or so many times that of a contender in the same round."""

    value: float
    of: str = ""

    def text(self, unit: str) -> str:
        return f"{self.value:g} x" if self.of else f"{number(self.value)}{unit}"


@dataclass(frozen=True)
class Goal:
    """One row. `peer` is whom the row names beside us; `BEST` is whoever did best of the others."""

    title: str
    measure: str
    ours: str
    figure: str
    at_least: Bar | None
    aim: Bar | None
    peer: str = ""
    less_is_better: bool = False
    unit: str = ""

    def met(self, bar: Bar, ours: float, ratio: float | None) -> bool:
        have = ours if not bar.of else ratio
        if have is None:
            return False
        return have <= bar.value if self.less_is_better else have >= bar.value


def _to_node(title: str, figure: str, least: float, aim: float) -> Goal:
    inline = "Node inline 50"
    return Goal(
        title, "throughput", "Oxherd 16", figure, Bar(least, inline), Bar(aim, inline), inline, True, " us"
    )


def _pss(title: str, slots: int, least: float | None, aim: float, figure: str = "MiB") -> Goal:
    bar = None if least is None else Bar(least)
    measure = "memory" if figure == "MiB" else "numpy"
    return Goal(title, measure, f"Oxherd {slots}", figure, bar, Bar(aim), f"Huey {slots}", True, " MB")


_16, _NODE, _CHILDREN, _HUEY = "Oxherd 16", "Node inline 50", "Node sandboxed 4", "Huey 2"
GOALS: Final = (
    Goal("no-op jobs/s, 16 slots", "throughput", _16, "jobs/s", Bar(0.7, _NODE), Bar(1.1, _NODE), _NODE),
    Goal(
        "no-op jobs/s, 16 slots",
        "throughput",
        _16,
        "jobs/s",
        Bar(2.5, _CHILDREN),
        Bar(4, _CHILDREN),
        _CHILDREN,
    ),
    Goal("share of the Redis bound", "throughput", _16, "share", Bar(0.25), Bar(0.40)),
    Goal(
        "CPU efficiency, 20 ms jobs, 2 slots", "cpu", "Oxherd 2", "efficiency", Bar(1, BEST), Bar(0.97), BEST
    ),
    Goal(
        "add to done, idle, p50", "latency", "Oxherd 2", "p50 ms", Bar(1, _HUEY), Bar(0.9), _HUEY, True, " ms"
    ),
    Goal(
        "add to done, idle, p99", "latency", "Oxherd 2", "p99 ms", Bar(1, _HUEY), Bar(2.5), _HUEY, True, " ms"
    ),
    Goal("launch to first job done", "start", "Oxherd 2", "s", Bar(0.30), Bar(0.20), BEST, True, " s"),
    _pss("PSS idle, 2 slots", 2, 45, 40),
    _pss("PSS idle, 8 slots", 8, 65, 55),
    _pss("PSS idle, 2 slots, NumPy loaded", 2, None, 55, "MiB with NumPy"),
    _pss("PSS idle, 8 slots, NumPy loaded", 8, None, 75, "MiB with NumPy"),
    _pss("the same, 2 slots, OPENBLAS_NUM_THREADS=1", 2, None, 55, "MiB with NumPy of one thread"),
    _pss("the same, 8 slots, OPENBLAS_NUM_THREADS=1", 8, None, 75, "MiB with NumPy of one thread"),
    Goal(
        "a process for each job, 2 slots, jobs/s",
        "fresh",
        "Oxherd fresh 2",
        "jobs/s",
        Bar(300),
        Bar(500),
        BEST,
    ),
    Goal(
        "a process for each job, 8 slots, jobs/s",
        "fresh",
        "Oxherd fresh 8",
        "jobs/s",
        Bar(300),
        Bar(500),
        BEST,
    ),
    Goal("add one by one, jobs/s", "adding", "Oxherd 2", "one/s", Bar(6_000), Bar(7_000), _HUEY),
    Goal("add in bulk, jobs/s", "adding", "Oxherd 2", "bulk/s", Bar(30_000), Bar(40_000), "Node inline 1"),
    _to_node("Redis' CPU a job", "Redis CPU us", 0.7, 0.5),
    _to_node("Redis' time in scripts a job", "script us", 0.7, 0.5),
)


def table(rounds: Rounds, goals: Sequence[Goal] = GOALS) -> list[str]:
    """Markdown."""
    lines = [
        "| measure | Oxherd | beside it | ratio | at least | | aim | |",
        "|---|---:|---|---:|---:|---|---:|---|",
    ]
    for goal in goals:
        ours = taken(rounds, goal.measure, goal.ours, goal.figure)
        if not ours:
            continue
        have = statistics.median(ours)
        peer, theirs, ratio = _beside(rounds, goal)
        beside = f"{peer}: {number(theirs)}{goal.unit}" if theirs is not None else _absent(goal)
        cells = [goal.title, f"**{number(have)}**{goal.unit}", beside, f"{ratio:.2f}" if ratio else ""]
        for bar in (goal.at_least, goal.aim):
            if bar is None:
                cells += ["", ""]
                continue
            unknown = bar.of and ratio is None
            verdict = "not known" if unknown else "yes" if goal.met(bar, have, ratio) else "**no**"
            cells += [bar.text(goal.unit), verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _absent(goal: Goal) -> str:
    return f"{goal.peer}: not measured" if goal.peer else ""


def _beside(rounds: Rounds, goal: Goal) -> tuple[str, float | None, float | None]:
    """Who is named beside us, its figure, and ours by it."""
    if goal.peer == BEST:
        peers = [who for measure, who in rounds if measure == goal.measure and not who.startswith("Oxherd")]
        medians = {
            who: statistics.median(figures)
            for who in peers
            if (figures := taken(rounds, goal.measure, who, goal.figure))
        }
        if not medians:
            return goal.peer, None, None
        best = (min if goal.less_is_better else max)(medians, key=lambda who: medians[who])
    else:
        best = goal.peer
    theirs = taken(rounds, goal.measure, best, goal.figure)
    if not theirs:
        return best, None, None
    ratios = ratios_of(rounds, goal.measure, goal.figure, goal.ours, best)
    return best, statistics.median(theirs), statistics.median(ratios) if ratios else None


def ratios_of(rounds: Rounds, measure: str, figure: str, ours: str, theirs: str) -> list[float]:
    """Ours by theirs, of each round that has both."""
    mine, other = rounds.get((measure, ours), {}), rounds.get((measure, theirs), {})
    return [
        mine[at][figure] / other[at][figure]
        for at in mine
        if at in other and figure in mine[at] and other[at].get(figure)
    ]


def taken(rounds: Rounds, measure: str, who: str, figure: str) -> list[float]:
    return [each[figure] for each in rounds.get((measure, who), {}).values() if figure in each]


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
