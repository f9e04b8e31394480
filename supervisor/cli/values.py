"""How values are written on the command line: durations, backoffs, JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
import msgspec

from supervisor.client.backoff import Backoff
from supervisor.config.shapes import BACKOFF
from supervisor.config.units import parse_duration, parse_size
from supervisor.errors import OxherdError


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
    return Backoff(parsed.type, parsed.delay_ms, parsed.jitter)


def read_json(text: str | bytes) -> Any:
    """The value, or `ValueError` that says where it stops being JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"this is not JSON: {error}") from None


DURATION = Parsed("duration", parse_duration)
SIZE = Parsed("size", parse_size)
BACKOFF_TYPE = Parsed("backoff", _read_backoff)
JSON_TYPE = Parsed("json", read_json)
