"""The small bodies of frames, as the master writes and reads them: typed, bounded, never trusted (I7).

The raw bodies (data, progress, result) are not for this module: they pass through as bytes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec

from sandbox.policy import Limits
from sandbox.wire import START_META, FailureKind
from supervisor.master.verdicts import (
    AskedForChildren,
    AskedForDelay,
    AskedForPause,
    Cause,
    Crashed,
    GaveUp,
    Raised,
    Verdict,
)
from supervisor.protocol import fields
from supervisor.protocol.commands.work import FetchedJob
from supervisor.protocol.job_options import JobOptions
from supervisor.protocol.jsontext import decode, encode

REASON_CHARS: Final = 16_384
STACK_CHARS: Final = 65_536
LONGEST_DELAY_MS: Final = 2**53
Figure = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class BadMessage(Exception):
    """A body that no runner of ours sends."""


class _StartMeta(msgspec.Struct, frozen=True):
    id: str
    name: str
    queue: str
    attempt: int
    attempts: int
    timestamp: int
    priority: int
    parent: msgspec.Raw
    soft_timeout_ms: int
    limits: msgspec.Raw
    started: int


class HookFacts(msgspec.Struct, frozen=True):
    """What a hook is told beside the job's own; the names are those of sandbox/hooks.py."""

    queue: str
    reason: str | None
    stack: str | None
    happened_on: int
    data_bytes: int


class HookMeta(msgspec.Struct, frozen=True):
    """The meta object of a START frame that calls a hook."""

    id: str
    name: str
    queue: str  # the kind of the hook: it stands where a processor's queue does
    attempt: int
    attempts: int
    hook: HookFacts


class _Failure(msgspec.Struct, frozen=True):
    kind: str
    reason: str = ""
    stack: str | None = None
    delay_ms: int = 0
    backoff_ms: int | None = None
    retire: bool = False
    retry_after_ms: int | None = None


class Left(msgspec.Struct, frozen=True):
    """What a job left behind in its runner, and whether that must not be given another."""

    left: list[str]
    retire: bool


class Told(msgspec.Struct, frozen=True):
    """What a runner says that it uses itself; None for what it could not find out."""

    pss_bytes: Figure | None = None
    open_files: Figure | None = None
    read_bytes: Figure | None = None
    written_bytes: Figure | None = None


class Used(msgspec.Struct, frozen=True):
    """What a runner says that its job has used, with the processes that it started and waited for.

    peak_bytes   None when the job did not make the runner larger than it was before.
    """

    user_ms: Figure = 0
    system_ms: Figure = 0
    read_bytes: Figure = 0
    written_bytes: Figure = 0
    peak_bytes: Figure | None = None


class Ask(msgspec.Struct, frozen=True):
    """A runner's question. Which members belong to which `what` is relay.py's business."""

    seq: int
    what: Literal[
        "add",
        "children_values",
        "ignored_failures",
        "dependencies",
        "breaker_enter",
        "breaker_leave",
        "saga_record",
        "saga_keep",
    ]
    queue: str = ""
    name: str = ""
    data: msgspec.Raw = msgspec.Raw(b"null")
    options: dict[str, msgspec.Raw] = {}


_ENCODE: Final = msgspec.json.Encoder().encode
_FAILURE: Final = msgspec.json.Decoder(_Failure)
_ASK: Final = msgspec.json.Decoder(Ask)
_LEFT: Final = msgspec.json.Decoder(Left)
_TOLD: Final = msgspec.json.Decoder(Told)
_USED: Final = msgspec.json.Decoder(Used)
_CAUSES: Final = {FailureKind.TIME_LIMIT: Cause.WALL_TIME, FailureKind.BAD_RESULT: Cause.BAD_RESULT}
_NO_PARENT: Final = msgspec.Raw(b"null")


def start_frame(queue: str, job: FetchedJob, options: JobOptions, limits: Limits) -> bytes:
    """The body of a START frame."""
    meta = _ENCODE(
        _StartMeta(
            job.id,
            job.name,
            queue,
            job.attempts_made + 1,
            options.attempts,
            job.timestamp,
            job.priority,
            _parent_of(job),
            limits.soft_timeout_ms,
            _text_of(limits),
            job.attempts_started,
        )
    )
    return START_META.pack(len(meta)) + meta + job.data


@lru_cache(maxsize=256)
def _text_of(limits: Limits) -> msgspec.Raw:
    """JSON of what is set, or null. There are few of them, and one is asked for with each job."""
    return msgspec.Raw(_ENCODE(limits.to_json() or None))


def _parent_of(job: FetchedJob) -> msgspec.Raw:
    """`id` and `queue` of the parent, or none when they cannot be understood."""
    try:
        told = decode(job.parent) if job.parent else None
    except ValueError:
        return _NO_PARENT
    if not isinstance(told, dict):
        return _NO_PARENT
    parent = {"id": told.get(fields.PARENT_ID), "queue": told.get(fields.PARENT_QUEUE_KEY)}
    return msgspec.Raw(encode(parent))


def cancel_frame(reason: str) -> bytes:
    """The body of a CANCEL frame."""
    return _ENCODE({"reason": reason})


def hook_frame(meta: HookMeta, data: bytes, result: bytes) -> bytes:
    """The body of a START frame that calls a hook. `data` and `result` are JSON text; empty for none."""
    encoded = _ENCODE(meta)
    return START_META.pack(len(encoded)) + encoded + data + result


def verdict_of_failure(body: bytes) -> tuple[Verdict, bool]:
    """What a FAILED frame says, and whether the runner must be retired. Raises `BadMessage`."""
    try:
        failure = _FAILURE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"a failure that cannot be read: {error}") from None
    delay_ms = min(max(failure.delay_ms, 0), LONGEST_DELAY_MS)
    match failure.kind:
        case FailureKind.DELAYED:
            return AskedForDelay(delay_ms), failure.retire
        case FailureKind.RATE_LIMITED:
            return AskedForPause(delay_ms), failure.retire
        case FailureKind.RAISED | FailureKind.TIME_LIMIT | FailureKind.CANCELLED:
            final = False
        case FailureKind.UNRECOVERABLE | FailureKind.BAD_DATA | FailureKind.BAD_RESULT:
            final = True
        case FailureKind.OUT_OF_MEMORY:
            stack = failure.stack and failure.stack[:STACK_CHARS]
            return Crashed(Cause.MEMORY_LIMIT, failure.reason[:REASON_CHARS], stack), failure.retire
        case FailureKind.WAITING_CHILDREN:
            return AskedForChildren(), failure.retire
        case _:
            raise BadMessage(f"a failure of the unknown kind {failure.kind[:40]!r}")
    # I10: never an empty reason.
    reason = failure.reason[:REASON_CHARS] or "the processor failed without a reason"
    stack = failure.stack[:STACK_CHARS] if failure.stack is not None else None
    if failure.kind == FailureKind.CANCELLED:
        return GaveUp(reason, stack), failure.retire
    backoff_ms = failure.backoff_ms
    if backoff_ms is not None:
        backoff_ms = min(max(backoff_ms, -1), LONGEST_DELAY_MS)
    after_ms = failure.retry_after_ms
    if after_ms is not None:
        after_ms = min(max(after_ms, 0), LONGEST_DELAY_MS)
    cause = _CAUSES.get(failure.kind)
    return Raised(reason, stack, final, backoff_ms, after_ms, cause), failure.retire


def read_left(body: bytes) -> Left:
    """What a LEFT frame says. Raises `BadMessage`."""
    try:
        told = _LEFT.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"what a job left behind cannot be read: {error}") from None
    if not told.left or sum(map(len, told.left)) > REASON_CHARS:
        raise BadMessage("what a job left behind is nothing, or too much to be told")
    return told


def read_told(body: bytes) -> Told:
    try:
        return _TOLD.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"figures that cannot be read: {error}") from None


def read_used(body: bytes) -> Used:
    try:
        return _USED.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"figures of a job that cannot be read: {error}") from None


def read_ask(body: bytes) -> Ask:
    try:
        return _ASK.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"a question that cannot be read: {error}") from None


def answer(seq: int, *, value: bytes | None = None, error: str | None = None) -> bytes:
    """The body of an ANSWER frame: a value (JSON text) or one sentence."""
    if error is not None:
        return _ENCODE({"seq": seq, "error": error})
    return _ENCODE({"seq": seq, "value": msgspec.Raw(value or b"null")})
