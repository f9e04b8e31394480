"""The benchmark: which measures are taken of whom, in which order, and what is kept of them.

No test: it says what meets the aims and fails for nothing. The rounds go over all contenders in turn, every
other one backwards, so that what else the machine does meets each of them alike. Each figure is kept when it
is taken; a run that was interrupted has a report of the rounds it had.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import containment
import imports
import machine
import report
import scale
import slowlog
from contenders import Field, all_of
from ground import STATE, Contender, Failed, Ground, standing
from measures import PLANS, QUICK, Size


def main(argv: Sequence[str]) -> int:
    parser = _parser()
    asked = parser.parse_args(argv)
    try:
        if asked.write is not None:
            report.around(asked.write)  # now, and not when the run is over
        if asked.kept is not None:
            report.read(asked.kept)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, _stop)
    for wanted, other in (
        (asked.slowlog is not None, lambda ground: slowlog.run(ground, asked.slowlog)),
        (asked.sandbox, lambda ground: containment.run(ground, asked.rounds, asked.measure)),
        (asked.scale is not None, lambda ground: scale.run(ground, asked.scale, asked.rounds, asked.measure)),
    ):
        if wanted:
            return _alone(other)
    kept, status = asked.kept, 0
    if kept is None:
        kept = _kept_of_now() if asked.keep is None else asked.keep
        try:
            with standing() as ground, kept.open("w") as file:
                _Run(ground, asked, file).all()
        except KeyboardInterrupt:
            print("interrupted: the rounds are not complete", file=sys.stderr)
            status = 130
        except Failed as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    text = report.made(report.read(kept), kept)
    print(text)
    print(f"rows: {kept}")
    if asked.write is not None:
        report.write_into(asked.write, text)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("measure", nargs="*", help=f"only these, of {', '.join([*PLANS, 'imports'])} (default: all)")
    add("--rounds", type=_count, default=5, help="how often each is taken (default: 5)")
    add("--quick", action="store_true", help="one round with few jobs, to see that everything works")
    add("--without-peers", action="store_true", help="measure Oxherd alone")
    add("--keep", type=Path, metavar="FILE", help="where the rows go (default: .state/bench/)")
    add("--from", dest="kept", type=Path, metavar="FILE", help="measure nothing: the table of these rows")
    add("--write", type=Path, metavar="PAGE", help="put the report between the marks of this page, too")
    million = {"nargs": "?", "type": _count, "const": 1_000_000, "metavar": "JOBS"}
    add(
        "--scale",
        **million,
        help="instead: long queues, many queues, many masters, a long life; at most so many jobs",
    )
    add("--slowlog", **million, help="instead: how long single calls of the management hold Redis")
    add("--sandbox", action="store_true", help="instead: what isolation costs, how fast a tree is ended")
    return parser


def _count(text: str) -> int:
    value = int(text.replace(",", "").replace("_", ""))
    if value < 1:
        raise ValueError(text)
    return value


_count.__name__ = "number from 1 on"  # argparse says it


def _stop(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt  # so that every block ends what it has started


def _kept_of_now() -> Path:
    home = STATE / "bench"
    home.mkdir(parents=True, exist_ok=True)
    return home / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"


def _alone(other: Callable[[Ground], None]) -> int:
    try:
        with standing() as ground:
            other(ground)
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"\n{machine.line()}")
    return 0


class _Run:
    """All rounds of all measures."""

    def __init__(self, ground: Ground, asked: argparse.Namespace, file: Any) -> None:
        self._ground = ground
        self._file = file
        self._size = QUICK if asked.quick else Size()
        self._rounds = 1 if asked.quick else asked.rounds
        unknown = set(asked.measure) - {*PLANS, "imports"}
        if unknown:
            raise Failed(
                f"there is no measure {', '.join(sorted(unknown))}; there are {', '.join(PLANS)}, imports"
            )
        self._wanted = asked.measure or [*PLANS, "imports"]
        self._field = all_of(ground, with_peers=not asked.without_peers)
        self._keep({**machine.facts(), "missing": self._field.missing, "quick": asked.quick})
        for who, why in self._field.missing.items():
            print(f"LEFT OUT  {who}: {why}", file=sys.stderr, flush=True)

    def all(self) -> None:
        if "imports" in self._wanted:
            self._keep({"lines": imports.report(self._ground)})
        for at in range(self._rounds):
            for measure, who in _steps(self._field, self._wanted, backwards=at % 2 == 1):
                print(
                    f"round {at + 1} of {self._rounds}: {measure} of {who.name}", file=sys.stderr, flush=True
                )
                self._keep(self._taken(at, measure, who))

    def _taken(self, at: int, measure: str, who: Contender) -> dict[str, Any]:
        row: dict[str, Any] = {
            "measure": measure,
            "contender": who.name,
            "round": at,
            "on": round(time.time()),
        }
        others = machine.Others(self._ground)
        try:
            row["figures"] = PLANS[measure].measure(self._ground, who, self._size)
        except Failed as error:
            row["error"] = str(error)
            print(f"  {error}", file=sys.stderr, flush=True)
        return {**row, "others": others.cores(), "load": round(os.getloadavg()[0], 2)}

    def _keep(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def _steps(field: Field, wanted: Sequence[str], *, backwards: bool) -> list[tuple[str, Contender]]:
    steps = [
        (measure, field.by_name[name])
        for measure, plan in PLANS.items()
        if measure in wanted
        for name in plan.contenders
        if name in field.by_name
    ]
    return steps[::-1] if backwards else steps


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
