"""The call a master lives by: outcomes written and the next jobs fetched, in one exchange.

Decides how `lua/finishAndFetch.lua` is called and read, nothing of when. It is called for every few jobs, so
the decoder indexes and does little else; job data stays bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from msgspec import structs

from supervisor.protocol.commands.base import Arg, Reply
from supervisor.protocol.commands.outcomes import Outcome, Written
from supervisor.protocol.job_record import number_of
from supervisor.protocol.keys import QueueKeys


class Limiter(msgspec.Struct, frozen=True):
    """The worker's own rate limit: at most `max` jobs in `duration_ms`."""

    max: int
    duration_ms: int


class FetchedJob(msgspec.Struct):
    """An active job as the master carries it: data, options and parent stay bytes. `token` is its lock's.

    scheduler_id   whose run it is, if a job scheduler made it.
    crashes        how many attempts at it have ended by a crash.
    bigger         it met its memory limit once, and is run alone with twice as much.
    """

    id: str
    token: str
    name: str
    data: bytes
    opts: bytes
    timestamp: int
    priority: int
    attempts_made: int
    attempts_started: int
    stalled_count: int
    deferred: str | None
    parent: bytes | None
    scheduler_id: str | None = None
    crashes: int = 0
    bigger: bool = False


class Exchange(msgspec.Struct, frozen=True):
    """The reply to `FinishAndFetch`.

    written      one entry for each outcome, in their order.
    jobs         what was fetched, at most as many as were asked for.
    dropped      ids that stood on a list without a usable hash; they are off the list now, with the reason.
    limited_ms   > 0: nothing may be fetched for so long (limiter).
    held         the queue is paused or at its global concurrency.
    next_due_ms  epoch milliseconds of the earliest delayed job when fewer were found than asked; 0 for none.
    fetch_error  what Redis said when the fetching half failed; the outcomes stand all the same.
    """

    written: Sequence[Written]
    jobs: Sequence[FetchedJob]
    dropped: Sequence[tuple[str, str]] = ()
    limited_ms: int = 0
    held: bool = False
    next_due_ms: int = 0
    fetch_error: str | None = None


class FinishAndFetch(msgspec.Struct, frozen=True):
    """Write outcomes and take up to `count` jobs of one queue, in one call. Decodes to an `Exchange`.

    call_token   the lock token of every job this call takes; never used for another call.
    now_ms       epoch milliseconds by this host's clock (BullMQ uses the client's clock throughout).
    ahead_us     for a call that waits at the server before it runs: so many microseconds is this host's clock
                 ahead of Redis', by which the script then knows what time it is; `now_ms` is not looked at.
    metrics      points to keep per outcome (`metrics.maxDataPoints`); 0 for none.
    again        this call was sent before and its reply was lost: jobs whose lock holds `call_token` are
                 found in `active` first, and an outcome is written only where its lock still stands.
    """

    script: ClassVar[str] = "finishAndFetch"

    queue: QueueKeys
    call_token: str
    now_ms: int
    lock_ms: int
    count: int
    outcomes: Sequence[Outcome] = ()
    limiter: Limiter | None = None
    worker_name: str = ""
    metrics: int = 0
    again: bool = False
    ahead_us: int | None = None

    def keys(self) -> Sequence[str]:
        return (self.queue.meta,)

    def args(self) -> Sequence[Arg]:
        limiter = self.limiter
        args: list[Arg] = [
            self.queue.base + ":",
            self.now_ms if self.ahead_us is None else f"{self.ahead_us:+d}",
            self.call_token,
            self.lock_ms,
            self.count,
            limiter.max if limiter else 0,
            limiter.duration_ms if limiter else 0,
            self.worker_name,
            self.metrics,
            int(self.again),
        ]
        for outcome in self.outcomes:
            args += outcome.parts()
        return args

    def decode(self, reply: Reply) -> Exchange:
        codes, texts, rows, dropped, limited_ms, held, next_due_ms, fetch_error = reply
        token = self.call_token
        jobs: list[FetchedJob] = []
        lost = [(_text(dropped[i]), _text(dropped[i + 1])) for i in range(0, len(dropped), 2)]
        for row in rows:
            try:
                jobs.append(_job(row, token))
            except UnicodeDecodeError:
                lost.append((_text(row[0]), "its id is not UTF-8; its lock is left to expire"))
        return Exchange(
            written=_written(codes, texts),
            jobs=jobs,
            dropped=lost,
            limited_ms=limited_ms,
            held=held == 1,
            next_due_ms=next_due_ms,
            fetch_error=_text(fetch_error) or None,
        )

    def repetition(self) -> FinishAndFetch:
        return structs.replace(self, again=True)


_WRITTEN = Written(0)


def _written(codes: list[int], texts: list[bytes | int]) -> list[Written]:
    written = [_WRITTEN if code == 0 else Written(code) for code in codes]
    for i in range(0, len(texts), 2):
        position, text = texts[i], texts[i + 1]
        assert isinstance(position, int) and isinstance(text, bytes)
        written[position] = Written(codes[position], _text(text))
    return written


_COMMON = 7
_NOTHING_MORE = [None] * 8


def _job(row: list[Any], token: str) -> FetchedJob:
    job_id, name, data, opts, timestamp, priority, started = row[:_COMMON]
    try:
        if len(row) == _COMMON:  # spelled out, as most are: 0.8 us instead of 1.1
            return FetchedJob(
                job_id.decode(),
                token,
                name.decode(),
                data if data is not None else b"{}",
                opts if opts is not None else b"{}",
                int(timestamp),
                int(priority),
                0,
                int(started),
                0,
                None,
                None,
            )
        made, older, stalled, deferred, parent, rjk, crashes, bigger = row[_COMMON:]
        return FetchedJob(
            job_id.decode(),
            token,
            name.decode(),
            data if data is not None else b"{}",
            opts if opts is not None else b"{}",
            int(timestamp),
            int(priority),
            int((made if older is None else older) or 0),
            int(started),
            int(stalled or 0),
            None if deferred is None else _text(deferred),
            parent,
            None if rjk is None else rjk.decode(),
            int(crashes or 0),
            bigger is not None,
        )
    except (AttributeError, TypeError, ValueError):
        return _odd_job(row, token)


def _odd_job(row: list[Any], token: str) -> FetchedJob:
    """The same for a hash that lacks fields or has nonsense in them."""
    job_id, name, data, opts, timestamp, priority, started = row[:_COMMON]
    made, older, stalled, deferred, parent, rjk, crashes, bigger = row[_COMMON:] or _NOTHING_MORE
    return FetchedJob(
        job_id.decode(),
        token,
        _text(name or b""),
        b"{}" if data is None else data,
        b"{}" if opts is None else opts,
        number_of(timestamp),
        number_of(priority),
        number_of(made if older is None else older),
        number_of(started),
        number_of(stalled),
        None if deferred is None else _text(deferred),
        parent,
        None if rjk is None else _text(rjk),
        number_of(crashes),
        bigger is not None,
    )


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
