"""The command line: which subcommands there are, and what becomes of an error.

A subcommand is one module of this package, imported when it is called and not before, so that `oxherd --help`
needs neither Redis nor the config. What counts in its module has the module's own name.

Exit status: 0 done; 1 the answer is no, or a job failed; 2 wrong usage or config; 3 Redis unreachable;
70 a mistake of ours; 130 interrupted; 141 the reader of our output has gone.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import click

from supervisor import __version__
from supervisor.cli import render  # not its names: `clean` is also the module of a subcommand
from supervisor.cli.render import OutputFailed, note
from supervisor.errors import OxherdError

SUBCOMMANDS: Final = MappingProxyType(
    {
        "run": "run processors",
        "add": "add jobs, and wait for one",
        "status": "how many jobs are in which state",
        "jobs": "list the jobs of a queue in one state",
        "job": "everything known of one job",
        "workers": "who fetches from a queue",
        "metrics": "how many jobs ended, minute by minute",
        "events": "what happens in a queue, live",
        "top": "the slots of a master, live, and keys to act on them",
        "ps": "the processes of the masters that run here",
        "stack": "what a running job is doing, thread by thread",
        "recommend": "limits, from what jobs have needed",
        "retry": "put failed jobs back",
        "cancel": "end jobs, or keep them from running",
        "remove": "remove jobs",
        "promote": "run delayed jobs now",
        "drain": "remove the jobs that wait",
        "clean": "remove old jobs of one state",
        "obliterate": "remove a queue with everything it has",
        "schedule": "jobs that are made again and again",
        "flow": "jobs that wait for jobs",
        "dlq": "jobs that failed for good, and their way back",
        "batch": "many jobs, and one that collects",
        "breaker": "what keeps jobs from a dependency that is down",
        "pause": "fetch nothing more from a queue",
        "resume": "fetch from a paused queue again",
        "ctl": "tell a running master what to do",
        "config": "the settings, where each is from, and what is wrong with them",
        "check": "import a processor and say what became of it",
        "systemd": "units for systemd, made for this machine",
        "doctor": "what isolation this host gives, and why not more",
    }
)
EXITS: Final = "0 done, 1 the answer is no or a job failed, 2 wrong usage or config, 3 Redis unreachable"
INTERRUPTED: Final = 130
READER_GONE: Final = 141
OUR_MISTAKE: Final = 70
_OF_EVERY_COMMAND: Final = frozenset({"--json", "--redis", "--prefix", "--config"})
_LONG_WORD: Final = re.compile(r"\S{1000,}")  # somebody's value; the sentence around it is what helps
_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class Subcommands(click.Group):
    """A group that knows the names of its subcommands and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUBCOMMANDS:
            return None
        # At the top of the file it would load every subcommand, and Redis with them, for each call.
        module = importlib.import_module(f"supervisor.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in SUBCOMMANDS:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=SUBCOMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "COMMAND ...", prefix="usage: ")
        formatter.write_paragraph()
        formatter.write_text("Run CPU-heavy Python jobs from BullMQ queues, each in a process of its own.")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_dl(list(SUBCOMMANDS.items()))
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_dl(
                [("--version", "the version, and nothing else"), ("--help", "this, or of a COMMAND")]
            )
        formatter.write_paragraph()
        formatter.write_text(f"exit status: {EXITS}")
        formatter.write_paragraph()
        formatter.write_text("example: oxherd add thumbnails resize '{\"page\": 1}' --wait")


@click.group(cls=Subcommands, no_args_is_help=False, invoke_without_command=True)
@click.version_option(__version__, prog_name="oxherd", message="%(prog)s %(version)s")
@click.pass_context
def group(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        raise click.UsageError("a command is missing", ctx=ctx)


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; the exit status."""
    _open_missing_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # half a surrogate pair in a job must not stop us
    try:
        status = _carried_out(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        _give_stdout_up()
        return READER_GONE
    except OutputFailed as error:
        _give_stdout_up()
        _say(str(error))
        return error.exit_status
    except OSError as error:  # of the flush; all others have become a sentence
        _give_stdout_up()
        _say(str(OutputFailed(error)))
        return OutputFailed.exit_status
    return status


def _open_missing_streams() -> None:
    """Give a process that was started without one of its three descriptors an empty one in its place.

    Otherwise the next file or socket to be opened gets the number, and the answer would be written into it.
    """
    for fd, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `fd`
            if getattr(sys, name) is None:
                setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 (it lives as long as we do)


def _give_stdout_up() -> None:
    # Python flushes stdout once more at exit, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _carried_out(argv: list[str]) -> int:
    try:
        # Not `group.main`: that one ends the process, with status 1, when the reader of our output has gone.
        with group.make_context("oxherd", argv) as ctx:
            result: Any = group.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        return _wrong_usage(error)
    except (BrokenPipeError, OutputFailed):
        raise
    except OxherdError as error:
        _say(str(error))
        return error.exit_status
    except Exception as error:
        if os.environ.get("OXHERD_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        _say(f"please report this mistake in oxherd: {what} (OXHERD_TRACEBACK=1 shows where it happened)")
        return OUR_MISTAKE
    return result if isinstance(result, int) else 0


def _wrong_usage(error: click.ClickException) -> int:
    where = "oxherd"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        where = error.ctx.command_path
    text = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.exceptions.NoSuchOption | click.exceptions.NoSuchCommand):
        near = f"; did you mean {error.possibilities[0]!r}?" if error.possibilities else ""
        if where == "oxherd" and getattr(error, "option_name", None) in _OF_EVERY_COMMAND:
            near = " here; it goes behind the command"
        text = error.message.rstrip(".") + near
    if not text[:2].isupper():
        text = text[:1].lower() + text[1:]
    _say(f"{text} (see {where} --help)", who=where)
    return 2


def _say(text: str, who: str = "oxherd") -> None:
    text = _LONG_WORD.sub(lambda found: f"{found[0][:60]}...", text)
    # What a module or a server has said is shown, never obeyed, by the terminal.
    note("\n".join(render.clean(line) for line in f"{who}: {text}".split("\n")))
