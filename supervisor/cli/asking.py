"""What a subcommand asks before it does what cannot be undone."""

from __future__ import annotations

import sys

import click

from supervisor.cli.render import clean
from supervisor.errors import UsageError

YES = click.option("--yes", is_flag=True, help="do not ask; needed where there is no terminal to ask on")


def agreed(question: str, yes: bool) -> bool:
    """Whether the user says yes. Asked on the terminal; where there is none, `--yes` must have said it."""
    if yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"{question} There is no terminal to ask on: say --yes if so. Nothing was changed")
    return click.confirm(clean(question), default=False, err=True)
