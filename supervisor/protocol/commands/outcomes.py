"""What became of an attempt, as values that a `FinishAndFetch` carries.

Decides only their shape on the way to `lua/finishAndFetch.lua`; which of them an attempt gets is the
master's decision, what each does to the keys is the script's.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from supervisor.protocol.commands.base import Arg
from supervisor.protocol.job_options import KEEP_ALL, KeepJobs
from supervisor.protocol.jsontext import encode_text
from supervisor.protocol.keys import QueueKeys


def _optional(value: int | None) -> Arg:
    return "" if value is None else value


def _text(value: str) -> bytes:
    # Reasons are made from anything a processor raised; what UTF-8 cannot say must not stop the batch.
    return value.encode("utf-8", "backslashreplace")


def _keep(keep: KeepJobs) -> tuple[Arg, Arg, Arg]:
    return (_optional(keep.count), _optional(keep.age_s), _optional(keep.limit))


class Told(msgspec.Struct, frozen=True):
    """What is told of an end that was not the processor's word alone, beside its reason.

    record      one JSON object, on one line: the newest of the list in the job's hash.
    rows        for the job's log.
    is_crash    it counts among the job's crashes.
    is_bigger   the job is run once more, with more memory (`HandedBack`); then it counts as no crash.
    keep_rows   how many rows of the log stay; 0 for all.
    """

    record: bytes
    rows: Sequence[str] = ()
    is_crash: bool = False
    keep_rows: int = 0
    is_bigger: bool = False

    def part(self) -> bytes:
        record = encode_text(self.record.decode())
        # Without halves of surrogate pairs: Lua's JSON has none.
        rows = b"".join(b"," + encode_text(_text(row).decode()) for row in self.rows)
        mark = 2 if self.is_bigger else int(self.is_crash)
        return b"[%d,%d,%b%b]" % (mark, self.keep_rows, record, rows)


def _told(told: Told | None) -> Arg:
    return "" if told is None else told.part()


def _used(used: bytes) -> tuple[Arg, ...]:
    """What stands before an outcome that has some."""
    return ("U", used) if used else ()


class Completed(msgspec.Struct, frozen=True):
    """The processor returned. `value` is its result as JSON text, carried as it came.

    used   of this and others: what was measured of the attempt, one JSON object for the job's hash; or empty.
    """

    job_id: str
    token: str
    value: bytes
    keep: KeepJobs
    used: bytes = b""

    def parts(self) -> tuple[Arg, ...]:
        keep = self.keep
        parts: tuple[Arg, ...]
        if keep == KEEP_ALL:
            parts = ("D", self.job_id, self.token, self.value)
        else:
            parts = ("C", self.job_id, self.token, self.value, *_keep(keep))
        return (*_used(self.used), *parts) if self.used else parts


class Failed(msgspec.Struct, frozen=True):
    """The last attempt failed, or the job must not be tried again.

    reason        raw text for `failedReason`.
    stack         one entry for the `stacktrace` array, or None to add none.
    stack_limit   `stackTraceLimit`: the newest n entries stay; None for all.
    attempts      `opts.attempts`; decides whether `retries-exhausted` is told.
    spare_parent  leave the parent's keys alone: they were found corrupt (see `Code.GUILTY`).
    dead_letter   the queue that gets a copy of the job, written with the failure or not at all.
    told          of an end that was not the processor's word alone.
    """

    job_id: str
    token: str
    reason: str
    stack: str | None
    keep: KeepJobs
    attempts: int
    stack_limit: int | None = None
    spare_parent: bool = False
    dead_letter: QueueKeys | None = None
    told: Told | None = None
    used: bytes = b""

    def parts(self) -> tuple[Arg, ...]:
        return (
            *_used(self.used),
            "F",
            self.job_id,
            self.token,
            _text(self.reason),
            "" if self.stack is None else encode_text(self.stack),
            *_keep(self.keep),
            self.attempts,
            _optional(self.stack_limit),
            int(self.spare_parent),
            "" if self.dead_letter is None else self.dead_letter.base + ":",
            _told(self.told),
        )


class Retried(msgspec.Struct, frozen=True):
    """The attempt failed and the job waits for another: at once (`delay_ms` 0) or delayed. `atm` + 1."""

    job_id: str
    token: str
    reason: str
    stack: str | None
    delay_ms: int = 0
    lifo: bool = False
    stack_limit: int | None = None
    told: Told | None = None
    used: bytes = b""

    def parts(self) -> tuple[Arg, ...]:
        return (
            *_used(self.used),
            "R",
            self.job_id,
            self.token,
            _text(self.reason),
            "" if self.stack is None else encode_text(self.stack),
            self.delay_ms,
            int(self.lifo),
            _optional(self.stack_limit),
            _told(self.told),
        )


class Postponed(msgspec.Struct, frozen=True):
    """The processor raised `Delayed`: back to delayed, no attempt counted."""

    job_id: str
    token: str
    delay_ms: int

    def parts(self) -> tuple[Arg, ...]:
        return ("P", self.job_id, self.token, self.delay_ms)


class RateLimited(msgspec.Struct, frozen=True):
    """The processor raised `RateLimited`: back to the front, no attempt counted.

    `hold_ms` > 0 also sets the queue's limiter key for so long, as BullMQ's `rateLimit(ms)` does.
    """

    job_id: str
    token: str
    hold_ms: int = 0

    def parts(self) -> tuple[Arg, ...]:
        return ("L", self.job_id, self.token, self.hold_ms)


class HandedBack(msgspec.Struct, frozen=True):
    """Cut off by a stop (I9): front of its queue or of its priority, `ats` - 1, no `processedOn`."""

    job_id: str
    token: str
    told: Told | None = None

    def parts(self) -> tuple[Arg, ...]:
        return ("H", self.job_id, self.token, _told(self.told))


class AwaitsChildren(msgspec.Struct, frozen=True):
    """The processor raised `WaitingChildren`: no attempt counted.

    To waiting-children; with no child pending to the front of its queue, and refused with
    `Code.FAILED_CHILDREN` when a child has failed under `fail_parent_on_failure`.
    """

    job_id: str
    token: str

    def parts(self) -> tuple[Arg, ...]:
        return ("W", self.job_id, self.token)


Outcome = Completed | Failed | Retried | Postponed | RateLimited | HandedBack | AwaitsChildren


class Written(msgspec.Struct, frozen=True):
    """What became of one outcome.

    code   `Code.DONE` when written; else nothing of it was written.
    text   for `Code.GUILTY` what is wrong; for `Code.DONE` why there is no dead letter, or nothing; for an
           outcome that a repetition did not write, what was seen instead: `written` (its traces are there,
           and the code is `Code.DONE`), `gone` (no hash) or `not ours`.
    """

    code: int
    text: str = ""
