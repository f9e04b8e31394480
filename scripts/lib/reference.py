"""Write docs/reference from what the program says of itself: docstrings, settings, help texts, the catalogue.

Decides   which names are public, which page they stand on and in what order
Writes    docs/reference/{api,processors,cli,configuration,log-events,metrics}.md; node-api.md beside them is
          written by hand
Rule      the pages are committed, and a test compares them with what is made here: the same on every machine

A module of supervisor/client that is not named here gets its part of api.md by itself.

Longer than most modules because each page is a table of what stands on it, and the pages share their words.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = ROOT / "docs" / "reference"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import click  # noqa: E402
from reference_words import (  # noqa: E402
    about_module,
    classes_named,
    escaped,
    first_sentence,
    in_table,
    markdown,
    signature,
    types_of,
)

import oxherd  # noqa: E402
import sandbox.errors  # noqa: E402
import supervisor.client  # noqa: E402
import supervisor.errors  # noqa: E402
from sandbox.job import Job as RunningJob  # noqa: E402
from sandbox.processors import processor  # noqa: E402
from supervisor.cli import SUBCOMMANDS  # noqa: E402
from supervisor.cli.command import OxherdCommand  # noqa: E402
from supervisor.cli.family import Family  # noqa: E402
from supervisor.client import queue as queue_module  # noqa: E402
from supervisor.client.listening import listen  # noqa: E402
from supervisor.config.model import OVERRIDES, SECTIONS, DefaultsConfig, QueueConfig  # noqa: E402
from supervisor.config.option import Option, env_name, flag_name, options_of, toml_name  # noqa: E402
from supervisor.observe.catalogue import CATALOGUE  # noqa: E402
from supervisor.observe.metric_catalogue import METRICS  # noqa: E402
from supervisor.protocol.queue_events import QueueEvent  # noqa: E402

MADE: Final = "<!-- Made by scripts/reference. What is wrong here is wrong in a docstring. -->\n"
# Modules of supervisor/client that only other modules of ours call, or that have a place of their own.
INTERNAL: Final = frozenset(
    "core where prometheus blocking queue job listening listening_blocking".split()  # noqa: SIM905
)
FIRST: Final = ("edit", "manage", "getters", "schedulers", "flows", "alerts", "listen")
ONLY: Final = {"listen": ("publish",)}
# Methods that our own modules call.
HIDDEN: Final = frozenset({"stored", "checked", "decode", "keys", "args", "requests"})
# These have a place of their own in api.md, and are not shown again beside a function that returns one.
PLACED: Final = frozenset({"Job", "Queue", "Action", "Context", "Steps", "AddOptions", "JobSpec"})


# --- api.md -----------------------------------------------------------------------------------------------


def api() -> str:
    parts = [_api_head(), _queue_part(), _class_part(supervisor.client.Job)]
    parts += [_value(name) for name in ("AddOptions", "JobSpec", "KeepJobs", "Deduplication", "Backoff")]
    parts += [_value(name) for name in ("fixed", "exponential", "custom")]
    parts += [_function("listen", listen), _class_part(QueueEvent)]
    parts += [_actions(module) for module in client_modules()]
    parts.append(_errors_part())
    return "\n\n".join(parts) + "\n"


def client_modules() -> list[ModuleType]:
    """The modules whose functions a queue carries out."""
    found = {item.name for item in pkgutil.iter_modules(supervisor.client.__path__)} - INTERNAL
    order = [*(name for name in FIRST if name in found), *sorted(found - set(FIRST))]
    return [importlib.import_module(f"supervisor.client.{name}") for name in order]


def public_of(module: ModuleType) -> dict[str, Any]:
    """Its functions and classes for users in the order they are written, then those of others it offers."""
    name = module.__name__.rpartition(".")[2]
    if name in ONLY:
        return {each: getattr(module, each) for each in ONLY[name]}
    own = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(value) or (inspect.isfunction(value) and not _is_part_of_an_action(value)))
        and (value.__module__ == module.__name__ or key in getattr(module, "__all__", ()))
    }
    listed = set(getattr(module, "__all__", ()))
    if listed:
        own = {key: value for key, value in own.items() if key in listed}
    for value in [each for each in own.values() if inspect.isfunction(each)]:
        for kind in classes_named(inspect.signature(value).return_annotation, vars(module)):
            own.setdefault(kind.__name__, kind)  # what people get, they want to read of
    own = {key: value for key, value in own.items() if key not in PLACED}
    return dict(sorted(own.items(), key=lambda item: (inspect.isclass(item[1]), _line(item[1], module))))


def _is_part_of_an_action(function: Callable[..., Any]) -> bool:
    return str(inspect.signature(function).return_annotation).startswith("Steps[")


def _line(value: Any, module: ModuleType) -> tuple[bool, int]:
    own = value.__module__ == module.__name__
    try:
        return not own, inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return True, 0


def _api_head() -> str:
    rows = ["| Name | What it is |", "|---|---|"]
    for name in oxherd.__all__:
        if name == "main":
            continue
        value = getattr(oxherd, name)
        told = value.__doc__ if name != "Job" else RunningJob.__doc__
        rows.append(f"| `{name}` | {in_table(first_sentence(told))} |")
    return "\n\n".join(
        [
            "# The Python API",
            MADE.strip(),
            "Everything that programs import: `from oxherd import ...` for the names of the table, "
            "`from supervisor.client import edit, manage, ...` for actions. `Queue` and `listen` without "
            "asyncio are in `supervisor.blocking`: the same methods with the same parameters, without "
            "`await`. What a processor uses is in [processors](processors.md), what Node's client calls "
            "the same things in [node-api](node-api.md).",
            "Times that end in `_ms` are whole milliseconds, those that end in `_on` are epoch milliseconds.",
            "\n".join(rows),
            "What a queue can do beyond its own methods, `await queue.run(...)`:",
            "\n".join(["| Actions | |", "|---|---|", *map(_action_row, client_modules())]),
        ]
    )


def _action_row(module: ModuleType) -> str:
    name = module.__name__.rpartition(".")[2]
    about = "events of your own" if name == "listen" else first_sentence(module.__doc__)
    return f"| [`{name}`](#{module.__name__.replace('.', '')}) | {in_table(about)} |"


def _queue_part() -> str:
    parts = ["## Queue", signature("Queue", queue_module.Queue), markdown(queue_module.Queue.__doc__)]
    for name, member in vars(queue_module.Queue).items():
        if name.startswith("_"):
            continue
        parts.append(f"### Queue.{name}")
        if isinstance(member, property):
            parts.append(f"A property. {markdown(member.__doc__)}")
        else:
            mark = "await " if inspect.iscoroutinefunction(member) else "async for event in "
            parts += [signature(f"queue.{name}", member, prefix=mark), markdown(member.__doc__)]
    return "\n\n".join(parts)


def _value(name: str) -> str:
    value = getattr(supervisor.client, name)
    return _class_part(value) if inspect.isclass(value) else _function(name, value)


def _class_part(value: type, level: str = "##") -> str:
    parts = [f"{level} {value.__name__}"]
    if _is_called(value):
        parts.append(signature(value.__name__, value))
    elif issubclass(value, dict):
        parts.append(types_of(value.__annotations__))
    parts.append(markdown(value.__doc__))
    for name, member in vars(value).items():
        if name.startswith("_") or name in HIDDEN or not _is_documented(member):
            continue
        if isinstance(member, property):
            parts.append(f"- `{name}`: {markdown(member.__doc__)}")
        else:
            function = getattr(value, name)
            parts += [
                f"{level}# {value.__name__}.{name}",
                signature(name, function),
                markdown(member.__doc__),
            ]
    return "\n\n".join(parts)


def _is_called(value: type) -> bool:
    """Whether people make one: a TypedDict, or an error, is not made by a call that is worth showing."""
    return not issubclass(value, dict | BaseException)


def _is_documented(member: Any) -> bool:
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return (inspect.isfunction(member) or isinstance(member, property)) and bool(member.__doc__)


def _function(name: str, function: Callable[..., Any], level: str = "##") -> str:
    asks = "async for event in " if inspect.isasyncgenfunction(function) else ""
    return "\n\n".join(
        [f"{level} {name}", signature(name, function, prefix=asks), markdown(function.__doc__)]
    )


def _actions(module: ModuleType) -> str:
    name = module.__name__.rpartition(".")[2]
    parts = [f"## supervisor.client.{name}"]
    if name not in ONLY:
        parts.append(about_module(module.__doc__))
    for key, value in public_of(module).items():
        if inspect.isclass(value):
            parts.append(_class_part(value, "###").replace(f"### {key}", f"### {name}.{key}", 1))
        else:
            parts.append(
                "\n\n".join([f"### {name}.{key}", signature(f"{name}.{key}", value), markdown(value.__doc__)])
            )
    return "\n\n".join(parts)


def _errors_part() -> str:
    errors = [
        value
        for value in vars(supervisor.errors).values()
        if inspect.isclass(value) and value.__module__ == supervisor.errors.__name__
    ]
    rows = ["| Error | Is also | `code` | Exit status | When |", "|---|---|---|---|---|"]
    for error in errors:
        base = error.__base__
        told = in_table(markdown(error.__doc__).replace("\n\n", " "))
        rows.append(
            f"| `{error.__name__}` | `{base.__name__}` | `{error.code}` | {error.exit_status} | {told} |"
        )
    return "\n\n".join(
        [
            "## Errors",
            "All are in `supervisor.errors`, and those that a client can meet in `oxherd` too. `code` never "
            "changes; the exit status is that of the command line. The message says what happened, what did "
            "not happen to the jobs, and what to do next. What a processor may raise is in "
            "[processors](processors.md).",
            "\n".join(rows),
        ]
    )


# --- processors.md ----------------------------------------------------------------------------------------


def processors() -> str:
    raised = [
        value
        for value in vars(sandbox.errors).values()
        if inspect.isclass(value)
        and value.__module__ == sandbox.errors.__name__
        and value.__name__ in oxherd.__all__
    ]
    parts = [
        "# Processors",
        MADE.strip(),
        "What a module of yours imports: `from oxherd import processor, Job, ...`. None of it loads a Redis "
        "client. The function gets a `Job` and may be `def` or `async def`; what it returns is the job's "
        "result, what it raises is the reason of its failure, what it prints goes to the log.",
        _function("processor", processor),
        "## Job",
        markdown(RunningJob.__doc__),
    ]
    for name, member in vars(RunningJob).items():
        if name.startswith("_") or name == "end" or not _is_documented(member):
            continue
        parts.append(f"### job.{name}")
        if isinstance(member, property):
            parts.append(f"A property. {markdown(member.__doc__)}")
        else:
            parts += [signature(f"job.{name}", member), markdown(member.__doc__)]
    parts += [_named(name) for name in oxherd.__all__ if _is_of_the_sandbox(name)]
    parts.append("## What a processor may raise, and meet")
    parts.append(
        "Any other exception fails the attempt; the job's `attempts` and `backoff` say whether and when "
        "there is another."
    )
    for error in raised:
        parts.append(f"### {error.__name__}")
        if "__init__" in vars(error):
            parts.append(signature(error.__name__, error))
        parts.append(markdown(error.__doc__))
    return "\n\n".join(parts) + "\n"


def _is_of_the_sandbox(name: str) -> bool:
    """What a processor uses and has no place above: helpers that came later."""
    module = str(getattr(getattr(oxherd, name), "__module__", ""))
    return module.startswith("sandbox.") and module not in (
        "sandbox.errors",
        "sandbox.job",
        "sandbox.processors",
    )


def _named(name: str) -> str:
    value = getattr(oxherd, name)
    return _class_part(value) if inspect.isclass(value) else _function(name, value)


# --- cli.md -----------------------------------------------------------------------------------------------


def cli() -> str:
    parts = [
        "# The command line",
        MADE.strip(),
        "`oxherd COMMAND --help` says the same. `python -m supervisor` is `oxherd` where no script was "
        "installed.",
        "\n".join(
            ["| Command | |", "|---|---|"]
            + [f"| [`{name}`](#oxherd-{name}) | {about} |" for name, about in SUBCOMMANDS.items()]
        ),
        "Every command takes these, behind its name:",
        "",
        "Beside what stands at each command: 70 is a mistake of ours (please report it), 130 interrupted, "
        "141 the reader of the output has gone.",
    ]
    shared: tuple[click.Parameter, ...] = ()
    for name in SUBCOMMANDS:
        command = getattr(importlib.import_module(f"supervisor.cli.{name}"), name)
        if isinstance(command, Family):
            parts.append(_family(name, command))
            continue
        shared = shared or tuple(param for param in command.params if param.name in _SHARED)
        parts.append(_command(f"oxherd {name}", command))
    parts[5] = "\n".join(_options(command=None, params=shared))
    return "\n\n".join(parts) + "\n"


_SHARED: Final = ("redis", "prefix", "config")


def _family(name: str, family: Family) -> str:
    parts = [
        f"## oxherd {name}",
        markdown(family.help),
        f"Exit status: {escaped(family.exits)}.",
        f"```\n{family.example}\n```",
    ]
    for verb, command in family.commands.items():
        assert isinstance(command, OxherdCommand)
        parts.append(_command(f"oxherd {name} {verb}", command, "###"))
    return "\n\n".join(parts)


def _command(path: str, command: OxherdCommand, level: str = "##") -> str:
    ctx = click.Context(command, info_name=path)
    pieces = [piece for piece in command.collect_usage_pieces(ctx) if piece != command.options_metavar]
    own = [
        param
        for param in command.params
        if isinstance(param, click.Option) and param.name not in _SHARED and param not in command.settings
    ]
    parts = [f"{level} {path}", f"```\n{' '.join([path, *pieces, '[options]'])}\n```", markdown(command.help)]
    if own:
        parts.append("\n".join(_options(command, own)))
    if command.settings:
        parts.append(
            f"And {len(command.settings)} settings, which may also stand in the config or the environment: "
            "[configuration](configuration.md) has their flags."
        )
    parts += [f"Exit status: {escaped(command.exits)}.", f"```\n{command.example}\n```"]
    return "\n\n".join(parts)


def _options(command: Any, params: Any) -> Iterator[str]:
    for param in params:
        ctx = click.Context(command or click.Command("oxherd"))
        record = param.get_help_record(ctx)
        yield f"- `{record[0]}`: {escaped(param.help or '')}"


# --- configuration.md -------------------------------------------------------------------------------------


def configuration() -> str:
    parts = [
        "# Configuration",
        MADE.strip(),
        "A flag wins over an environment variable, that over the file, that over the default. The file is "
        "the one of `--config`, else of `OXHERD_CONFIG`, else `oxherd.toml` in the working directory. A "
        'value that is a time or a size is text with its unit: `"30s"`, `"512M"`; units are ms, s, m, h, d '
        "and K, M, G, T. All mistakes are told at once, and nothing is started.",
        "Flags are those of `oxherd run`; `--redis` and `--prefix` are of every command.",
    ]
    for name, section in SECTIONS.items():
        parts.append(_section(name, section))
    parts.append(
        "\n\n".join(
            [
                "## [queue.NAME]",
                _without_title(QueueConfig.__doc__),
                f"Its tables `[queue.NAME.policy]`, `.lock`, `.stalled` and `.keep` take the keys of "
                f"{', '.join(f'[{name}]' for name in OVERRIDES)} and hold for this queue alone; environment "
                "and flags win over them. There are no flags and no variables for a queue's own keys.",
                *_keys(None, QueueConfig),
            ]
        )
    )
    parts.append(
        "\n\n".join(
            [
                "## [queue.NAME.defaults]",
                _without_title(DefaultsConfig.__doc__),
                *_keys(None, DefaultsConfig),
            ]
        )
    )
    return "\n\n".join(parts) + "\n"


def _section(name: str, section: type) -> str:
    return "\n\n".join([f"## [{name}]", _without_title(section.__doc__), *_keys(name, section)])


def _without_title(docstring: str | None) -> str:
    """`[lock] How long...` stands below a heading that says `[lock]` already."""
    text = inspect.cleandoc(docstring or "")
    return markdown(text.partition("] ")[2] if text.startswith("[") else text)


def _keys(section: str | None, kind: type) -> Iterator[str]:
    for attribute, about, default in options_of(kind):
        names = []
        if section is not None:
            names = [
                f"flag `{flag_name(section, attribute, about)}`",
                f"environment `{env_name(section, attribute)}`",
            ]
        facts = "; ".join([f"Default: {_default_of(about, default)}", *_bounds(about), *names])
        yield f"### {toml_name(attribute)}" + (f" ({section})" if section else "")
        yield escaped(" ".join(about.doc.split()))
        yield f"{facts}."


def _default_of(about: Option, default: Any) -> str:
    if about.shown is not None:
        return about.shown
    if default is None:
        return "none"
    shown = about.show(default)
    return f"`{shown}`" if shown else "none"


def _bounds(about: Option) -> Iterator[str]:
    if about.choices:
        yield "one of " + ", ".join(f"`{choice}`" for choice in about.choices)
    if about.at_least is not None:
        yield f"at least `{about.kind.show(about.at_least)}`"
    if about.at_most is not None:
        yield f"at most `{about.kind.show(about.at_most)}`"
    if not about.per_queue:
        yield "the same for all queues"


# --- log-events.md ----------------------------------------------------------------------------------------


def log_events() -> str:
    parts = [
        "# Log events",
        MADE.strip(),
        "Every line that the log can have. With `--log-format json` each is one object: `event`, `level`, "
        "`logger`, `timestamp`, and of the keys below those that are known. Keys that end in `_ms` are "
        "milliseconds, in `_s` seconds, in `_bytes` bytes. Job data and results never appear.",
    ]
    rooms: dict[str, list[str]] = {}
    for name, event in CATALOGUE.items():
        keys = ", ".join(f"`{key}`" for key in sorted(event.keys))
        row = f"| `{name}` | {event.level} | {in_table(escaped(event.doc))} | {keys} |"
        rooms.setdefault(name.partition(".")[0], []).append(row)
    for room, rows in rooms.items():
        head = ["| Event | Level | What it tells | Keys |", "|---|---|---|---|"]
        parts += [f"## {room}", "\n".join([*head, *rows])]
    return "\n\n".join(parts) + "\n"


# --- metrics.md -------------------------------------------------------------------------------------------


def metrics() -> str:
    rows = ["| Metric | Kind | Labels | What it tells |", "|---|---|---|---|"]
    bounds = []
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{name}` | {metric.kind} | {labels} | {in_table(escaped(metric.doc))} |")
        if metric.buckets:
            bounds.append(f"- `{name}`: {', '.join(f'{bound:g}' for bound in metric.buckets)}")
    return (
        "\n\n".join(
            [
                "# Metrics",
                MADE.strip(),
                "What `/metrics` can have, in Prometheus' text form; how it is asked for is told in "
                "[watch a master with Prometheus](../how-to/metrics.md). What is not known has no sample. A "
                "counter begins at 0 with the master.",
                "\n".join(rows),
                "The upper bounds of the histograms:",
                "\n".join(bounds),
            ]
        )
        + "\n"
    )


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "api.md": api,
    "processors.md": processors,
    "cli.md": cli,
    "configuration.md": configuration,
    "log-events.md": log_events,
    "metrics.md": metrics,
}


def main() -> int:
    HERE.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        text = make()
        if not (HERE / name).exists() or (HERE / name).read_text(encoding="utf-8") != text:
            (HERE / name).write_text(text, encoding="utf-8")
            print(f"docs/reference/{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
