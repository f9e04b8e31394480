"""The report of a run: the table of the aims, then each measure with all who took part. Markdown throughout.

A run is kept as JSON lines in the order in which things happened: one that says on what it was measured, then
one for each measure of each contender of each round, with what else the machine did meanwhile. The report is
made from these alone, at once or later.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import goals
from goals import Rounds, number, taken

QUIET: Final = 0.25  # of a core for all that is not ours
BEGIN, END = "<!-- the figures of ./scripts/bench begin -->", "<!-- the figures end -->"
# measure: its title, and the columns: title, figure
MEASURES: Final[Mapping[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "throughput": (
        "No-op jobs, queue filled before",
        (
            ("jobs/s", "jobs/s"),
            ("Redis' CPU, us a job", "Redis CPU us"),
            ("in scripts, us a job", "script us"),
            ("script calls a job", "script calls"),
            ("main process, CPU us a job", "main CPU us"),
            ("its others, CPU us a job", "other CPU us"),
        ),
    ),
    "cpu": (
        "CPU efficiency: 20 ms jobs in 2 slots",
        (("useful / (wall x 2)", "efficiency"), ("the same while both ran", "efficiency of both")),
    ),
    "latency": ("Add to done, idle", (("p50, ms", "p50 ms"), ("p99, ms", "p99 ms"))),
    "start": ("Launch to first job done", (("s", "s"),)),
    "memory": ("PSS, idle", (("MB (of 1,048,576)", "MiB"), ("processes", "processes"))),
    "numpy": (
        "PSS, idle, NumPy loaded",
        (
            ("as it comes, MB (of 1,048,576)", "MiB with NumPy"),
            ("OPENBLAS_NUM_THREADS=1, MB", "MiB with NumPy of one thread"),
        ),
    ),
    "fresh": (
        "A process for each job",
        (
            ("jobs/s", "jobs/s"),
            ("main process, CPU us a job", "main CPU us"),
            ("its others, CPU us a job", "other CPU us"),
        ),
    ),
    "adding": ("Adding, one producer, jobs/s", (("one by one", "one/s"), ("1,000 in a call", "bulk/s"))),
}
_BOUND: Final = (
    ("jobs/s", "jobs/s"),
    ("the bound, jobs/s", "bound jobs/s"),
    ("jobs a call", "bound a call"),
    ("Redis' CPU, us a job", "bound CPU us"),
    ("share", "share"),
)
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rounds_of(rows: Iterable[Row]) -> Rounds:
    found: dict[tuple[str, str], dict[int, Mapping[str, float]]] = defaultdict(dict)
    for row in rows:
        if "figures" in row:
            found[row["measure"], row["contender"]][row["round"]] = row["figures"]
    return found


def made(rows: Sequence[Row], kept: Path) -> str:
    """The whole report."""
    rounds = rounds_of(rows)
    count = 1 + max((row["round"] for row in rows if "round" in row), default=-1)
    parts = [_head(rows, count, kept), *_warnings(rows)]
    if rounds:
        parts.append("\n".join(goals.table(rounds)))
    parts += [
        _measure(rounds, name, title, columns)
        for name, (title, columns) in MEASURES.items()
        if _any(rounds, name)
    ]
    if _any(rounds, "throughput"):
        ours = {key: value for key, value in rounds.items() if key[1].startswith("Oxherd")}
        parts.append(
            _measure(ours, "throughput", "The Redis bound: our own call at the batch size of the run", _BOUND)
        )
    parts += ["\n".join(row["lines"]) for row in rows if "lines" in row]
    return "\n\n".join(parts) + "\n"


def _any(rounds: Rounds, measure: str) -> bool:
    return any(name == measure for name, _ in rounds)


def _head(rows: Sequence[Row], count: int, kept: Path) -> str:
    said = rows[0]
    versions = ", ".join(f"{name} {version}" for name, version in said["versions"].items())
    return (
        f"{said['machine']}\n\n{versions}\n\n"
        f"Oxherd at {said['commit']}, {said['date']}. Medians of {count} interleaved rounds, least to "
        f"greatest in brackets; a ratio is ours by theirs within a round. Rows: {kept.name}."
    )


def _warnings(rows: Sequence[Row]) -> list[str]:
    lines = [f"**Left out: {who}: {why}.**" for who, why in rows[0]["missing"].items()]
    if rows[0].get("quick"):
        lines.append("**A trial with few jobs: these are no figures.**")
    busy = [row["others"] for row in rows if row.get("others", 0) >= QUIET]
    measured = sum("figures" in row for row in rows)
    if busy:
        lines.append(
            f"**Not a quiet machine: during {len(busy)} of {measured} measurements others kept {QUIET} of a "
            f"core or more busy, {statistics.median(busy):.1f} cores in the middle one of these.**"
        )
    failed = dict.fromkeys(
        f"Not measured: {row['measure']} of {row['contender']}: {row['error'].partition(chr(10))[0]}"
        for row in rows
        if "error" in row
    )
    return [*lines, *failed]


def _measure(rounds: Rounds, name: str, title: str, columns: Sequence[tuple[str, str]]) -> str:
    whos = sorted((who for measure, who in rounds if measure == name), key=_ours_first)
    used = [
        (text, figure) for text, figure in columns if any(taken(rounds, name, who, figure) for who in whos)
    ]
    lines = [
        f"### {title}",
        "",
        f"| | {' | '.join(text for text, _ in used)} |",
        f"|---{'|---:' * len(used)}|",
    ]
    for who in whos:
        cells = [_cell(taken(rounds, name, who, figure)) for _, figure in used]
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ours_first(who: str) -> tuple[bool, str]:
    return not who.startswith("Oxherd"), ""  # else in the order in which they were measured


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = number(statistics.median(values))
    least, most = number(min(values)), number(max(values))
    return middle if least == most else f"{middle} ({least} to {most})"


def write_into(page: Path, text: str) -> None:
    """Put the report between the two marks of a page."""
    before, after = around(page)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")


def around(page: Path) -> tuple[str, str]:
    """What stands before and after the figures of a page. Raises ValueError if it has no place for them."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no place for the figures: the lines {BEGIN} and {END}")
    return before, after
