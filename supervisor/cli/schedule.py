"""`oxherd schedule`: job schedulers made, listed, shown and removed."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any, cast

import click

from supervisor.cli.command import Common, command
from supervisor.cli.family import family
from supervisor.cli.render import as_json, clean, moment, note, out, pairs, pretty_json, table
from supervisor.cli.session import Session, converse
from supervisor.cli.values import BACKOFF_TYPE, DURATION, Parsed, read_json
from supervisor.client.schedulers import (
    Schedule,
    Scheduler,
    get_scheduler,
    list_schedulers,
    migration_advice,
    remove_scheduler,
    upcoming,
    upsert_scheduler,
)
from supervisor.config.units import format_duration
from supervisor.protocol.new_job import AddOptions

PREVIEW = 5


def _read_date(text: str) -> datetime:
    """ISO 8601; without an offset, this host's time."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise ValueError(
            f"{text!r} is no date; write it like 2026-12-24T08:00 or 2026-12-24T08:00+01:00"
        ) from None


_DATE = Parsed("date", _read_date)
_JSON = Parsed("json", read_json)


@command(
    "upsert",
    exits="0 stored, 1 there is no run to come, 2 wrong usage or schedule, 3 Redis unreachable",
    example="oxherd schedule upsert reports nightly --cron '0 3 * * *' --tz Europe/Berlin",
)
@click.argument("queue")
@click.argument("scheduler_id", metavar="ID")
@click.option("--every", "every_ms", type=DURATION, metavar="DURATION", help="so long apart, like 5m")
@click.option(
    "--offset",
    "offset_ms",
    type=DURATION,
    metavar="DURATION",
    help="with --every: so long after each multiple",
)
@click.option(
    "--cron", metavar="PATTERN", help="five fields, or six with seconds first, or @daily and the like"
)
@click.option(
    "--tz", metavar="ZONE", help="the time zone of the pattern (default: that of the worker's host)"
)
@click.option("--limit", type=int, metavar="N", help="so many runs in all")
@click.option("--start", "start_on", type=_DATE, metavar="DATE", help="no run before, like 2026-12-24T08:00")
@click.option("--end", "end_on", type=_DATE, metavar="DATE", help="no run after")
@click.option("--immediately", is_flag=True, help="with --cron: the first run now")
@click.option("--name", metavar="NAME", help="the name of its jobs (default: ID)")
@click.option("--data", type=_JSON, metavar="JSON", help="the data of its jobs (default: {})")
@click.option("--attempts", type=int, metavar="N", help="how often to try each of them")
@click.option("--backoff", type=BACKOFF_TYPE, metavar="BACKOFF", help="pause between attempts")
@click.option("--priority", type=int, metavar="N", help="1 is first, 2097151 last")
def upsert(common: Common, queue: str, scheduler_id: str, **given: Any) -> int:
    """Make the scheduler ID of QUEUE, or change it; its next runs are shown.

    A changed schedule replaces the job that waits for its time; a run that is active goes on. Workers of any
    language keep a schedule going: who takes the job of one run adds that of the next.
    """
    schedule = Schedule(
        every_ms=given["every_ms"],
        pattern=given["cron"],
        tz=given["tz"],
        offset_ms=given["offset_ms"],
        limit=given["limit"],
        start_on=given["start_on"],
        end_on=given["end_on"],
        immediately=given["immediately"],
    )
    options = {name: given[name] for name in ("attempts", "backoff", "priority") if given[name] is not None}
    action = upsert_scheduler(
        scheduler_id, schedule, name=given["name"], data=given["data"], options=cast(AddOptions, options)
    )
    return converse(common, lambda session: _upsert(session, queue, scheduler_id, action))


async def _upsert(session: Session, name: str, scheduler_id: str, action: Any) -> int:
    async with session.queue(name) as queue:
        run = await queue.run(action)
        found = await queue.run(get_scheduler(scheduler_id)) if run is not None else None
    if run is None or found is None:
        note(f"oxherd schedule: {clean(scheduler_id)} has no run to come; nothing was stored")
        return 1
    if session.json:
        out(as_json(_record(name, found)))
        return 0
    now_ms = _now_ms()
    for number, due_on in enumerate(upcoming(found, 3)):
        out(f"{'next run' if number == 0 else 'then':8}  {moment(due_on, now_ms)}")
    return 0


@command(
    "list",
    exits="0 listed, also when there is none; 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd schedule list reports --json | jq .id",
)
@click.argument("queue")
@click.option("--start", type=int, default=0, metavar="N", help="from this place on (default: 0)")
@click.option("--end", type=int, default=99, metavar="N", help="to this place; -1 is the last (default: 99)")
def list_(common: Common, queue: str, start: int, end: int) -> int:
    """List the schedulers of QUEUE by their next run; repeatables of BullMQ 5 among them are pointed out."""
    return converse(common, lambda session: _list(session, queue, start, end))


async def _list(session: Session, name: str, start: int, end: int) -> int:
    async with session.queue(name) as queue:
        found = await queue.run(list_schedulers(start, end))
    if session.json:
        for each in found:
            out(as_json(_record(name, each)))
    elif found:
        now_ms = _now_ms()
        rows = [
            [
                clean(each.id),
                clean(each.name),
                clean(_rhythm(each)),
                moment(each.next_on, now_ms),
                _made(each),
            ]
            for each in found
        ]
        out(table(["id", "job", "runs", "next run", "made"], rows, right=[4]))
    for each in found:
        advice = migration_advice(each)
        if advice is not None:
            note(f"oxherd schedule: {clean(advice)}")
    return 0


@command(
    "show",
    exits="0 shown, 1 there is no such scheduler, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd schedule show reports nightly",
)
@click.argument("queue")
@click.argument("scheduler_id", metavar="ID")
def show(common: Common, queue: str, scheduler_id: str) -> int:
    """Show all that is stored of the scheduler ID, and when it runs next."""
    return converse(common, lambda session: _show(session, queue, scheduler_id))


async def _show(session: Session, name: str, scheduler_id: str) -> int:
    async with session.queue(name) as queue:
        found = await queue.run(get_scheduler(scheduler_id))
    if found is None:
        note(f"oxherd schedule: {name} has no scheduler {clean(scheduler_id)!r}")
        return 1
    if session.json:
        out(as_json(_record(name, found)))
        return 0
    now_ms = _now_ms()
    rows = [("id", clean(found.id)), ("job", clean(found.name)), ("runs", clean(_rhythm(found)))]
    rows += [
        (word, str(value)) for word, value in (("limit", found.limit), ("made", found.iterations)) if value
    ]
    rows += [
        (word, moment(value, now_ms))
        for word, value in (("start", found.start_on), ("end", found.end_on))
        if value
    ]
    rows += [
        (word, pretty_json(value))
        for word, value in (("data", found.data), ("options", found.options))
        if value is not None
    ]
    rows.append(("next runs", "\n".join(moment(due_on, now_ms) for due_on in upcoming(found, PREVIEW))))
    out(pairs(rows))
    advice = migration_advice(found)
    if advice is not None:
        note(f"oxherd schedule: {clean(advice)}")
    return 0


@command(
    "remove",
    exits="0 all are removed, 1 one or more were not there, 2 wrong usage or config, 3 Redis unreachable",
    example="oxherd schedule remove reports nightly",
)
@click.argument("queue")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
def remove(common: Common, queue: str, ids: tuple[str, ...]) -> int:
    """Remove schedulers and the jobs they have delayed; a job that waits already or runs goes on.

    One line for each ID says what became of it.
    """
    return converse(common, lambda session: _remove(session, queue, ids))


async def _remove(session: Session, name: str, ids: tuple[str, ...]) -> int:
    status = 0
    async with session.queue(name) as queue:
        for scheduler_id in dict.fromkeys(ids):
            done = await queue.run(remove_scheduler(scheduler_id))
            said = "removed" if done else "there is no such scheduler"
            status = status if done else 1
            if session.json:
                out(as_json({"queue": name, "id": scheduler_id, "done": done, "outcome": said}))
            else:
                out(f"{clean(scheduler_id)}  {said}")
    return status


schedule = family(
    "schedule",
    "Schedulers: jobs that are made again and again, by a rhythm or a cron pattern.",
    upsert,
    list_,
    show,
    remove,
    exits="0 done, 1 the answer is no, 2 wrong usage, config or schedule, 3 Redis unreachable",
    example="oxherd schedule upsert mail digest --every 5m",
)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _rhythm(each: Scheduler) -> str:
    if each.pattern:
        return f"{each.pattern} {each.tz or ''}".rstrip()
    return f"every {format_duration(each.every_ms)}" if each.every_ms else "-"


def _made(each: Scheduler) -> str:
    return "-" if each.iterations is None else str(each.iterations)


def _record(queue: str, each: Scheduler) -> dict[str, Any]:
    return {
        "queue": queue,
        "id": each.id,
        "name": each.name,
        "next_on": each.next_on,
        "every_ms": each.every_ms,
        "pattern": each.pattern,
        "tz": each.tz,
        "offset_ms": each.offset_ms,
        "limit": each.limit,
        "start_on": each.start_on,
        "end_on": each.end_on,
        "iterations": each.iterations,
        "data": each.data,
        "options": each.options,
        "legacy": each.legacy,
        "upcoming": upcoming(each, PREVIEW),
    }
