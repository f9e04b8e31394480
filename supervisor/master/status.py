"""Whether a master does its work, as one judgement; and the one line that says what it does.

Decides what counts as working, for all who ask: systemd's watchdog, `/livez`, `/readyz` and
`oxherd status --check`. A process that exists proves nothing; jobs that go through it do. What is done about
a judgement is watchdog.py's.

Pure: facts in, words out. What is not known is None and proves nothing either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

RENEWED_WITHIN: Final = 0.75  # of a lock's duration; renewed is at half of it
LONGEST_REFUSAL: Final = 200  # characters of the line; the log has all of it

Phase = Literal["starting", "working", "stopping"]


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One queue, as its worker sees it.

    slots, busy   jobs that may run at a time, and that do.
    waiting       jobs that could be fetched; None when Redis did not say.
    owed_s        for so long jobs have waited while a slot was free and nothing was fetched.
    renewed_s     since the oldest lock was set or renewed; None with no lock held.
    closed        why nobody may fetch (paused, global concurrency); empty when everybody may.
    refused       why Redis gave no jobs; empty when it did.
    degraded      why the master itself holds back; empty when it does not.
    """

    name: str
    slots: int = 0
    busy: int = 0
    waiting: int | None = None
    done: int = 0
    owed_s: float = 0.0
    renewed_s: float | None = None
    lock_s: float = 30.0
    quiet: bool = False
    closed: str = ""
    refused: str = ""
    degraded: str = ""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """One master.

    patience_s   how long jobs may be owed.
    away         why there is no connection to Redis; empty while there is.
    silent_s     Redis has not answered for so long, though asked.
    refused      why the last reload was refused; empty when it was not.
    """

    phase: Phase = "working"
    patience_s: float = 10.0
    away: str = ""
    silent_s: float = 0.0
    refused: str = ""
    queues: Sequence[QueueFacts] = ()


class Proof(msgspec.Struct, frozen=True):
    """The judgement.

    ok      it takes jobs, or would.
    alive   a restart would not help, or is not needed. False: it is stuck, and that is its own fault.
    why     the sentence about what is wrong; empty when `ok`.
    """

    ok: bool
    alive: bool
    why: str = ""


def proof(facts: Facts) -> Proof:
    """Judge. The worst that is found is told."""
    if facts.phase != "working":
        return Proof(False, True, f"the master is {facts.phase}")
    if facts.away:
        return Proof(False, True, f"Redis cannot be used: {facts.away}")
    for queue in facts.queues:
        if (why := _stuck(queue, facts.patience_s)) is not None:
            return Proof(False, False, why)
    if facts.silent_s:
        return Proof(False, True, f"Redis has not answered for {facts.silent_s:.0f} s")
    for queue in facts.queues:
        if (why := _idle_by_others(queue)) is not None:
            return Proof(False, True, why)
    return Proof(True, True)


def _stuck(queue: QueueFacts, patience_s: float) -> str | None:
    if queue.renewed_s is not None and queue.renewed_s > RENEWED_WITHIN * queue.lock_s:
        return (
            f"queue {queue.name!r}: locks of {queue.lock_s:g} s were not renewed for {queue.renewed_s:.1f} s"
        )
    if queue.owed_s >= patience_s:
        waiting = "jobs wait" if queue.waiting is None else f"{counted(queue.waiting, 'job')} waiting"
        return (
            f"queue {queue.name!r}: {waiting} and a slot is free, but nothing was fetched "
            f"for {queue.owed_s:.0f} s"
        )
    return None


def _idle_by_others(queue: QueueFacts) -> str | None:
    if queue.degraded:
        return f"queue {queue.name!r} is degraded: {queue.degraded}"
    if queue.refused:
        return f"queue {queue.name!r}: Redis gives no jobs: {queue.refused}"
    if queue.quiet:
        return f"queue {queue.name!r} is quiet, as was asked: nothing is fetched"
    return None


def line(facts: Facts) -> str:
    """The one-line truth: `3/4 busy, 120 waiting, 8,412 done, locks renewed 0.4 s ago`."""
    queues = facts.queues
    busy, slots = sum(each.busy for each in queues), sum(each.slots for each in queues)
    if facts.phase == "starting":
        return "starting: importing the processors"
    if facts.phase == "stopping":
        return f"stopping: {counted(busy, 'job')} still running"
    told = [f"{busy:,}/{slots:,} busy"]
    if any(each.waiting is not None for each in queues):
        told.append(f"{sum(each.waiting or 0 for each in queues):,} waiting")
    told.append(f"{sum(each.done for each in queues):,} done")
    ages = [each.renewed_s for each in queues if each.renewed_s is not None]
    told.append(f"locks renewed {max(ages):.1f} s ago" if ages else "no locks held")
    for each in queues:
        if each.closed:
            told.append(f"queue {each.name!r}: {each.closed}")
    judged = proof(facts)
    parts = [] if judged.ok else [judged.why]
    if facts.refused:
        parts.append(f"the last reload was refused: {facts.refused[:LONGEST_REFUSAL]}")
    return "; ".join([*parts, ", ".join(told)])


def counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
