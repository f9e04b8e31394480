"""Job schedulers: made, changed, looked at and removed.

Each function makes an action that a queue carries out, in either client:

    await queue.run(upsert_scheduler("report", by_cron("0 3 * * *", tz="Europe/Berlin"), name="report"))
    await queue.run(upsert_scheduler("poll", every(60_000), data={"url": "..."}))

A scheduler makes one job at a time: when a worker, of any language, takes the job of one run, it adds that of
the next.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from supervisor.client.core import Action, Context, ask
from supervisor.errors import InvalidSchedule, UsageError
from supervisor.protocol import schedule as schedule_rules
from supervisor.protocol.commands.scheduler import (
    CountSchedulers,
    GetScheduler,
    GetSchedulerIds,
    GetSchedulers,
    NextRun,
    RemoveScheduler,
    Scheduler,
    UpsertScheduler,
)
from supervisor.protocol.given import check_flags, check_mapping, kind
from supervisor.protocol.new_job import MAX_WHOLE, AddOptions, Json, check_text, whole
from supervisor.protocol.schedule import Schedule, by_cron, every, next_by_pattern, template_of
from supervisor.protocol.steps import Steps

__all__ = [
    "NextRun",
    "Schedule",
    "Scheduler",
    "by_cron",
    "count_schedulers",
    "every",
    "get_scheduler",
    "list_schedulers",
    "migration_advice",
    "remove_scheduler",
    "upcoming",
    "upsert_scheduler",
]

MOST_UPCOMING: Final = 10_000


def upsert_scheduler(
    scheduler_id: str,
    schedule: Schedule,
    *,
    name: str | None = None,
    data: Json = None,
    options: AddOptions | None = None,
) -> Action[NextRun | None]:
    """Make a scheduler, or change the one of this id; its pending run, or None when there is none to come.

    scheduler_id   any text; the same id again changes the schedule and replaces the pending job.
    schedule       `every(...)`, `by_cron(...)` or a `Schedule`.
    name           of its jobs; the scheduler's id if not given.
    data           of its jobs.
    options        of its jobs: priority, attempts...; no delay, no id, no deduplication.

    A run that is active is let alone. Raises `InvalidSchedule` or `InvalidJob` before anything is sent.

    Wire: upsertScheduler; events `added`, then `delayed` or `waiting`.
    """
    _check_id(scheduler_id)
    if not isinstance(schedule, Schedule):
        raise InvalidSchedule(f"a schedule is every(...), by_cron(...) or a Schedule, not {kind(schedule)}")
    if options is not None:
        check_mapping(options, "the options of the jobs")
    given = AddOptions() if options is None else options

    def steps(context: Context) -> Steps[NextRun | None]:
        now_ms = context.clock()
        wanted = schedule.checked(now_ms)
        template = template_of(
            scheduler_id if name is None else name,
            data,
            given,
            defaults=context.defaults,
            max_data_bytes=context.max_data_bytes,
        )
        cron_ms = _first_run(wanted, now_ms)
        if wanted.pattern and cron_ms is None:
            return None
        found: NextRun = yield UpsertScheduler(context.keys, scheduler_id, wanted, template, now_ms, cron_ms)
        return found

    return steps


def _first_run(schedule: Schedule, now_ms: int) -> int | None:
    """By the pattern; None with `every`, and when there is no run to come."""
    if not schedule.pattern:
        return None
    if schedule.immediately:
        return now_ms
    return next_by_pattern(
        schedule.pattern,
        schedule.tz,
        after_ms=now_ms,
        start_on=_number(schedule.start_on),
        end_on=_number(schedule.end_on),
    )


def _number(date: int | datetime | None) -> int | None:
    assert not isinstance(date, datetime), "a checked schedule has numbers"
    return date


def get_scheduler(scheduler_id: str) -> Action[Scheduler | None]:
    """One scheduler as it is stored; None when there is none of this id."""
    _check_id(scheduler_id)

    def steps(context: Context) -> Steps[Scheduler | None]:
        return ask(GetScheduler(context.keys, scheduler_id))

    return steps


def list_schedulers(start: int = 0, end: int = -1, *, latest_first: bool = False) -> Action[list[Scheduler]]:
    """The schedulers from place `start` to place `end`, both included, by their next run; -1 is the last.

    Repeatables of BullMQ 5 and older are among them, with `legacy` set: see `migration_advice`.
    """
    whole(-MAX_WHOLE)("start", start)
    whole(-MAX_WHOLE)("end", end)
    check_flags(latest_first=latest_first)

    def steps(context: Context) -> Steps[list[Scheduler]]:
        entries = yield GetSchedulerIds(context.keys, start, end, latest_first)
        if not entries:
            return []
        found = yield GetSchedulers(context.keys, entries)
        return [scheduler for scheduler in found if scheduler is not None]

    return steps


def count_schedulers() -> Action[int]:
    """How many schedulers the queue has."""

    def steps(context: Context) -> Steps[int]:
        return ask(CountSchedulers(context.keys))

    return steps


def remove_scheduler(scheduler_id: str) -> Action[bool]:
    """Remove a scheduler and its delayed job; False when there was none.

    A job of it that waits already, or runs, is let alone; no other follows it.
    """
    _check_id(scheduler_id)

    def steps(context: Context) -> Steps[bool]:
        return ask(RemoveScheduler(context.keys, scheduler_id))

    return steps


def upcoming(scheduler: Scheduler, count: int) -> list[int]:
    """Its next `count` runs, epoch milliseconds, the pending one first; fewer when it ends before.

    At most 10,000. Its limit is not counted, nor what a late worker will leave out.
    """
    _check_scheduler(scheduler)
    whole(1, MOST_UPCOMING)("count", count)
    runs = [scheduler.next_on]
    while len(runs) < count:
        if scheduler.pattern:
            try:
                due_on = next_by_pattern(
                    scheduler.pattern, scheduler.tz, after_ms=runs[-1], end_on=scheduler.end_on
                )
            except InvalidSchedule:
                return runs  # another client's pattern, which we cannot keep
        else:
            due_on = runs[-1] + scheduler.every_ms if scheduler.every_ms else None
        if due_on is None or (scheduler.end_on is not None and due_on > scheduler.end_on):
            break
        runs.append(due_on)
    return runs


def migration_advice(scheduler: Scheduler) -> str | None:
    """What to do about a repeatable that BullMQ 5 or older made; None for a job scheduler."""
    _check_scheduler(scheduler)
    return schedule_rules.migration_advice(scheduler.id) if scheduler.legacy else None


def _check_scheduler(scheduler: Scheduler) -> None:
    if not isinstance(scheduler, Scheduler):
        raise UsageError(f"a scheduler is what get_scheduler gives, not {kind(scheduler)}")


def _check_id(scheduler_id: str) -> None:
    check_text(scheduler_id, "the id of a scheduler")
    if not scheduler_id:
        raise InvalidSchedule("the id of a scheduler is empty")
