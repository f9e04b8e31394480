"""How values are written on the command line: durations, backoffs, JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from supervisor.config.shapes import BACKOFF
from supervisor.config.units import parse_duration
from supervisor.errors import OxherdError
from supervisor.protocol.backoff_choice import Backoff
from supervisor.protocol.jsontext import decode


class Parsed(click.ParamType[Any]):
    """A type whose reader raises `ValueError` with a sentence."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except (ValueError, OxherdError) as error:
            self.fail(str(error), param, ctx)


def _read_backoff(text: str) -> Backoff:
    parsed = BACKOFF.read(text)
    return Backoff(parsed.kind, parsed.delay_ms, parsed.jitter)


def _read_percent(text: str) -> float:
    """The share that `5%` is; a bare number is refused, because nobody can see what it means."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share; write it like 5% or 0.5%")
    return share


def read_json(text: str | bytes) -> Any:
    """The value, or `ValueError` that says where the text stops being JSON."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    try:
        return decode(raw)
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text (byte {error.start})") from None
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from None


DURATION = Parsed("duration", parse_duration)
PERCENT = Parsed("percent", _read_percent)
BACKOFF_TYPE = Parsed("backoff", _read_backoff)
