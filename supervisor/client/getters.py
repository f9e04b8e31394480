"""Looking at a queue as dashboards do: counts, ranges, logs, who is connected, metrics.

Each function makes an action that a queue carries out: `await queue.run(counts_by_priority(0, 1))`, the same
without await in the blocking client. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.client.core import Action, Context, ask, check_range
from supervisor.client.job import Job, job_of
from supervisor.client.prometheus import check_labels, exposition
from supervisor.errors import UsageError
from supervisor.protocol import fields
from supervisor.protocol.commands.read import GetCounts, GetJobIds, GetJobs, GetMeta
from supervisor.protocol.commands.read_more import (
    Connection,
    CountByPriority,
    CountDueBefore,
    GetLogPage,
    GetMetrics,
    ListClients,
    LogPage,
    Metrics,
    QueueMeta,
    listeners_among,
    meta_of,
    workers_among,
)
from supervisor.protocol.given import check_flags, check_job_ref, check_mapping, check_state, shown
from supervisor.protocol.new_job import whole
from supervisor.protocol.steps import Steps
from supervisor.protocol.validate import check_priority

PENDING: Final = (fields.WAITING, fields.DELAYED, fields.PRIORITIZED, fields.WAITING_CHILDREN)
_REFILLS: Final = 5
_FURTHEST: Final = 2**53


def counts(*states: str) -> Action[dict[str, int]]:
    """How many jobs are in each of these states, in the order asked; in every state when none is named."""
    asked = _known(states)

    def steps(context: Context) -> Steps[dict[str, int]]:
        found = yield GetCounts(context.keys)
        return {state: found[state] for state in asked}

    return steps


def count(*states: str) -> Action[int]:
    """How many jobs are in these states together; when none is named, how many have yet to be run."""
    asked = _known(states or PENDING)

    def steps(context: Context) -> Steps[int]:
        found = yield GetCounts(context.keys)
        return sum(found[state] for state in asked)

    return steps


def counts_by_priority(*priorities: int) -> Action[dict[int, int]]:
    """How many jobs wait in each of these priorities; 0 is those without one."""
    for priority in priorities:
        check_priority(priority)
    asked = list(dict.fromkeys(priorities))

    def steps(context: Context) -> Steps[dict[int, int]]:
        if not asked:
            return {}
        return (yield from ask(CountByPriority(context.keys, asked)))

    return steps


def count_due_before(due_on: int) -> Action[int]:
    """How many delayed jobs become due before this epoch millisecond."""
    whole(0, _FURTHEST)("due_on", due_on)

    def steps(context: Context) -> Steps[int]:
        return ask(CountDueBefore(context.keys, due_on))

    return steps


def ids(*states: str, start: int = 0, end: int = -1, newest_first: bool = False) -> Action[list[str]]:
    """The ids of the jobs in these states, one state after the other in the order asked.

    start, end     places within each state, both included; -1 is the last.
    newest_first   the other way round: first what came last to its state, or will run last.
    """
    asked = _known(states)
    check_range(start, end)
    check_flags(newest_first=newest_first)

    def steps(context: Context) -> Steps[list[str]]:
        found: dict[str, None] = {}
        for state in asked:
            found |= dict.fromkeys((yield GetJobIds(context.keys, state, start, end, newest_first)))
        return list(found)

    return steps


def jobs(*states: str, start: int = 0, end: int = 99, newest_first: bool = False) -> Action[list[Job]]:
    """The jobs in these states, as `ids` orders them. An id whose job is gone gives its place to the next."""
    asked = _known(states)
    check_range(start, end)
    check_flags(newest_first=newest_first)

    def steps(context: Context) -> Steps[list[Job]]:
        found: dict[str, Job] = {}
        for state in asked:
            found |= yield from _page(context, state, start, end, newest_first)
        return list(found.values())

    return steps


def _page(context: Context, state: str, start: int, end: int, newest_first: bool) -> Steps[dict[str, Job]]:
    """The jobs of one state; filled up a few times where ids were found without a job."""
    found: dict[str, Job] = {}
    for _ in range(1 + _REFILLS):
        job_ids = yield GetJobIds(context.keys, state, start, end, newest_first)
        if not job_ids:
            break
        records = yield GetJobs(context.keys, job_ids)
        found |= {one.id: job_of(context.keys.name, one) for one in records if one is not None}
        gone = records.count(None)
        if not gone or end < 0 or start < 0:
            break
        start, end = end + 1, end + gone
    return found


def log_page(job_id: str, start: int = 0, end: int = -1, *, newest_first: bool = False) -> Action[LogPage]:
    """A page of the job's log, from either end, and how many rows there are in all."""
    check_job_ref(job_id)
    check_range(start, end)
    check_flags(newest_first=newest_first)

    def steps(context: Context) -> Steps[LogPage]:
        return ask(GetLogPage(context.keys, job_id, start, end, newest_first))

    return steps


def workers() -> Action[list[Connection]]:
    """Who fetches from the queue, whatever program it is: connections that bear a worker's name.

    Raises `RedisRefused` where the server does not tell (an ACL, a hosted Redis).
    """

    def steps(context: Context) -> Steps[list[Connection]]:
        return workers_among((yield ListClients()), context.keys)

    return steps


def listeners() -> Action[list[Connection]]:
    """Who follows the event stream. Raises `RedisRefused` where the server does not tell."""

    def steps(context: Context) -> Steps[list[Connection]]:
        return listeners_among((yield ListClients()), context.keys)

    return steps


def metrics(outcome: str, start: int = 0, end: int = -1) -> Action[Metrics]:
    """Jobs that `completed` or `failed` minute by minute, newest first, from place `start` to place `end`.

    Counted only by workers that are told to: `--worker-metrics` of `oxherd run`, `metrics` of BullMQ's.
    """
    if outcome not in fields.FINISHED:
        raise UsageError(f"metrics are kept of jobs that completed or failed, not of {shown(outcome)}")
    check_range(start, end)

    def steps(context: Context) -> Steps[Metrics]:
        return ask(GetMetrics(context.keys, outcome, start, end))

    return steps


def prometheus(labels: Mapping[str, str] | None = None) -> Action[str]:
    """The queue's counts in Prometheus' text form, under the names BullMQ gives them; `labels` on each."""
    if labels is not None:
        check_mapping(labels, "the labels")
    more = dict(labels or {})
    check_labels(more)

    def steps(context: Context) -> Steps[str]:
        found = yield GetCounts(context.keys)
        totals = {}
        for outcome in fields.FINISHED:
            totals[outcome] = (yield GetMetrics(context.keys, outcome, 0, 0)).count
        return exposition(context.keys.name, found, totals, more)

    return steps


def meta() -> Action[QueueMeta]:
    """What the queue tells of itself: version, limits, whether it is paused."""

    def steps(context: Context) -> Steps[QueueMeta]:
        return meta_of((yield GetMeta(context.keys)))

    return steps


def _known(states: tuple[str, ...]) -> tuple[str, ...]:
    for state in states:
        check_state(state, fields.STATES)
    return tuple(dict.fromkeys(states or fields.STATES))
