"""`oxherd config`: which settings hold and where each is from, and what is wrong with them before a start.

Decides how a value looks as TOML. What an option may be, and which source wins, is said in
`supervisor.config`.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import as_json, clean, out
from supervisor.cli.run import settings_flags, settings_options
from supervisor.config.load import DEFAULT, Loaded, tried
from supervisor.config.model import OVERRIDES, SECTIONS, Config
from supervisor.config.option import INT, NUMBER, PATH, SWITCH, TEXTS, Option, options_of, toml_name
from supervisor.config.redis_login import credential, named_url, whole_url
from supervisor.config.shapes import Keep, Limiter, PoolShare
from supervisor.config.units import format_duration
from supervisor.errors import ConfigError, OxherdError, UsageError
from supervisor.master.layers import refuse_unknown
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address

_COMMENTS_FROM: Final = 40  # columns
_STARTED: Final = ("; nothing was started", " Nothing was started", ". No job was taken.")


class Row(msgspec.Struct, frozen=True):
    """One option.

    table   what the section is called in TOML.
    text    the value as TOML; None where it has none that can be written.
    """

    section: str
    table: str
    option: str
    text: str | None
    shown: str
    origin: str


# --- show ------------------------------------------------------------------------------------------------


@command(
    "show",
    exits="0 shown, 2 wrong usage or config",
    example="oxherd config show --config /etc/oxherd/oxherd.toml",
)
@click.option("--changed", is_flag=True, help="only what is not a default")
def show(common: Common, changed: bool, **asked: Any) -> int:
    """Every setting that holds here, and where it is from: default, the line of the file, a variable of the
    environment, a flag or a credential.

    What is printed is a config file that says the same, but for the address of Redis, which may hold a
    password: that is shown without it, in a comment. Give the flags of `oxherd run` to see what they change.
    """
    loaded = common.load(settings_flags(asked))
    rows = [row for row in _rows(loaded) if not changed or row.origin != DEFAULT]
    if common.json:
        for row in rows:
            out(as_json(_record(row)))
        return 0
    table = ""
    for row in rows:
        if row.table != table:
            out(f"\n[{row.table}]" if table else f"[{row.table}]")
            table = row.table
        said = f"# {row.option}: {row.shown}" if row.text is None else f"{row.option} = {row.text}"
        out(clean(f"{said:<{_COMMENTS_FROM}}  # {row.origin}"))
    return 0


def _record(row: Row) -> dict[str, Any]:
    value = None if row.text is None else tomllib.loads(f"it = {row.text}")["it"]
    said = {"value": value} if value is not None else {"value": None, "shown": row.shown}
    return {"section": row.section, "option": row.option, **said, "origin": row.origin}


def _rows(loaded: Loaded) -> Iterator[Row]:
    config = loaded.config
    for name in SECTIONS:
        yield from _of(loaded, name, name, getattr(config, name))
    for queue, own in config.queues.items():
        where, table = f"queue.{queue}", f"queue.{_key(queue)}"
        yield from _of(loaded, where, table, own)
        for name in (*OVERRIDES, "defaults"):
            for row in _of(loaded, f"{where}.{name}", f"{table}.{name}", getattr(own, name)):
                if row.origin not in (DEFAULT, loaded.origin(name, row.option)):
                    yield row  # the others are as in the section of the whole file


def _of(loaded: Loaded, section: str, table: str, values: Any) -> Iterator[Row]:
    for attribute, about, default in options_of(type(values)) if values is not None else ():
        value = getattr(values, attribute)
        text, shown = _said(about, value, default)
        origin = loaded.origin(section, attribute)
        held = credential(value, os.environ) if section == "redis" and isinstance(value, Path) else None
        if held is not None:
            origin += f", credential {held}"
        yield Row(section, table, toml_name(attribute), text, shown, origin)


def _said(about: Option, value: Any, default: Any) -> tuple[str | None, str]:
    """The value as TOML, if it can be written so, and for people."""
    if value is not None and (about.secret or _has_login(value)):
        return None, _without_secret(value)
    if value is None or value == "" or (value == default and about.shown and about.kind is not PATH):
        return None, about.shown or "none"
    text = as_toml(about, value)
    return text, text


def as_toml(about: Option, value: Any) -> str:
    """The value as a config file has it."""
    if isinstance(value, Limiter):
        return f'{{ max = {value.max}, duration = "{format_duration(value.duration_ms)}" }}'
    if isinstance(value, PoolShare):
        return f"{{ weight = {value.weight}, minimum = {value.minimum} }}"
    if isinstance(value, Keep) and value.limit is not None:
        age = f'age = "{value.age_s}s", ' if value.age_s is not None else ""
        count = f"count = {value.count}, " if value.count is not None else ""
        return f"{{ {count}{age}limit = {value.limit} }}"
    if about.kind in (INT, NUMBER, SWITCH):
        return about.kind.show(value)
    if about.kind is TEXTS:
        return f"[{', '.join(map(_quoted, value))}]"
    return _quoted(about.kind.show(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(queue: str) -> str:
    plain = queue.isascii() and queue.replace("-", "").replace("_", "").isalnum()
    return queue if plain else _quoted(queue)


def _has_login(value: Any) -> bool:
    """Of a web address with somebody's password in it."""
    return isinstance(value, str) and "://" in value and "@" in value


def _without_secret(url: str) -> str:
    try:
        return url if url == "embedded" else f"{Address.parse(url).display} (a password is never shown)"
    except ConfigError:
        return "set, and not shown"


show.settings = settings_options()
show.params += show.settings


# --- check -----------------------------------------------------------------------------------------------


@command(
    "check",
    exits="0 no mistake, 2 mistakes, or wrong usage",
    example="oxherd config check /etc/oxherd/oxherd.toml",
)
@click.argument("file", metavar="[FILE]", type=click.Path(path_type=Path, dir_okay=False), required=False)
def check(common: Common, file: Path | None) -> int:
    """Say all that is wrong with the settings, each mistake in one sentence; nothing is started.

    For deploy scripts, before a reload or a restart. Read are FILE (default: as everywhere) and the variables
    of the environment, by the rules of `oxherd run`. No server is asked and no processor imported: that is
    what `oxherd check` does.
    """
    if file is not None and common.config is not None:
        raise UsageError("the file is named twice; give FILE or --config. Nothing was checked")
    if file is not None:
        common = msgspec.structs.replace(common, config=file)
    loaded, mistakes = tried(common.config, os.environ, common.flags())
    mistakes += _of_the_whole(loaded.config)
    if common.json:
        for mistake in mistakes:
            out(as_json({"mistake": mistake}))
        return 2 if mistakes else 0
    if mistakes:
        raise ConfigError(_all_of(mistakes))
    queues = ", ".join(loaded.config.queues) or "none of its own"
    out(clean(f"no mistake in {loaded.path or 'the defaults (there is no file)'}; queues: {queues}"))
    return 0


def _of_the_whole(config: Config) -> list[str]:
    """What `run` would refuse for what several settings say together, or for a name that there is not."""
    found: list[str] = []

    def tell(look: Callable[[], object]) -> None:
        try:
            look()
        except ConfigError as error:
            found.append(_bare(str(error)))
        except OxherdError as error:
            found.append(_bare(f"[redis] prefix: {error}"))

    tell(lambda: _address(config))
    tell(lambda: QueueKeys("any", config.redis.prefix))
    tell(lambda: refuse_unknown(config.policy.require))
    return found


def _address(config: Config) -> None:
    url = named_url(config.redis, os.environ)
    if url is not None and url != "embedded":
        Address.parse(whole_url(config.redis, os.environ, url)).for_prefix(config.redis.prefix)


def _bare(sentence: str) -> str:
    """Without what did not happen: here nothing was to."""
    for end in _STARTED:
        sentence = sentence.removesuffix(end)
    return sentence.removesuffix(".")


def _all_of(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return mistakes[0]
    return "\n".join([f"the settings have {len(mistakes)} mistakes:", *(f"  {each}" for each in mistakes)])


config = family(
    "config",
    """The settings: which hold and where each is from, and what is wrong with them.""",
    show,
    check,
    takes="",
    exits="0 shown, or no mistake, 2 mistakes, or wrong usage",
    example="oxherd config check /etc/oxherd/oxherd.toml",
)
