"""What every subcommand has in common: the look of its help, and the flags that mean the same everywhere."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from supervisor.config.load import Loaded, load

Callback = Callable[..., int | None]


class Common(msgspec.Struct, frozen=True):
    """The flags of every subcommand, as given."""

    redis: str | None
    prefix: str | None
    config: Path | None
    json: bool

    def load(self, more: dict[str, str] | None = None) -> Loaded:
        """The settings, with these flags and `more` of them on top."""
        return load(self.config, os.environ, self.flags() | (more or {}))

    def flags(self) -> dict[str, str]:
        """Those of them that are settings."""
        own = {"--redis": self.redis, "--prefix": self.prefix}
        return {name: value for name, value in own.items() if value is not None}


_COMMON: Final = (
    click.Option(
        ["--redis"],
        metavar="URL",
        help="redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// address, or the word "
        "embedded (default: OXHERD_REDIS_URL, then the config; on a terminal a private server of your own)",
    ),
    click.Option(["--prefix"], metavar="TEXT", help="what every key starts with (default: bull)"),
    click.Option(
        ["--config"],
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="the settings (default: OXHERD_CONFIG, then oxherd.toml here if there is one)",
    ),
)
_JSON: Final = click.Option(["--json"], is_flag=True, help="one JSON object per line, for programs")


class OxherdCommand(click.Command):
    """A command whose help tells what the answer means before it lists the flags."""

    settings: Sequence[click.Parameter] = ()
    exits: str = ""
    example: str = ""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        arguments = [piece for piece in self.collect_usage_pieces(ctx) if piece != self.options_metavar]
        formatter.write_usage(ctx.command_path, " ".join([*arguments, "[options]"]), prefix="usage: ")
        self.format_help_text(ctx, formatter)
        formatter.write_paragraph()
        params = self.get_params(ctx)
        self._write_options(ctx, formatter, [param for param in params if param not in self.settings])
        if self.settings:
            formatter.write_paragraph()
            formatter.write_text("settings, which may also stand in the config:")
            formatter.write_paragraph()
            self._write_options(ctx, formatter, self.settings)
        formatter.write_paragraph()
        formatter.write_text(f"exit status: {self.exits}")
        formatter.write_paragraph()
        formatter.write_text(f"example: {self.example}")

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = "this text"  # in the words and the case of the others
        return option

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(inspect.cleandoc(self.help or ""))

    @staticmethod
    def _write_options(
        ctx: click.Context, formatter: click.HelpFormatter, params: Sequence[click.Parameter]
    ) -> None:
        rows = []
        for param in params:
            record = param.get_help_record(ctx)
            if isinstance(param, click.Option) and record is not None:
                rows.append((record[0], param.help or ""))
        with formatter.indentation():
            formatter.write_dl(rows, col_max=34)


def command(
    name: str, *, exits: str, example: str, json: bool = True, cls: type[OxherdCommand] = OxherdCommand
) -> Callable[[Callback], OxherdCommand]:
    """Make a subcommand of a function that takes `common: Common` first. Its docstring is the help text."""

    def make(function: Callback) -> OxherdCommand:
        @functools.wraps(function)
        def callback(
            redis: str | None, prefix: str | None, config: Path | None, json: bool = False, **rest: Any
        ) -> int | None:
            return function(Common(redis, prefix, config, json), **rest)

        made = click.command(name, cls=cls)(callback)
        assert isinstance(made, OxherdCommand)
        made.params += [*([_JSON] if json else []), *_COMMON]
        made.exits, made.example = exits, example
        return made

    return make
