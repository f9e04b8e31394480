"""The trace that a job belongs to: what its producer left in the options, as BullMQ's telemetry does.

It is a text that is JSON of a carrier, {"traceparent": "00-..."}. Decides only how it is found; what it means
is OpenTelemetry's business. A stranger's text: whatever is not of this form is no context, and never an
error."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from supervisor.protocol import fields

LONGEST_OPTIONS = 65_536  # bytes
NOTHING: Mapping[str, str] = {}


class _Options(msgspec.Struct, frozen=True):
    context: str = msgspec.field(default="", name=fields.TELEMETRY)


_OPTIONS = msgspec.json.Decoder(_Options)
_CARRIER = msgspec.json.Decoder(dict[str, str])


def carrier_of(options: bytes) -> Mapping[str, str]:
    """The carrier in a job's stored options; empty for none."""
    if len(options) > LONGEST_OPTIONS:
        return NOTHING
    try:
        context = _OPTIONS.decode(options).context
        return _CARRIER.decode(context.encode()) if context else NOTHING
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return NOTHING
