"""How values are written on the command line: durations, backoffs, JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from supervisor.config.shapes import BACKOFF
from supervisor.config.units import parse_duration, parse_share
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
PERCENT = Parsed("percent", parse_share)
BACKOFF_TYPE = Parsed("backoff", _read_backoff)
