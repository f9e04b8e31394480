"""What an option is: one field of a section, with its default, bounds, unit and the price of changing it.

The names a user writes are made here from the Python name, and only here: the TOML key has no unit
(`duration_ms` is `duration = "30s"`), the flag carries its section, the environment variable always does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Final, dataclass_transform

import msgspec
from msgspec import structs

from supervisor.config.units import (
    format_duration,
    format_share,
    format_size,
    parse_duration,
    parse_share,
    parse_size,
)

_YES: Final = ("true", "yes", "on", "1")
_NO: Final = ("false", "no", "off", "0")


class Kind(msgspec.Struct, frozen=True):
    """How values of one sort are read and shown. `read` gets what TOML gave, or text from elsewhere."""

    metavar: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str


def _as_written(value: Any) -> str:
    """A value as TOML has it: `true`, not `True`."""
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_as_written(value)} is not text; write it in quotes")
    if not value.strip():
        raise ValueError("it is empty; leave it out for the default")
    return value


def _read_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{value!r} is no whole number") from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{_as_written(value)} is no whole number")
    return value


def _read_number(value: Any) -> float:
    try:
        number = float("" if isinstance(value, bool) else value)
    except (ValueError, TypeError):
        raise ValueError(f"{_as_written(value)} is no number") from None
    if not isfinite(number):
        raise ValueError(f"{_as_written(value)} is no number")
    return number


def _read_switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in (*_YES, *_NO):
        return value.strip().lower() in _YES
    raise ValueError(f"{value!r} is neither true nor false")


def _with_unit(parse: Callable[[str], int], example: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str):
            return parse(value)
        if value == 0 and not isinstance(value, bool):
            return 0
        raise ValueError(f"{_as_written(value)} has no unit; write it in quotes with one, like {example!r}")

    return read


def _read_share(value: Any) -> float:
    if isinstance(value, str):
        return parse_share(value)
    raise ValueError(f"{_as_written(value)} has no %; write it in quotes with one, like '5%'")


def _read_path(value: Any) -> Path:
    return Path(_read_text(value)).expanduser()


def _read_texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_read_text(part) for part in value)
    return (_read_text(value),)


TEXT: Final = Kind("TEXT", _read_text)
INT: Final = Kind("N", _read_int)
NUMBER: Final = Kind("X", _read_number, "{:g}".format)
SWITCH: Final = Kind("", _read_switch, lambda value: "true" if value else "false")
DURATION: Final = Kind("DURATION", _with_unit(parse_duration, "30s"), format_duration)
SIZE: Final = Kind("SIZE", _with_unit(parse_size, "512M"), format_size)
SHARE: Final = Kind("SHARE", _read_share, format_share)
PATH: Final = Kind("PATH", _read_path)
TEXTS: Final = Kind("TEXT...", _read_texts, " ".join)
_BY_SUFFIX: Final = {"_ms": DURATION, "_bytes": SIZE, "_share": SHARE}


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """What `option()` says of a member of a section.

    shown      how a default reads that is no value.
    per_queue  False: the same for all queues of a master, so that a queue's table must not have it.
    """

    kind: Kind
    doc: str
    default: Any = None
    factory: Callable[[], Any] | None = None
    at_least: float | None = None
    at_most: float | None = None
    choices: Sequence[str] = ()
    check: Callable[[Any], str | None] | None = None
    flag: str | None = None
    secret: bool = False
    shown: str | None = None
    per_queue: bool = True

    def read(self, value: Any) -> Any:
        """`value` as the model holds it; raises `ValueError` with one sentence."""
        result = self.kind.read(value)
        if self.choices and result not in self.choices:
            raise ValueError(f"{result!r} is none of {', '.join(self.choices)}")
        if self.at_least is not None and result < self.at_least:
            raise ValueError(f"{self.kind.show(result)} is less than {self.kind.show(self.at_least)}")
        if self.at_most is not None and result > self.at_most:
            raise ValueError(f"{self.kind.show(result)} is more than {self.kind.show(self.at_most)}")
        refusal = self.check(result) if self.check is not None else None
        if refusal is not None:
            raise ValueError(refusal)
        return result

    def show(self, value: Any) -> str:
        """`value` as a user would write it."""
        if value is None:
            return self.shown or "none"
        return "(set)" if self.secret else self.kind.show(value)


def option(
    default: Any = None,
    *,
    doc: str,
    kind: Kind | None = None,
    factory: Callable[[], Any] | None = None,
    **more: Any,
) -> Any:
    """A member of a section; `more` are members of `Option`. With `factory` each section makes its default.

    The kind comes from the member's name (`_ms`, `_bytes`), else from the default, unless it is given.
    """
    kind = kind or _kind_of(default)
    return Option(kind=kind, doc=inspect.cleandoc(doc), default=default, factory=factory, **more)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _SectionMeta(msgspec.StructMeta):
    """Takes the options out of the class and leaves their defaults in their places."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **how: Any) -> Any:
        options = {own: _of_its_name(own, it) for own, it in namespace.items() if isinstance(it, Option)}
        for own, about in options.items():
            made = about.factory
            namespace[own] = about.default if made is None else msgspec.field(default_factory=made)
        namespace["__options__"] = options
        return super().__new__(cls, name, bases, namespace, **{"kw_only": True, **how})


def _of_its_name(name: str, about: Option) -> Option:
    """The same, of the kind that the end of its name says, if that says one."""
    for suffix, kind in _BY_SUFFIX.items():
        if name.endswith(suffix):
            return structs.replace(about, kind=kind)
    return about


class Section(msgspec.Struct, frozen=True, metaclass=_SectionMeta):
    """A table of the settings: each member is an `option()`, or a section of its own."""

    def __repr__(self) -> str:
        """Without what is secret."""
        options: Mapping[str, Option] = type(self).__options__  # type: ignore[attr-defined]
        shown = [name for name in self.__struct_fields__ if name not in options or not options[name].secret]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _kind_of(default: Any) -> Kind:
    if isinstance(default, bool):
        return SWITCH
    return INT if isinstance(default, int) else TEXT


def toml_name(attribute: str) -> str:
    """`duration_ms` -> `duration`: in TOML the unit stands in the value."""
    for suffix in _BY_SUFFIX:
        if attribute.endswith(suffix):
            return attribute.removesuffix(suffix)
    return attribute


def flag_name(section: str, attribute: str, about: Option) -> str:
    """`--lock-duration`; options of [policy] carry no section, and a few say their own name."""
    if about.flag is not None:
        return about.flag
    name = toml_name(attribute) if section == "policy" else f"{section}-{toml_name(attribute)}"
    return "--" + name.replace("_", "-")


def env_name(section: str, attribute: str) -> str:
    """`OXHERD_LOCK_DURATION`."""
    return f"OXHERD_{section}_{toml_name(attribute)}".upper()


def options_of(section: Any) -> Iterator[tuple[str, Option, Any]]:
    """(attribute, description, default) of every option of a section's class."""
    options: Mapping[str, Option] = section.__options__
    for name, about in options.items():
        yield name, about, about.default if about.factory is None else about.factory()


def by_toml_name(section: Any) -> Mapping[str, tuple[str, Option]]:
    """TOML key -> (attribute, description)."""
    return {toml_name(name): (name, about) for name, about, _ in options_of(section)}
