"""JSON as the wire wants it: compact, UTF-8, no NaN; and a sentence when a value cannot be said in it."""

from __future__ import annotations

import json
from typing import Any, NoReturn

_COMPACT = (",", ":")
_encode_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=_COMPACT).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=_COMPACT).encode

MAX_LOOKED_AT = 100_000  # values; the search for the guilty one is for a sentence, not worth more


class NotJson(ValueError):
    """The message says which value, where, and why not."""


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def decode(raw: bytes) -> Any:
    """The value of JSON text. Raises ValueError (RecursionError for absurd nesting) when it is none."""
    text = raw.decode("utf-8")
    try:
        # Without the two searches for white space around it.
        value, end = _decoder.scan_once(text, 0)  # type: ignore[attr-defined]  # its stub lacks it
        if end == len(text):
            return value
    except StopIteration:
        pass
    return _decoder.decode(text)


def encode(value: Any) -> bytes:
    """Compact JSON text. Raises `NotJson` with a sentence about the value that cannot be said."""
    if value is None:
        return b"null"
    try:
        return _encode_text(value).encode("utf-8")
    except UnicodeEncodeError:
        # A lone surrogate, as JavaScript allows them: said with an escape.
        return _encode_ascii(value).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(explain(value, error)) from None


def has_half_a_pair(encoded: bytes) -> bool:
    """Whether half of a surrogate pair is written somewhere in this JSON text: some readers refuse it."""
    if b"\\ud" not in encoded:
        return False
    try:
        _encode_text(decode(encoded)).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def explain(value: Any, error: Exception) -> str:
    """Why `value` could not be encoded, naming type and path of the first guilty part."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return _find_guilty(value) or str(error)


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _find_guilty(value: Any) -> str | None:
    """A sentence about the first part that JSON cannot say; None when the search found nothing."""
    stack: list[tuple[str, Any, frozenset[int]]] = [("", value, frozenset())]
    for _ in range(MAX_LOOKED_AT):
        if not stack:
            return None
        path, part, above = stack.pop()
        where = f"at {path}" if path else "it"
        if part is None or isinstance(part, (str, int)):
            continue
        if isinstance(part, float):
            if part != part or part in (float("inf"), float("-inf")):
                return f"{where} is {part!r}, which is no JSON number"
            continue
        if not isinstance(part, (dict, list, tuple)):
            return f"{where} is of type {_type_name(part)}, which JSON cannot say"
        if id(part) in above:
            return f"{where} contains itself"
        inside = above | {id(part)}
        if isinstance(part, dict):
            for key in part:
                if not isinstance(key, (str, int, float, type(None))):
                    return f"{where} has a key of type {_type_name(key)}, which JSON cannot say"
            stack.extend((f"{path}[{key!r}]", item, inside) for key, item in reversed(part.items()))
        else:
            stack.extend((f"{path}[{n}]", part[n], inside) for n in reversed(range(len(part))))
    return None
