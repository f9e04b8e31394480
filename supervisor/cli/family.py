"""A subcommand that has verbs of its own, such as `oxherd schedule list`."""

from __future__ import annotations

import inspect

import click

from supervisor.cli.command import OxherdCommand


class Family(click.Group):
    """Verbs that belong together; each is a command with a help of its own."""

    takes: str = "QUEUE"
    exits: str = ""
    example: str = ""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in self.commands:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(self.commands), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, f"VERB {self.takes} ... [options]", prefix="usage: ")
        formatter.write_paragraph()
        formatter.write_text(inspect.cleandoc(self.help or ""))
        formatter.write_paragraph()
        with formatter.indentation():
            rows = [(name, _first_line(verb)) for name, verb in self.commands.items()]
            formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text(
            f"{ctx.command_path} VERB --help tells more. Every verb takes --json, --redis URL,"
        )
        formatter.write_text("--prefix TEXT and --config FILE.")
        formatter.write_paragraph()
        formatter.write_text(f"exit status: {self.exits}")
        formatter.write_paragraph()
        formatter.write_text(f"example: {self.example}")


def family(
    name: str, about: str, *verbs: OxherdCommand, exits: str, example: str, takes: str = "QUEUE"
) -> Family:
    """Put verbs together under one name. `takes` is what most of them are given first."""

    @click.pass_context
    def nothing(ctx: click.Context) -> None:
        if ctx.invoked_subcommand is None:
            raise click.UsageError(
                f"a verb is missing: {', '.join(verb.name or '' for verb in verbs)}", ctx=ctx
            )

    made = Family(name, callback=nothing, invoke_without_command=True, help=about)
    for verb in verbs:
        made.add_command(verb)
    made.takes, made.exits, made.example = takes, exits, example
    return made


def _first_line(verb: click.Command) -> str:
    return inspect.cleandoc(verb.help or "").partition("\n")[0].partition(";")[0].rstrip(".")
