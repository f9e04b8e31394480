"""What left the processor, said in the words of a FAILED frame.

Decides kind, reason and stack of a failure; not what becomes of the job (attempts and backoff are the
master's). I10: a reason is never empty, whatever the exception's own `__str__` does.
"""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass

from sandbox import codec
from sandbox.errors import Cancelled, Delayed, RateLimited, TimeLimit, Unrecoverable, WaitingChildren
from sandbox.policy import size_text
from sandbox.wire import MAX_SMALL, FailureKind

MAX_REASON = 16_000  # characters
MAX_STACK = 32 * 1024
MAX_FRAMES = 100  # of a traceback, the innermost

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_FROZEN = "<frozen "
_ASYNCIO = os.path.join(os.path.dirname(os.__file__), "asyncio") + os.sep
_IMPORTLIB = os.path.join(os.path.dirname(os.__file__), "importlib") + os.sep


@dataclass(slots=True)
class Failure:
    """The body of a FAILED frame.

    delay_ms         for Delayed and RateLimited, else 0.
    backoff_ms       what the processor's own backoff function said; -1: do not try again. None: it has none.
    retire           this runner should not be given another job.
    retry_after_ms   what the exception itself says of the next attempt; None: nothing.
    """

    kind: str
    reason: str
    stack: str = ""
    delay_ms: int = 0
    backoff_ms: int | None = None
    retire: bool = False
    retry_after_ms: int | None = None

    def to_bytes(self) -> bytes:
        """At most MAX_SMALL bytes; stack and reason give way."""
        whole = self._encoded(MAX_REASON, MAX_STACK)
        if len(whole) > MAX_SMALL:
            # A character takes at most 6 bytes of JSON.
            whole = self._encoded(MAX_REASON // 8, MAX_STACK // 8)
        return whole

    def _encoded(self, reason_chars: int, stack_chars: int) -> bytes:
        return codec.encode(
            {
                "kind": self.kind,
                "reason": shorten(self.reason, reason_chars) or self.kind,
                "stack": shorten(self.stack, stack_chars),
                "delay_ms": self.delay_ms,
                "backoff_ms": self.backoff_ms,
                "retire": self.retire,
                "retry_after_ms": self.retry_after_ms,
            }
        )


def shorten(text: str, limit: int) -> str:
    """`text`, or its two ends when it is longer than `limit` characters: the end of a traceback says most."""
    if len(text) <= limit:
        return text
    head = limit // 4
    tail = limit - head
    return f"{text[:head]}\n... {len(text) - limit} characters left out ...\n{text[-tail:]}"


def message_of(error: BaseException) -> str:
    """The exception's own words, or its class when it has none. Never empty."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception as broken:  # the user's __str__: part of the border of the processor call
        return f"{name} (its message cannot be read: {type(broken).__name__})"
    if isinstance(error, Cancelled):
        return text if text.strip() else "cancelled"
    if not isinstance(error, Exception):
        return f"{name}: {text}" if text else name
    if isinstance(error, MemoryError):
        return f"out of memory ({text or name})"
    return text if text.strip() else name


def judge(error: BaseException, limit_ms: int = 0) -> Failure:
    """The failure that `error`, raised by a processor, amounts to."""
    if isinstance(error, Delayed):
        return Failure(FailureKind.DELAYED, message_of(error), delay_ms=error.delay_ms)
    if isinstance(error, RateLimited):
        return Failure(FailureKind.RATE_LIMITED, message_of(error), delay_ms=error.delay_ms)
    if isinstance(error, WaitingChildren):
        return Failure(FailureKind.WAITING_CHILDREN, message_of(error))
    stack = stack_of(error)
    if isinstance(error, TimeLimit):
        reason = f"time limit of {limit_ms} ms exceeded (soft)" if limit_ms > 0 else message_of(error)
        return Failure(FailureKind.TIME_LIMIT, reason, stack)
    if isinstance(error, Cancelled):
        # It may have been raised anywhere, so nobody knows what is whole.
        return Failure(FailureKind.CANCELLED, message_of(error), stack, retire=True)
    if isinstance(error, Unrecoverable):
        return Failure(FailureKind.UNRECOVERABLE, message_of(error), stack)
    # What is not an Exception meant to end the process; and after a MemoryError nobody knows what is whole.
    retire = not isinstance(error, Exception) or isinstance(error, MemoryError)
    after_ms = _retry_after_ms(error)
    return Failure(FailureKind.RAISED, message_of(error), stack, retire=retire, retry_after_ms=after_ms)


def of_a_limit(failure: Failure, error: BaseException, limits: dict[str, int]) -> None:
    """Say of a failure that came of one of the attempt's own limits that it did."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) and limits.get("memory_bytes"):
        failure.kind = FailureKind.OUT_OF_MEMORY
    elif number == errno.EMFILE and (most := limits.get("open_files")):
        failure.reason += f" (its limit: {most} open files)"
    elif number == errno.EFBIG and (most := limits.get("file_size_bytes")):
        failure.reason += f" (its limit: files of {size_text(most)})"


def _retry_after_ms(error: BaseException) -> int | None:
    try:
        after_ms = getattr(error, "retry_after_ms", None)
    except Exception:  # the user's property: part of the border of the processor call
        return None
    if isinstance(after_ms, bool) or not isinstance(after_ms, int) or after_ms < 0:
        return None
    return after_ms


def stack_of(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames that are ours; empty when it cannot be made."""
    try:
        summary = traceback.TracebackException(
            type(error), error, error.__traceback__, limit=-MAX_FRAMES, compact=True
        )
        _trim(summary, set())
        return "".join(summary.format())
    except Exception:  # half-broken exception objects of the user's: a stack is worth less than an outcome
        return ""


def _trim(summary: traceback.TracebackException, seen: set[int]) -> None:
    if id(summary) in seen:
        return
    seen.add(id(summary))
    frames = [frame for frame in summary.stack if not frame.filename.startswith(_OURS)]
    first = next((n for n, frame in enumerate(frames) if not _is_machinery(frame.filename)), 0)
    summary.stack = traceback.StackSummary.from_list(frames[first:])
    below = [summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())]
    for other in below:
        if other is not None:
            _trim(other, seen)


def _is_machinery(filename: str) -> bool:
    """What stands between our call and the user's first line: the event loop, the import system."""
    return filename.startswith((_ASYNCIO, _IMPORTLIB, _FROZEN))
