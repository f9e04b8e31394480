"""`oxherd ps`: the processes of the masters that run here, once."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from supervisor.cli import masters
from supervisor.cli.command import Common, command
from supervisor.cli.render import as_json, clean, note, out
from supervisor.cli.slots_view import (
    pool_line,
    proof_line,
    queues_table,
    redis_line,
    slots_table,
    spares_line,
    title_line,
)
from supervisor.errors import MasterNotFound, MasterRefused

WIDE = 160  # where nobody says how wide the output is
ANSWERS_WITHIN_S = 5.0  # one that stands still must not hide the others for long


@command(
    "ps",
    exits="0 done, 1 no master of yours runs here, or one does not answer, 2 wrong usage or config",
    example="oxherd ps --json | jq '.slots[] | select(.phase == \"busy\") | .tree.anon_bytes'",
)
@click.option("--pid", type=int, metavar="PID", help="only the master with this process id")
@click.option("--trees", is_flag=True, help="also the processes that runners have started")
def ps(common: Common, pid: int | None, trees: bool) -> int:
    """Show the queues and the slots of each master of yours on this host, and the processes in them.

    CPU% is that of one core since the look before, so a first look has none. MEM is what the processes of a
    runner hold in memory that is no file's (RssAnon); what they share with the template counts in each. PSS,
    open files, READ and WRIT (io) are the runner's own, up to 30 s old; where the kernel tells the master
    nothing the runner says it itself, between two jobs. `-` stands for what is not known.
    LOCK is how long the lock of the job is still trusted; it is renewed at half its duration.
    Columns that do not fit are left out; with --json one object a master has everything.
    """
    chosen = [masters.the_one(common, pid)] if pid is not None else masters.running(common)
    if not chosen:
        masters.the_one(common)  # says so
    status = 0
    for number, master in enumerate(chosen):
        try:
            found = looked_at(master, ANSWERS_WITHIN_S, dear=True)
        except (MasterNotFound, MasterRefused) as error:
            note(f"oxherd: {clean(str(error))}")
            status = 1
            continue
        if common.json:
            out(as_json(found))
        else:
            width = shutil.get_terminal_size((WIDE, 24)).columns if sys.stdout.isatty() else WIDE
            out(("\n" if number else "") + "\n".join(_lines(found, width, trees)))
    return status


def _lines(found: dict[str, Any], width: int, trees: bool) -> Iterator[str]:
    yield from (title_line(found, width), redis_line(found, width), *proof_line(found, width))
    yield from (*spares_line(found, width), *pool_line(found, width))
    yield from ("", *queues_table(found, width), "")
    for line, _ in slots_table(found["slots"], width, trees=trees, plain=not_utf8()):
        yield line


def looked_at(master: masters.Master, within_s: float, **how: Any) -> dict[str, Any]:
    """What this master tells now; `asked_on` is when, in epoch milliseconds."""
    found = masters.ask(master, "look", within_s=within_s, **how)
    return {**found, "asked_on": time.time_ns() // 1_000_000}


def not_utf8() -> bool:
    """The output cannot carry the blocks of a bar."""
    return (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
