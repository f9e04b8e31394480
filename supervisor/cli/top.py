"""`oxherd top`: the slots of a master, live, with keys to act on them."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import click

from supervisor.cli import masters
from supervisor.cli.command import Common, command
from supervisor.cli.ctl import scaled
from supervisor.cli.ps import looked_at, not_utf8
from supervisor.cli.render import clean
from supervisor.cli.stack import stack_lines
from supervisor.cli.terminal import Terminal
from supervisor.cli.top_screen import Question, Screen
from supervisor.errors import MasterNotFound, MasterRefused, UsageError

EVERY_S: Final = 1.0
ANSWERS_WITHIN_S: Final = 2.0  # keys wait for it


@command(
    "top",
    exits="0 ended by q or Ctrl-C, 1 no master of yours runs here, 2 wrong usage or config",
    example="oxherd top",
    json=False,
)
@click.option("--pid", type=click.IntRange(min=1), metavar="PID", help="which master, when several run here")
def top(common: Common, pid: int | None) -> int:
    """Show the queues and slots of a master that runs here, once a second, until q is pressed: rates,
    processes, progress, how long locks are still trusted. Keys make a queue quiet, add and take away slots,
    cancel a job, show its stack; ? lists them.

    The master reads /proc only while somebody looks. `oxherd ps` prints the same once, and explains the
    columns.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top needs a terminal; `oxherd ps` prints once, with --json for programs")
    first = masters.the_one(common, pid) if pid is not None else next(iter(masters.running(common)), None)
    watch = _Watch(common, first or masters.the_one(common))
    try:
        with Terminal() as terminal:
            watch.until_told(terminal)
    except KeyboardInterrupt:
        pass
    return 0


class _Watch:
    """One sitting in front of the screen."""

    def __init__(self, common: Common, master: masters.Master) -> None:
        self._common = common
        self._master = master
        self._screen = Screen(plain=not_utf8())

    def until_told(self, terminal: Terminal) -> None:
        due_at = 0.0
        while True:
            if time.monotonic() >= due_at:
                self._look()
                due_at = time.monotonic() + EVERY_S
            terminal.draw(self._screen.lines(*terminal.size()))
            key = terminal.key(due_at - time.monotonic())
            if key == "q":
                return
            if key == "m":
                self._next_master()
                due_at = 0.0
            elif key and (question := self._screen.press(key)) is not None:
                self._ask(question)
                due_at = 0.0

    def _look(self) -> None:
        try:
            self._screen.take(looked_at(self._master, ANSWERS_WITHIN_S))
        except (MasterNotFound, MasterRefused) as error:
            self._screen.message = clean(f"{error}; m looks for another")

    def _next_master(self) -> None:
        found = masters.running(self._common)
        later = [each for each in found if each.pid > self._master.pid] or found
        if not later:
            self._screen.message = "no master of yours runs here"
            return
        self._master = later[0]
        self._screen.message = f"this is {found.index(later[0]) + 1} of {len(found)} masters"

    def _ask(self, question: Question) -> None:
        try:
            done = masters.ask(self._master, question.verb, within_s=5.0, **question.args)
        except (MasterNotFound, MasterRefused, UsageError) as error:
            self._screen.message = clean(str(error))
            return
        if question.verb == "stack":
            self._show_stack(question, done)
        else:
            self._screen.message = _said(question, done)

    def _show_stack(self, question: Question, done: dict[str, Any]) -> None:
        if not done["found"]:
            self._screen.message = "it has ended meanwhile"
            return
        if not done["stack"]:
            self._screen.message = clean(f"no stack: {done['no_stack']}")
            return
        title = f"{clean(question.args['queue'])}/{clean(question.args['id'])} in runner {done['runner']}"
        self._screen.show([f"{title} (escape goes back)", "", *stack_lines(done)])


def _said(question: Question, done: dict[str, Any]) -> str:
    queue = clean(str(question.args["queue"]))
    if question.verb == "cancel":
        return f"the end of {queue}/{clean(str(question.args['id']))} is asked for"
    if question.verb == "scale":
        return clean(", ".join(scaled(done)))
    return f"{queue} is quiet" if question.verb == "quiet" else f"{queue} fetches again"
