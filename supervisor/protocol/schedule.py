"""Job schedulers: what may be asked for, and when one runs next (management.md sections 1.2 and 1.3).

Decides   which schedules there are and what their values may be; the next time by a cron pattern; whether
          there is another run at all. The time is passed in.
Not here  the times of `every`, which the scripts count, as only they know the run before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from supervisor.errors import InvalidJob, InvalidSchedule
from supervisor.protocol import cron, fields
from supervisor.protocol.given import kind
from supervisor.protocol.jsontext import decode, encode
from supervisor.protocol.new_job import AddOptions, Json, check_text, encode_json, encode_options, whole
from supervisor.protocol.validate import check_size

MAX_EVERY_MS: Final = 100 * 366 * 24 * 3_600_000
_NOT_OF_A_TEMPLATE: Final = ("job_id", "delay_ms", "timestamp", "deduplication", "parent")
_OF_ONE_RUN: Final = frozenset(
    {
        *(fields.OPTION_NAMES[name] for name in ("job_id", "delay_ms", "timestamp")),
        fields.REPEAT_BEFORE,
    }
)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When jobs are made: `every_ms`, or by a cron `pattern`; one of the two.

    every_ms      so many milliseconds apart, counted from the first run; runs that were missed are left out.
    offset_ms     with every_ms: so long after each whole multiple of it since 1970, UTC, instead of at once.
    pattern       five fields, or six with seconds first, or an alias such as @daily.
    tz            the zone of the pattern, such as Europe/Berlin; that of the worker's host if not given.
    limit         so many runs in all.
    start_on      no run before: epoch milliseconds, or a datetime with a zone.
    end_on        no run after, in the same forms.
    immediately   with a pattern: the first run now. With every_ms the first one is now anyway.
    """

    every_ms: int | None = None
    pattern: str | None = None
    tz: str | None = None
    offset_ms: int | None = None
    limit: int | None = None
    start_on: int | datetime | None = None
    end_on: int | datetime | None = None
    immediately: bool = False

    def checked(self, now_ms: int) -> Schedule:
        """The same with dates in milliseconds. Raises `InvalidSchedule` with the reason it cannot be kept."""
        if bool(self.pattern) == (self.every_ms is not None):
            raise InvalidSchedule(
                "a schedule has either a cron pattern or `every_ms`, and this one has "
                + ("both" if self.pattern else "neither")
            )
        if not isinstance(self.immediately, bool):
            raise InvalidSchedule(f"immediately is True or False, not {kind(self.immediately)}")
        if self.pattern:
            check_text(self.pattern, "the pattern")
            cron.parse(self.pattern)
        _zone_fits(self)
        try:
            if self.every_ms is not None:
                whole(1, MAX_EVERY_MS)("every_ms", self.every_ms)
            if self.limit is not None:
                whole(1)("limit", self.limit)
            _offset_fits(self)
        except InvalidJob as error:
            raise InvalidSchedule(str(error)) from None
        start_on, end_on = _date("start_on", self.start_on), _date("end_on", self.end_on)
        if self.immediately and start_on is not None:
            raise InvalidSchedule("`immediately` and `start_on` contradict each other")
        if end_on is not None and end_on < now_ms:
            raise InvalidSchedule("End date must be greater than current timestamp")
        return Schedule(
            every_ms=self.every_ms,
            pattern=self.pattern,
            tz=self.tz,
            offset_ms=self.offset_ms,
            limit=self.limit,
            start_on=start_on,
            end_on=end_on,
            immediately=self.immediately,
        )

    def stored(self) -> dict[str, Any]:
        """A checked schedule under the names it has in Redis."""
        values = {
            fields.REPEAT_EVERY: self.every_ms,
            fields.REPEAT_PATTERN: self.pattern,
            fields.REPEAT_ZONE: self.tz,
            fields.REPEAT_LIMIT: self.limit,
            fields.REPEAT_START: self.start_on,
            fields.REPEAT_END: self.end_on,
        }
        return {name: value for name, value in values.items() if value is not None}


def every(ms: int, *, offset_ms: int | None = None) -> Schedule:
    """Every so many milliseconds."""
    return Schedule(every_ms=ms, offset_ms=offset_ms)


def by_cron(pattern: str, *, tz: str | None = None) -> Schedule:
    """By a cron pattern, in this time zone."""
    return Schedule(pattern=pattern, tz=tz)


def _zone_fits(schedule: Schedule) -> None:
    if schedule.tz is None:
        return
    check_text(schedule.tz, "tz")
    if not schedule.tz:
        raise InvalidSchedule("tz is empty; leave it away for the zone of the worker's host")
    if not schedule.pattern:
        raise InvalidSchedule("`every_ms` knows no time zone; leave `tz` away")
    cron.zone_of(schedule.tz)


def _offset_fits(schedule: Schedule) -> None:
    if schedule.offset_ms is None:
        return
    if schedule.every_ms is None:
        raise InvalidSchedule("`offset_ms` belongs to `every_ms`; a pattern says the time itself")
    whole(0, schedule.every_ms - 1)("offset_ms", schedule.offset_ms)


def _date(name: str, value: Any) -> int | None:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidSchedule(f"{name} has no time zone; write datetime(..., tzinfo=UTC)")
        value = round(value.timestamp() * 1000)
    if value is None:
        return None
    try:
        return whole(0, 8_640_000_000_000_000)(name, value)
    except InvalidJob as error:
        raise InvalidSchedule(str(error)) from None


# --- what the jobs are ------------------------------------------------------------------------------


class Template(msgspec.Struct, frozen=True):
    """What each job of a scheduler looks like, encoded. `data` and `opts` are None where there is nothing."""

    name: str
    data: bytes | None
    opts: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def stored_opts(self) -> bytes | None:
        return encode(self.opts) if self.opts else None


def template_of(
    name: str, data: Json, options: AddOptions, *, defaults: AddOptions, max_data_bytes: int
) -> Template:
    """Check and encode the jobs of a scheduler. Raises `InvalidJob`; nothing was sent then."""
    check_text(name, "the name of a job")
    wrong = next((key for key in _NOT_OF_A_TEMPLATE if options.get(key) is not None), None)
    if wrong == "deduplication":
        raise InvalidJob(
            "the jobs of a scheduler cannot be deduplicated: a run that was dropped has none after it. "
            "The scheduler's id keeps them from being made twice"
        )
    if wrong is not None:
        raise InvalidJob(f"{wrong} is not for the jobs of a scheduler, which sets or ignores it")
    merged: dict[str, Any] = {**defaults, **options}
    merged = {key: value for key, value in merged.items() if value is not None}
    for key in _NOT_OF_A_TEMPLATE:
        merged.pop(key, None)
    stored = encode_options(merged)
    if "attempts" not in merged:
        del stored[fields.OPTION_NAMES["attempts"]]
    encoded = encode_json({} if data is None else data, f"the data of job {name!r}")
    check_size(name, encoded, min(max_data_bytes, merged.get("size_limit", max_data_bytes)))
    return Template(name, None if encoded == b"{}" else encoded, stored)


# --- the next run -----------------------------------------------------------------------------------


def next_by_pattern(
    pattern: str, tz: str | None, *, after_ms: int, start_on: int | None = None, end_on: int | None = None
) -> int | None:
    """The first run after `after_ms`; None when there is none any more."""
    base = max(after_ms, start_on or 0)
    found = cron.next_ms(cron.parse(pattern), base, cron.zone_of(tz))
    return None if found is None or (end_on is not None and found > end_on) else found


class FollowingRun(msgspec.Struct, frozen=True):
    """What is known of the run after a job's: `cron_next_ms` by a pattern, `every_ms` without one.

    legacy   the job was added by a repeatable of BullMQ 5 or older.
    """

    opts: bytes
    cron_next_ms: int | None
    every_ms: int | None
    end_on: int | None
    priority: int
    lifo: bool
    legacy: bool = False


def migration_advice(scheduler_id: str) -> str:
    """What to do about a repeatable that BullMQ 5 or older made."""
    return (
        f"{scheduler_id!r} is a repeatable that BullMQ 5 or older made with add(..., repeat). Its data is in "
        "its jobs alone, and workers of BullMQ 6 lose it. Make a job scheduler of the same pattern, name and "
        "data, then remove this one"
    )


def following_run(raw_opts: bytes, scheduler_id: str, now_ms: int) -> FollowingRun | None:
    """The run after the one whose job has these options; None when the schedule is over.

    Raises `InvalidSchedule` when the options do not say when. They may have been written by any client.
    """
    try:
        opts = decode(raw_opts)
    except ValueError as error:
        raise InvalidSchedule(f"the options of its job are no JSON: {error}") from None
    repeat = opts.get(fields.REPEAT) if isinstance(opts, dict) else None
    if not isinstance(repeat, dict):
        raise InvalidSchedule("the options of its job do not say how it repeats")
    count = (_number(repeat.get(fields.REPEAT_COUNT)) or 0) + 1
    limit, end_on = _number(repeat.get(fields.REPEAT_LIMIT)), _number(repeat.get(fields.REPEAT_END))
    if (limit is not None and count > limit) or (end_on is not None and now_ms > end_on):
        return None
    pattern, cron_next = repeat.get(fields.REPEAT_PATTERN), None
    if pattern:
        cron_next = next_by_pattern(
            str(pattern),
            repeat.get(fields.REPEAT_ZONE),
            after_ms=max(now_ms, _number(opts.get(fields.REPEAT_BEFORE)) or 0),
            start_on=_number(repeat.get(fields.REPEAT_START)),
            end_on=end_on,
        )
        if cron_next is None:
            return None
    following = iteration_options(opts, repeat | {fields.REPEAT_COUNT: count}, scheduler_id, now_ms)
    attempts = fields.OPTION_NAMES["attempts"]
    priority = _number(opts.get(fields.PRIORITY)) or 0
    return FollowingRun(
        opts=encode({attempts: 0} | following),
        cron_next_ms=cron_next,
        every_ms=None if pattern else _number(repeat.get(fields.REPEAT_EVERY)),
        end_on=end_on,
        priority=priority if 0 <= priority <= fields.MAX_PRIORITY else 0,
        lifo=opts.get(fields.OPTION_NAMES["lifo"]) is True,
        legacy=fields.REPEAT_ID not in opts,
    )


def iteration_options(
    template: Mapping[str, Any], repeat: Mapping[str, Any], scheduler_id: str, now_ms: int
) -> dict[str, Any]:
    """The options of one run's job, but for its id, its delay and its time, which the script puts in."""
    kept = {name: value for name, value in template.items() if name not in _OF_ONE_RUN}
    timestamp = {fields.OPTION_NAMES["timestamp"]: now_ms}
    return {**kept, **timestamp, fields.REPEAT: dict(repeat), fields.REPEAT_ID: scheduler_id}


def _number(value: Any) -> int | None:
    """A whole number as others store it; a date may be a text."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) < 2**63 else None
    try:
        return round(datetime.fromisoformat(str(value)).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise InvalidSchedule(f"{str(value)[:60]!r} is neither a number nor a date") from None
