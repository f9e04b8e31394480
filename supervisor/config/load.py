"""Read the settings: flags before environment before file before default; each value knows where it is from.

Decides   which source wins, and says every mistake at once, one sentence each, with where it stands
Reads     one TOML file and the mappings it is given; nothing of the process but the working directory
Leaves    what an option is to `model.py`; what to do with the values to everybody else

A queue's own table wins over the section of the file it overrides, and loses to environment and flags.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import structs

from supervisor.config import pool
from supervisor.config.host import default_state_dir
from supervisor.config.lines import lines_of
from supervisor.config.model import OVERRIDES, SECTIONS, Config, DefaultsConfig, QueueConfig
from supervisor.config.option import (
    SWITCH,
    Option,
    by_toml_name,
    env_name,
    flag_name,
    options_of,
    toml_name,
)
from supervisor.config.shapes import nearest, unknown
from supervisor.errors import ConfigError

FILE_NAME: Final = "oxherd.toml"
DEFAULT: Final = "default"
# Variables of ours that are no option: which file to read, and how the command line tells its own mistakes.
_OTHER_VARIABLES: Final = frozenset({"OXHERD_CONFIG", "OXHERD_TRACEBACK", "OXHERD_RUNTIME_DIR"})


class Flag(msgspec.Struct, frozen=True):
    """What the command line needs to know of one option. `parameter` is its name as a Python identifier."""

    name: str
    parameter: str
    section: str
    metavar: str
    help: str
    default: str
    choices: tuple[str, ...]
    switch: bool


def flags() -> Iterator[Flag]:
    """Every option that has a flag, in the order of the model. A switch is given as `true` or `false`."""
    for section, attribute, about, default in _all_options():
        name = flag_name(section, attribute, about)
        yield Flag(
            name=name,
            parameter=name.removeprefix("--").replace("-", "_"),
            section=section,
            metavar=about.kind.metavar,
            help=" ".join(about.doc.split()),
            default=about.shown or about.show(default),
            choices=tuple(about.choices),
            switch=about.kind is SWITCH,
        )


class Origin(msgspec.Struct, frozen=True):
    """Where a value is from. `key` is its place in the file, if it is from there."""

    text: str
    key: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """The settings and where each is from. `path` is the file that was read, None without one."""

    config: Config
    path: Path | None
    _origins: Mapping[tuple[str, str], Origin]
    _text: str

    def origin(self, section: str, option: str) -> str:
        """`default`, `file oxherd.toml:3`, `env OXHERD_LOCK_DURATION` or `flag --lock-duration`.

        `option` may be the TOML key or the attribute; a queue's section is `queue.NAME` or `queue.NAME.lock`.
        """
        name = toml_name(option)
        own = self._origins.get((section, name))
        if own is None and section.startswith("queue.") and section.rpartition(".")[2] in OVERRIDES:
            own = self._origins.get((section.rpartition(".")[2], name))
        return DEFAULT if own is None else _told(own, self._text)


def _told(origin: Origin, text: str) -> str:
    line = lines_of(text).get(origin.key) if origin.key else None
    return origin.text if line is None else f"{origin.text}:{line}"


def find(env: Mapping[str, str]) -> Path | None:
    """The file to read when no flag names one: `$OXHERD_CONFIG`, else oxherd.toml here if there is one."""
    named = env.get("OXHERD_CONFIG")
    if named:
        return Path(named)
    # Not `Path.is_file`: that one raises where the directory may not be looked into, as after `cd /root; su`.
    return Path(FILE_NAME) if os.path.isfile(FILE_NAME) else None


def load(path: Path | None, env: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """Read the settings from `path` (else where `find` says), `env` and `flags` (keys as in `Flag.name`).

    Raises `ConfigError` with one sentence for each mistake.
    """
    loaded, mistakes = tried(path, env, flags)
    if mistakes:
        raise ConfigError(_message(mistakes))
    return loaded


def tried(path: Path | None, env: Mapping[str, str], flags: Mapping[str, str]) -> tuple[Loaded, list[str]]:
    """The same, as good as they can be read, and one sentence for each mistake.

    Raises `ConfigError` for a file that cannot be read at all.
    """
    path = path if path is not None else find(env)
    text, document = _read_file(path)
    reading = _Reading(path, text)
    given = [_from_env(env, reading), _from_flags(flags, reading)]  # the later one wins
    tables, queues = _split(document, reading)

    sections: dict[str, Any] = {}
    for name, kind in SECTIONS.items():
        of_file = reading.table(kind, name, tables.get(name, {}))
        sections[name] = reading.section(kind, name, [of_file, *(source[name] for source in given)])
    if reading.origins.get(("embedded", "state_dir")) is None:
        sections["embedded"] = structs.replace(sections["embedded"], state_dir=default_state_dir(env))

    made = {name: _queue(name, table, sections, given, reading) for name, table in queues.items()}
    reading.mistakes += _circles(made, reading.at)
    slots_from = reading.origins.get(("pool", "slots"))
    reading.mistakes += pool.mistakes_of(
        sections["pool"], made, reading.at, DEFAULT if slots_from is None else _told(slots_from, text)
    )
    config = Config(**sections, queues=MappingProxyType(made))
    return Loaded(config, path, MappingProxyType(reading.origins), text), reading.mistakes


# attribute -> (value, where it is from)
_Values = dict[str, tuple[Any, Origin]]


class _Reading:
    """One reading: collects mistakes and origins, so that all mistakes can be said together."""

    def __init__(self, path: Path | None, text: str) -> None:
        self.file = path.name if path is not None else FILE_NAME
        self.text = text
        self.mistakes: list[str] = []
        self.origins: dict[tuple[str, str], Origin] = {}

    def at(self, key: str) -> str:
        """The file, and the line of what stands there as `lock.duration`, if it can be told."""
        return _told(Origin(self.file, key), self.text)

    def value(self, about: Option, raw: Any, where: str, key: str = "") -> Any:
        """The value, or None with a mistake noted. No option has a None that can be written."""
        try:
            return about.read(raw)
        except ValueError as error:
            place = f"{self.at(key)}: {where}" if key else where
            self.mistakes.append(f"{place}: {error}")
            return None

    def table(self, kind: type[Any], where: str, table: Any, beside: Iterable[str] = ()) -> _Values:
        """The values of one TOML table. `beside` are keys that somebody else reads."""
        if not isinstance(table, dict):
            self.mistakes.append(f"{self.at(where)}: {where} must be a table, written as [{where}]")
            return {}
        known = by_toml_name(kind)
        values: _Values = {}
        for key, raw in table.items():
            if key in beside:
                continue
            place = f"{where}.{key}"
            if key not in known:
                self.mistakes.append(f"{self.at(place)}: [{where}] {unknown(key, [*known, *beside])}")
                continue
            attribute, about = known[key]
            value = self.value(about, raw, f"[{where}] {key}", place)
            if value is not None:
                values[attribute] = (value, Origin(f"file {self.file}", place))
        return values

    def table_of_queue(self, kind: type[Any], queue: str, section: str, table: Any) -> _Values:
        """The values of a queue's own table for `section`. What cannot differ by queue is a mistake there."""
        where = f"{queue}.{section}"
        values = self.table(kind, where, table)
        for attribute, about, _ in options_of(kind):
            if not about.per_queue and values.pop(attribute, None) is not None:
                name = toml_name(attribute)
                self.mistakes.append(
                    f"{self.at(f'{where}.{name}')}: [{where}] {name}: "
                    f"it is the same for all queues; set it in [{section}]"
                )
        return values

    def section(self, kind: type[Any], where: str, sources: Iterable[_Values]) -> Any:
        """An instance of `kind`; of `sources`, the later ones win."""
        values: _Values = {}
        for source in sources:
            values |= source
        made = kind(**{attribute: value for attribute, (value, _) in values.items()})
        for attribute, (_, came_from) in values.items():
            self.origins[where, toml_name(attribute)] = came_from
        if hasattr(made, "mistakes"):
            for attribute, sentence in made.mistakes().items():
                origin = _told(values[attribute][1], self.text) if attribute in values else DEFAULT
                sentence = f"[{where}] {toml_name(attribute)} (from {origin}): {sentence}"
                self.mistakes.append(sentence)
        return made


def _all_options() -> Iterator[tuple[str, str, Option, Any]]:
    for section, kind in SECTIONS.items():
        for attribute, about, default in options_of(kind):
            yield section, attribute, about, default


def _from_flags(flags: Mapping[str, str], reading: _Reading) -> dict[str, _Values]:
    values: dict[str, _Values] = {section: {} for section in SECTIONS}
    known = {flag_name(*entry[:3]): entry for entry in _all_options()}
    for flag, raw in flags.items():
        if flag not in known:
            reading.mistakes.append(f"flag {unknown(flag, known)}")
            continue
        section, attribute, about, _ = known[flag]
        value = reading.value(about, raw, flag)
        if value is not None:
            values[section][attribute] = (value, Origin(f"flag {flag}"))
    return values


def _from_env(env: Mapping[str, str], reading: _Reading) -> dict[str, _Values]:
    """Empty variables count as unset: that is what `${VAR:-}` in a compose file leaves."""
    values: dict[str, _Values] = {section: {} for section in SECTIONS}
    known = {env_name(section, name): (section, name, about) for section, name, about, _ in _all_options()}
    for variable, raw in env.items():
        if not variable.startswith("OXHERD_") or variable in _OTHER_VARIABLES or not raw:
            continue
        if variable not in known:
            # Somebody else's OXHERD_SOMETHING is no mistake; what looks like an option of ours is.
            if variable.split("_")[1].lower() in SECTIONS or nearest(variable, known, at_least=0.85):
                reading.mistakes.append(f"env {unknown(variable, known)}")
            continue
        section, attribute, about = known[variable]
        value = reading.value(about, raw, f"env {variable}")
        if value is not None:
            values[section][attribute] = (value, Origin(f"env {variable}"))
    return values


def _read_file(path: Path | None) -> tuple[str, dict[str, Any]]:
    """The text and what it says."""
    if path is None:
        return "", {}
    name = str(path) if str(path).isprintable() else repr(str(path))
    import tomllib  # at the top it would cost each start without a file 3 ms

    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"the config file {name} does not exist; nothing was started") from None
    except OSError as error:
        why = error.strerror
        raise ConfigError(f"the config file {name} cannot be read: {why}; nothing was started") from None
    except UnicodeDecodeError:
        raise ConfigError(f"the config file {name} is not UTF-8 text; nothing was started") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the config file {name} is not TOML: {error}; nothing was started") from None


def _split(document: dict[str, Any], reading: _Reading) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables of the sections, and those of the queues by name."""
    tables: dict[str, Any] = {}
    for name, table in document.items():
        if name in SECTIONS:
            tables[name] = table
        elif name != "queue":
            known = unknown(name, [*SECTIONS, "queue"])
            reading.mistakes.append(f"{reading.at(name)}: [{name}]: {known}")
    queues = document.get("queue", {})
    if not isinstance(queues, dict) or not all(isinstance(table, dict) for table in queues.values()):
        where = reading.at("queue")
        reading.mistakes.append(f"{where}: each queue has a table of its own, written as [queue.NAME]")
        queues = {}
    for name in queues:
        if not name or ":" in name:
            rule = "has no colon in it" if name else "is not empty"
            where = reading.at(f"queue.{name}")
            reading.mistakes.append(f"{where}: [queue] {name!r}: a queue's name {rule}")
    return tables, queues


def _queue(
    name: str,
    table: dict[str, Any],
    sections: Mapping[str, Any],
    given: list[dict[str, _Values]],
    reading: _Reading,
) -> QueueConfig:
    where = f"queue.{name}"
    own = reading.table(QueueConfig, where, table, beside=(*OVERRIDES, "defaults"))
    made = reading.section(QueueConfig, where, [own])
    inner: dict[str, Any] = {}
    for section in OVERRIDES:
        if section not in table:
            continue
        kind = SECTIONS[section]
        values = reading.table_of_queue(kind, where, section, table[section])
        of_file = {
            attribute: (getattr(sections[section], attribute), reading.origins[section, toml_name(attribute)])
            for attribute, _, _ in options_of(kind)
            if (section, toml_name(attribute)) in reading.origins
        }
        sources = [of_file, values, *(source[section] for source in given)]
        inner[section] = reading.section(kind, f"{where}.{section}", sources)
    if "defaults" in table:
        values = reading.table(DefaultsConfig, f"{where}.defaults", table["defaults"])
        inner["defaults"] = reading.section(DefaultsConfig, f"{where}.defaults", [values])
    return structs.replace(made, **inner)  # type: ignore[no-any-return]


def _circles(queues: Mapping[str, QueueConfig], at: Callable[[str], str]) -> Iterator[str]:
    """A sentence for each queue whose dead letters would come back to it."""
    for name in queues:
        passed: list[str] = []
        after = queues[name].dead_letter
        while after is not None and after != name and after not in passed:
            passed.append(after)
            after = queues[after].dead_letter if after in queues else None
        if after == name:
            way = f" by way of {', '.join(map(repr, passed))}" if passed else ""
            where = f"{at(f'queue.{name}.dead_letter')}: [queue.{name}] dead_letter"
            yield f"{where}: jobs of {name!r} that fail would come back to it{way}"


def _message(mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        question = mistakes[0].endswith("?")
        return mistakes[0] + (" Nothing was started" if question else "; nothing was started")
    lines = "\n".join(f"  {mistake}" for mistake in mistakes)
    return f"the settings have {len(mistakes)} mistakes; nothing was started:\n{lines}"
