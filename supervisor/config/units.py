"""Durations, sizes and shares as people write them: `500ms 30s 10m 1h 2d`, `512M 2G`, `5%`.

Every function raises `ValueError` with one sentence that can be shown as it is.
"""

from __future__ import annotations

import re
from typing import Final

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TOO_MUCH: Final = 2.0**63
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([BKMGT])(?:i?B)?", re.IGNORECASE | re.ASCII)
_BYTES: Final = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_duration(text: str) -> int:
    """Milliseconds. `0` needs no unit; every other number does."""
    text = text.strip()
    if text == "0":
        return 0
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration; write it like 500ms, 30s, 10m or 1h")
    value = float(found[1]) * _MS[found[2]]
    if value >= _TOO_MUCH:
        raise ValueError(f"{text[:40]}... is no duration: it has too many digits")
    if value != int(value):
        raise ValueError(f"{text!r} is no whole number of milliseconds")
    return int(value)


def parse_size(text: str) -> int:
    """Bytes, K = 1024. `0` needs no unit; every other number does."""
    text = text.strip()
    if text == "0":
        return 0
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no size; write it like 64K, 512M or 2G")
    value = float(found[1]) * _BYTES[found[2].upper()]
    if value >= _TOO_MUCH:
        raise ValueError(f"{text[:40]}... is no size: it has too many digits")
    return int(value)


def parse_share(text: str) -> float:
    """The share, 0 to 1, that `5%` is; a bare number is refused, because nobody can see what it means."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share <= 1:
        raise ValueError(f"{text!r} is no share; write it like 5% or 0.5%")
    return share


def format_share(share: float) -> str:
    return f"{share * 100:.6g}%"


def format_duration(ms: int) -> str:
    """The shortest form that `parse_duration` reads back exactly."""
    if ms == 0:
        return "0"
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if ms % _MS[unit] == 0)
    return f"{ms // _MS[unit]}{unit}"


def format_size(count: int) -> str:
    """The shortest form that `parse_size` reads back exactly."""
    if count == 0:
        return "0"
    unit = next(unit for unit in ("T", "G", "M", "K", "B") if count % _BYTES[unit] == 0)
    return f"{count // _BYTES[unit]}{unit}"
