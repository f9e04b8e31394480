"""Options that are more than one number: what to keep, a rate limit, a share of the pool, a backoff.

Each has the table that TOML gives and a short text for flags and the environment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from supervisor.config.option import Kind
from supervisor.config.units import format_duration, parse_duration

BACKOFF_KINDS: Final = ("exponential", "fixed")
MOST_WEIGHT: Final = 1_000


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How many finished jobs stay. Nothing set: all.

    count   the newest so many; 0 for none.
    age_s   those that finished at most this many seconds ago.
    limit   at most so many are removed for their age in one call.
    """

    count: int | None = None
    age_s: int | None = None
    limit: int | None = None


class Limiter(msgspec.Struct, frozen=True, kw_only=True):
    """At most `max` jobs in `duration_ms`, over all workers of the queue."""

    max: int
    duration_ms: int


class PoolShare(msgspec.Struct, frozen=True, kw_only=True):
    """What one queue has of the pool.

    weight   its part of the slots, beside the weights of the others that have jobs.
    minimum  so many slots are kept for it.
    """

    weight: int = 1
    minimum: int = 0


class BackoffConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is tried again. `jitter` is a share from 0 to 1."""

    kind: str
    delay_ms: int = 0
    jitter: float = 0


def nearest(name: str, known: Iterable[str], at_least: float = 0.6) -> str | None:
    """The known name that looks most like `name`, if any does by a share of `at_least`."""
    import difflib  # at the top it would cost each start 1 ms for a mistake that few make

    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=at_least)
    return near[0] if near else None


def unknown(name: str, known: Iterable[str]) -> str:
    """A sentence about a name nobody knows, with the nearest one that somebody does."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else f"known are {', '.join(names)}"
    return f"{name!r} is unknown; {hint}"


def _table(value: dict[str, Any], known: Iterable[str]) -> dict[str, Any]:
    for name in value:
        if name not in known:
            raise ValueError(unknown(name, known))
    return value


def _count(value: Any, what: str, at_least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{what} is {value!r} and must be a whole number, {at_least} or more")
    return value


def _seconds(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit; write it in quotes with one, like '24h'")
    return math.ceil(parse_duration(value) / 1000)


def _read_keep(value: Any) -> Keep:
    if isinstance(value, Keep):
        return value
    if isinstance(value, dict):
        table = _table(value, ("count", "age", "limit"))
        return Keep(
            count=_count(table["count"], "count") if "count" in table else None,
            age_s=_seconds(table["age"]) if "age" in table else None,
            limit=_count(table["limit"], "limit", 1) if "limit" in table else None,
        )
    if isinstance(value, str):
        return _keep_of_text(value)
    return Keep(count=_count(value, "the count"))


def _keep_of_text(text: str) -> Keep:
    """`all`, `1000`, `24h` or `1000,24h`."""
    if text.strip() == "all":
        return Keep()
    count = age_s = None
    for part in text.split(","):
        if part.strip().isdecimal():
            count = int(part)
        else:
            try:
                age_s = _seconds(part)
            except ValueError:
                raise ValueError(f"{text!r} is neither all, nor a count, nor an age like 24h") from None
    return Keep(count=count, age_s=age_s)


def _show_keep(keep: Keep) -> str:
    parts = [] if keep.count is None else [str(keep.count)]
    if keep.age_s is not None:
        parts.append(format_duration(keep.age_s * 1000))
    return ",".join(parts) or "all"


def _read_limiter(value: Any) -> Limiter:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is no table like {{ max = 100, duration = '1s' }}")
    table = _table(value, ("max", "duration"))
    if len(table) != 2:
        raise ValueError("a limiter needs both: { max = 100, duration = '1s' }")
    if not isinstance(table["duration"], str):
        raise ValueError(f"duration is {table['duration']!r} and must be written with its unit, like '1s'")
    duration_ms = parse_duration(table["duration"])
    if duration_ms < 1:
        raise ValueError("the duration of a limiter must be more than 0")
    return Limiter(max=_count(table["max"], "max", 1), duration_ms=duration_ms)


def _show_limiter(limiter: Limiter) -> str:
    return f"{limiter.max} in {format_duration(limiter.duration_ms)}"


def _read_share(value: Any) -> PoolShare:
    if not isinstance(value, dict):
        raise ValueError(f"{_written(value)} is no table like {{ weight = 3, minimum = 1 }}")
    table = _table(value, ("weight", "minimum"))
    share = PoolShare(
        weight=_count(table.get("weight", 1), "weight", 1), minimum=_count(table.get("minimum", 0), "minimum")
    )
    if share.weight > MOST_WEIGHT:
        raise ValueError(f"weight is {share.weight} and must be a whole number, 1 to {MOST_WEIGHT}")
    return share


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _show_share(share: PoolShare) -> str:
    return f"weight {share.weight}, minimum {share.minimum}"


def _read_backoff(value: Any) -> BackoffConfig:
    """`1s` (fixed), `exponential:1s`, `exponential:1s:0.5` (with jitter), or `custom:name:1s`."""
    if isinstance(value, dict):
        table = _table(value, ("kind", "delay", "jitter"))
        parts = [str(table.get("kind", "fixed")), str(table.get("delay", "0")), str(table.get("jitter", 0))]
    elif isinstance(value, str) and value.strip():
        parts = value.strip().split(":")
        if parts[0][:1].isdecimal():
            parts.insert(0, "fixed")
        parts = _of_known_kind(parts)
    else:
        raise ValueError(f"{value!r} is no backoff; write it like '1s' or 'exponential:1s'")
    if len(parts) > 3:
        raise ValueError(f"{value!r} is no backoff; write it like 'exponential:1s:0.5'")
    try:
        jitter = float(parts[2]) if len(parts) == 3 else 0.0
    except ValueError:
        raise ValueError(f"jitter is {parts[2]!r} and must be a number from 0 to 1") from None
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is {parts[2]} and must be a number from 0 to 1")
    delay_ms = parse_duration(parts[1]) if len(parts) > 1 else 0
    return BackoffConfig(kind=parts[0], delay_ms=delay_ms, jitter=jitter)


def _of_known_kind(parts: list[str]) -> list[str]:
    """The parts from the kind on; a name of the user's own follows `custom`, so that a typo is none."""
    kind = parts[0]
    if kind == "custom":
        if len(parts) == 1 or not parts[1]:
            raise ValueError(
                "a custom backoff has the name that the workers know: custom:NAME or custom:NAME:1s"
            )
        return parts[1:]
    if kind not in BACKOFF_KINDS:
        near = nearest(kind, BACKOFF_KINDS, 0.5)
        hint = f"did you mean {near!r}?" if near else f"known are {', '.join(BACKOFF_KINDS)}."
        raise ValueError(f"backoff {kind!r} is unknown; {hint} One of your own is written custom:{kind}")
    return parts


def _show_backoff(backoff: BackoffConfig) -> str:
    own = "" if backoff.kind in BACKOFF_KINDS else "custom:"
    text = f"{own}{backoff.kind}:{format_duration(backoff.delay_ms)}"
    return f"{text}:{backoff.jitter:g}" if backoff.jitter else text


KEEP: Final = Kind("all|N|AGE", _read_keep, _show_keep)
LIMITER: Final = Kind("TABLE", _read_limiter, _show_limiter)
SHARE_OF_POOL: Final = Kind("TABLE", _read_share, _show_share)
BACKOFF: Final = Kind("BACKOFF", _read_backoff, _show_backoff)
