"""`oxherd recommend`: limits from what the jobs of a queue have needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import click

from supervisor.cli import masters
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, note, out, padded, span
from supervisor.cli.slots_view import UNKNOWN, size
from supervisor.errors import MasterNotFound
from supervisor.observe.spread import Spread
from supervisor.protocol.validate import check_queue_name

LEAST: Final = 100  # attempts below which nothing is recommended; the 99th of a hundred is one of them
MB: Final = 2**20
_MEMORY_STEPS: Final = (1, 1.25, 1.5, 1.75)
_TIME_STEPS: Final = (1, 2, 5, 10, 15, 20, 30, 45, 60)


class Kind(NamedTuple):
    """What is measured, and the limit that follows from it.

    option     of [policy].
    times      the largest that was seen is allowed so many times over.
    """

    name: str
    title: str
    option: str
    times: float


KINDS: Final = (
    Kind("ran_ms", "time", "timeout", 3.0),
    Kind("cpu_ms", "CPU", "cpu", 3.0),
    Kind("peak_bytes", "memory", "memory", 1.5),
    Kind("processes", "processes", "processes", 2.0),
)


@command(
    "recommend",
    exits="0 a limit is recommended, 1 too little is known for any, or no master of yours serves the queue, "
    "2 wrong usage or config",
    example="oxherd recommend thumbnails",
)
@click.argument("queue", required=False)
def recommend(common: Common, queue: str | None) -> int:
    """Recommend limits for the jobs of QUEUE, or of all, from what they have used since the masters of yours
    on this host were started, with the evidence: how many attempts were measured, the median, the 99th of a
    hundred, the largest.

    A limit is a multiple of the largest that was seen: 3 times for time and CPU time, 1.5 times for memory,
    twice for processes. From fewer than 100 attempts nothing is recommended: the rare large job has not come
    yet. Attempts of less than 20 ms are not measured. An attempt that was cut off, by a limit or otherwise,
    has told only that it needed more; how many there were is said. Memory is that of attempts that made their
    runner larger, or lasted a second.
    """
    found = _found(common, queue)
    recommended = False
    for number, (name, jobs) in enumerate(sorted(found.items())):
        limits = _limits_of(jobs)
        recommended = recommended or any(limits.values())
        if common.json:
            for job_name, known in jobs.items():
                out(as_json({"queue": name, "name": job_name, **known.record()}))
            out(as_json({"queue": name, "name": None, "limits": limits}))
            continue
        out(("\n" if number else "") + "\n".join(_lines(name, jobs, limits)))
    if not recommended:
        note(f"oxherd: nothing is recommended: less than {LEAST} attempts of 20 ms and more were measured")
    return 0 if recommended else 1


class Known:
    """What is known of the jobs of one name, from all masters together."""

    def __init__(self) -> None:
        self.short = 0
        self.cut_off: dict[str, int] = {}
        self.spreads = {kind.name: Spread() for kind in KINDS}

    def take(self, plain: dict[str, Any]) -> None:
        self.short += plain["short"]
        for cause, count in plain["cut_off"].items():
            self.cut_off[cause] = self.cut_off.get(cause, 0) + count
        for name, spread in self.spreads.items():
            spread.merge(plain[name])

    def record(self) -> dict[str, Any]:
        return {
            "short": self.short,
            "cut_off": self.cut_off,
            **{name: _evidence(spread) for name, spread in self.spreads.items()},
        }


def _evidence(spread: Spread) -> dict[str, Any]:
    return {
        "n": spread.count,
        "p50": spread.at(0.5),
        "p99": spread.at(0.99),
        "max": spread.most if spread.count else None,
    }


def _found(common: Common, queue: str | None) -> dict[str, dict[str | None, Known]]:
    if queue is not None:
        check_queue_name(queue)
    there = masters.running(common)
    if not there:
        masters.the_one(common)  # says so
    found: dict[str, dict[str | None, Known]] = {}
    for master in there:
        for name, jobs in masters.ask(master, "needs")["queues"].items():
            if queue is None or name == queue:
                known = found.setdefault(name, {})
                for each in jobs:
                    known.setdefault(each["name"], Known()).take(each)
    if queue is not None and not found:
        raise MasterNotFound(f"no master of yours on this host serves the queue {queue!r}")
    return found


def _limits_of(jobs: dict[str | None, Known]) -> dict[str, int | None]:
    """Option -> the limit that all jobs of a queue have room in; None for what too little is known of."""
    limits: dict[str, int | None] = {}
    for kind in KINDS:
        spreads = [known.spreads[kind.name] for known in jobs.values() if known.spreads[kind.name].count]
        enough = sum(spread.count for spread in spreads) >= LEAST
        most = max((spread.most for spread in spreads), default=0)
        limits[kind.option] = rounded(kind, most * kind.times) if enough and most else None
    return limits


def rounded(kind: Kind, value: float) -> int:
    """Up to a number that people write."""
    if kind.name == "processes":
        return max(4, round(value + 0.499))
    if kind.name == "peak_bytes":
        worth = 16 * MB
        while 2 * worth < value:
            worth *= 2
        return round(next((step * worth for step in _MEMORY_STEPS if step * worth >= value), 2 * worth))
    unit = next(unit for unit in (1_000, 60_000, 3_600_000) if value <= 60 * unit or unit == 3_600_000)
    for step in _TIME_STEPS:
        if step * unit >= value:
            return step * unit
    return -(-round(value) // unit) * unit


def _lines(name: str, jobs: dict[str | None, Known], limits: dict[str, int | None]) -> Iterator[str]:
    for job_name, known in sorted(jobs.items(), key=lambda one: one[0] or ""):
        whose = clean(job_name) if job_name is not None else "(other names)"
        short = f", {known.short:,} shorter than 20 ms" if known.short else ""
        yield f"{clean(name)} / {whose}: {known.spreads['ran_ms'].count:,} attempts measured{short}"
        for kind in KINDS:
            yield _row(kind, known.spreads[kind.name])
        for cause, count in sorted(known.cut_off.items()):
            yield f"  {count:,} cut off, {cause}: they needed more than is shown"
    chosen = [(kind, limit) for kind in KINDS if (limit := limits[kind.option]) is not None]
    if chosen:
        yield ""
        yield f"[queue.{_key(name)}.policy]"
        for kind, limit in chosen:
            value = str(limit) if kind.name == "processes" else f'"{_setting(kind, limit)}"'
            yield f"{kind.option} = {value}"
    unknown = [kind.option for kind in KINDS if limits[kind.option] is None]
    if unknown:
        yield f"# too little is known for {', '.join(unknown)}: {LEAST} attempts are needed"


def _key(name: str) -> str:
    plain = name.replace("-", "").replace("_", "")
    return name if plain.isalnum() and plain.isascii() else f'"{clean(name)}"'


def _row(kind: Kind, spread: Spread) -> str:
    cells = [_spelled(kind, spread.at(share)) for share in (0.5, 0.99)]
    cells.append(_spelled(kind, spread.most if spread.count else None))
    titled = zip(("p50", "p99", "max"), cells, strict=True)
    return f"  {padded(kind.title, 10)} n {spread.count:>8,}   " + "   ".join(
        f"{title} {padded(cell, 8, right=True)}" for title, cell in titled
    )


def _spelled(kind: Kind, value: float | None) -> str:
    if value is None:
        return UNKNOWN
    if kind.name == "peak_bytes":
        return size(value)
    return f"{value:.0f}" if kind.name == "processes" else span(value)


def _setting(kind: Kind, limit: int) -> str:
    if kind.name == "peak_bytes":
        return f"{limit // MB}M"
    for unit, letter in ((3_600_000, "h"), (60_000, "m"), (1_000, "s")):
        if limit % unit == 0:
            return f"{limit // unit}{letter}"
    return f"{limit}ms"
