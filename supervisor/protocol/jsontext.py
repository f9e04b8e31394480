"""JSON text: what we write of job data, and how we read what others wrote.

Decides which library says it: msgspec, and the standard one where that refuses what JSON can say (lone
surrogates, which Node writes as escapes, and integers beyond 64 bits). NaN and Infinity are refused, because
no other language could read them.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from supervisor.errors import InvalidJob

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: Any) -> bytes:
    """`value` as JSON text; raises `InvalidJob` with a sentence when JSON cannot say it."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return _encode_slowly(value)
    # msgspec writes NaN and Infinity as null: only then look for one.
    try:
        no_number = b"null" in text and _says_no_number(value)
    except RecursionError:
        raise InvalidJob("the data is nested too deeply to be looked through; nothing was sent") from None
    if no_number:
        raise InvalidJob("the data has a NaN or an Infinity in it, which JSON cannot say; nothing was sent")
    return text


def _encode_slowly(value: Any) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":")).encode()
    except RecursionError:
        raise InvalidJob("the data is nested too deeply for JSON; nothing was sent") from None
    except ValueError as error:
        raise InvalidJob(f"the data cannot be written as JSON: {error}; nothing was sent") from None
    except TypeError as error:
        raise InvalidJob(f"the data cannot be written as JSON: {error}; nothing was sent") from None


def _says_no_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_says_no_number(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return any(_says_no_number(part) for part in value)
    fields = getattr(value, "__dataclass_fields__", None) or getattr(value, "__struct_fields__", None)
    if fields:
        return any(_says_no_number(getattr(value, name, None)) for name in fields)
    return False


def encode_text(value: str) -> bytes:
    """One string as JSON; any string has a form."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def decode(text: bytes) -> Any:
    """The value of a JSON text; raises `ValueError` with a sentence when it is none."""
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
