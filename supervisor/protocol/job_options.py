"""The options stored with a job, as far as a worker needs them: partial, typed, frozen."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from supervisor.errors import InvalidOptions


class KeepJobs(msgspec.Struct, frozen=True, kw_only=True):
    """How many finished jobs stay. Nothing set: all.

    count   0 removes the job itself, n keeps the n newest, None (or negative) all.
    age_s   remove what finished longer ago than this many seconds.
    limit   at most this many are removed by age in one call.
    """

    count: int | None = None
    age_s: int | None = msgspec.field(default=None, name="age")
    limit: int | None = None


KEEP_ALL: Final = KeepJobs()
Keep = bool | int | KeepJobs


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """When a failed attempt is tried again. `delay` is in milliseconds, `jitter` a share from 0 to 1."""

    type: str
    delay: float = 0
    jitter: float = 0


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker reads of `opts`. Unknown members are ignored, missing ones have BullMQ's defaults."""

    attempts: int = 0
    backoff: Backoff | float | None = None
    lifo: bool = False
    keep_logs: int | None = msgspec.field(default=None, name="kl")
    remove_on_complete: Keep | None = msgspec.field(default=None, name="removeOnComplete")
    remove_on_fail: Keep | None = msgspec.field(default=None, name="removeOnFail")
    stack_trace_limit: int | None = msgspec.field(default=None, name="stackTraceLimit")
    timeout_ms: float | None = msgspec.field(default=None, name="timeout")


_DECODER: Final = msgspec.json.Decoder(JobOptions, strict=False)
_PLAIN: Final = {b'{"attempts":0}': JobOptions(), b"": JobOptions(), b"{}": JobOptions()}


def decode_options(raw: bytes) -> JobOptions:
    """Decode a stored `opts`; raises `InvalidOptions` with one sentence a user can act on."""
    plain = _PLAIN.get(raw)
    if plain is not None:
        return plain
    try:
        return _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidOptions(f"the job's stored options cannot be understood: {error}") from None


def resolve_keep(of_job: Keep | None, of_worker: Keep | None) -> KeepJobs:
    """The job's own option, else the worker's, else keep everything."""
    keep = of_job if of_job is not None else of_worker
    if keep is None or keep is False:
        return KEEP_ALL
    if keep is True:
        return KeepJobs(count=0)
    if isinstance(keep, KeepJobs):
        return keep
    return KeepJobs(count=keep)


def backoff_of(options: JobOptions) -> Backoff | None:
    """`backoff` in one shape: a bare number means a fixed delay."""
    backoff: Any = options.backoff
    if backoff is None or isinstance(backoff, Backoff):
        return backoff
    return Backoff(type="fixed", delay=backoff)
