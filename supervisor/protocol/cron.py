"""The next date of a cron pattern, as Node's cron-parser 5 gives it.

Decides   which patterns there are and what they mean; what becomes of times that a change of the clock skips
          or repeats. A pattern that cannot be kept is refused by name.
Not here  whether a schedule has a next run at all (its end, its limit): `schedule.py`.

The time is passed in. croniter walks the wall clock, field by field, on dates without a zone; which instant a
wall-clock time is, is decided here:
- skipped by a change of one hour inside a day: run one hour later, if no run of that hour is due anyway;
  skipped otherwise (at midnight, by half an hour, or when every hour is due): not run;
- repeated: run the first time only; both times when every hour is due.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from supervisor.errors import InvalidSchedule
from supervisor.protocol.given import shown

_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
_DAYS_OF_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

ALIASES: Final = {
    "@secondly": "* * * * * *",
    "@minutely": "0 * * * * *",
    "@hourly": "0 0 * * * *",
    "@daily": "0 0 0 * * *",
    "@weekly": "0 0 0 * * 0",
    "@monthly": "0 0 0 1 * *",
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@weekdays": "0 0 0 * * 1-5",
    "@weekends": "0 0 0 * * 0,6",
}


class _NoDate(Exception):
    """A pattern that no day meets."""


class _Field(NamedTuple):
    name: str
    least: int
    most: int
    default: str
    words: tuple[str, ...] = ()


_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final = (
    _Field("second", 0, 59, "0"),
    _Field("minute", 0, 59, "*"),
    _Field("hour", 0, 23, "*"),
    _Field("day of month", 1, 31, "*"),
    _Field("month", 1, 12, "*", _MONTHS),
    _Field("day of week", 0, 7, "*", _WEEKDAYS),
)
_DAY, _MONTH, _WEEKDAY = 3, 4, 5
_PART: Final = re.compile(r"(?:(\*|\?)|(\d{1,9})(?:-(\d{1,9}))?)(?:/(\d{1,9}))?\Z", re.ASCII)


class Pattern(msgspec.Struct, frozen=True):
    """A pattern that has been understood. `walks` are croniter's expressions; the earliest of them counts."""

    hours: frozenset[int]
    walks: tuple[str, ...]

    @property
    def every_hour(self) -> bool:
        return len(self.hours) == 24


@lru_cache(maxsize=256)
def parse(text: str) -> Pattern:
    """Understand a pattern of up to six fields, seconds first. Raises `InvalidSchedule` with the reason."""
    given = ALIASES.get(text, text).split()
    if not given:
        raise InvalidSchedule("a cron pattern has five fields, or six with seconds first; this one has none")
    if text.startswith("@") and text not in ALIASES:
        raise _refused(text, f"{shown(text)} is no alias; there are {', '.join(ALIASES)}")
    if len(given) > len(_FIELDS):
        raise _refused(text, f"it has {len(given)} fields, and six are the most (seconds first)")
    # What is missing is missing at the front, as in the pattern of five fields, which lacks the seconds.
    missing = len(_FIELDS) - len(given)
    texts = [field.default for field in _FIELDS[:missing]] + given
    try:
        values = [_values(field, texts[i]) for i, field in enumerate(_FIELDS) if i not in (_DAY, _WEEKDAY)]
        days, weekdays = _days_of_month(texts[_DAY]), _days_of_week(texts[_WEEKDAY])
        second, minute, hour, month = (",".join(map(str, numbers)) for numbers in values)
        _check_days(texts, values[3])
    except ValueError as error:
        raise _refused(text, str(error)) from None
    if _is_any(texts[_DAY]) or _is_any(texts[_WEEKDAY]):
        both = [(day, weekday) for day in days for weekday in weekdays]
    else:  # two conditions on the day: either will do
        both = [(day, "*") for day in days] + [("*", weekday) for weekday in weekdays]
    walks = tuple(f"{second} {minute} {hour} {day} {month} {weekday}" for day, weekday in both)
    return Pattern(frozenset(values[2]), walks)


def zone_of(name: str | None) -> ZoneInfo | None:
    """The zone of this name; None for none, which is the host's own. Raises `InvalidSchedule`."""
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidSchedule(
            f"there is no time zone {shown(name)}; the names are those of Europe/Berlin"
        ) from None


def next_ms(pattern: Pattern, after_ms: int, zone: ZoneInfo | None) -> int | None:
    """The first time strictly after `after_ms`, in epoch milliseconds; None when there is none any more."""
    try:
        base = datetime.fromtimestamp(after_ms // 1000, UTC)
        found = _next(pattern, base, zone)
    except (OverflowError, ValueError, OSError, _NoDate):
        return None  # beyond the calendar, or on a day that never comes
    return int(found.timestamp()) * 1000


def _refused(text: str, why: str) -> InvalidSchedule:
    return InvalidSchedule(f"the cron pattern {shown(text)} cannot be kept: {why}")


# --- what a field says -----------------------------------------------------------------------------


def _is_any(text: str) -> bool:
    return text in ("*", "?")


def _values(field: _Field, text: str) -> list[int]:
    """The numbers a field allows, ascending. Raises `ValueError` with the reason it cannot be kept."""
    found: list[int] = []
    for part in _parts(field, text):
        numbers = _numbers(field, part)
        double = next((number for number in numbers if number in found), None)
        if double is not None:
            raise ValueError(f"the {field.name} has {double} twice")
        found += numbers
    return sorted(found)


def _parts(field: _Field, text: str) -> Iterator[str]:
    if text.startswith("H"):
        raise ValueError("H is a number that each host draws for itself; say which you mean")
    if "W" in text.upper().replace("WED", ""):
        raise ValueError("W, the nearest weekday, is not understood by BullMQ's clients")
    for index, word in enumerate(field.words):
        # Only whole words: what follows a name may be an L, a # or a range, never a letter of the same word.
        text = re.sub(rf"(?i:{word})(?![a-z])", str(index + field.least), text)
    for part in text.split(","):
        if not part:
            raise ValueError(f"the list of the {field.name} has an empty place")
        yield part


def _numbers(field: _Field, part: str) -> list[int]:
    match = _PART.match(part)
    if match is None:
        raise ValueError(f"{shown(part)} is nothing that the {field.name} can be")
    any_, first, last, step = match.groups()
    low = field.least if any_ else int(first)
    high = field.most if any_ or (step and not last) else int(last or first)
    if not (field.least <= low <= field.most and field.least <= high <= field.most):
        raise ValueError(f"the {field.name} is between {field.least} and {field.most}, not {part}")
    if low > high:
        raise ValueError(f"the range {part} of the {field.name} runs backwards; write it as two")
    if step is not None and int(step) < 1:
        raise ValueError(f"the {field.name} cannot be repeated at every {step}")
    numbers = range(low, high + 1, int(step or 1))
    if field.name != "day of week":
        return list(numbers)
    return list(dict.fromkeys(number % 7 for number in numbers))  # 7 is Sunday too


def _days_of_month(text: str) -> list[str]:
    """croniter's words for the days, to be tried one by one: L, the last day, stands alone there."""
    if _is_any(text):
        return ["*"]
    parts = text.split(",")
    if parts.count("L") > 1:
        raise ValueError("the day of month has L twice")
    plain = ",".join(part for part in parts if part != "L")
    days = ["l"] if "L" in parts else []
    if plain or "L" not in parts:
        days.append(",".join(map(str, _values(_FIELDS[_DAY], plain))))
    return days


def _days_of_week(text: str) -> list[str]:
    """The same for weekdays: 5#2 is the second Friday, 5L the last."""
    field = _FIELDS[_WEEKDAY]
    if _is_any(text):
        return ["*"]
    parts = list(_parts(field, text))
    days, plain = [], []
    for part in parts:
        day, mark, which = part.partition("#")
        if mark and (len(parts) > 1 or not day.isdigit() or which not in ("1", "2", "3", "4", "5")):
            raise ValueError(f"{shown(text)}: # takes one weekday and a number from 1 to 5, and stands alone")
        last = part.endswith("L")
        if part == "L":
            raise ValueError("L alone is no day of the week; 5L is the last Friday")
        if not (mark or last):
            plain.append(part)
            continue
        (number,) = _numbers(field, day if mark else _one_day(part[:-1]))
        days.append(f"{number}#{which}" if mark else f"l{number}")
    _values(field, ",".join(part.removesuffix("L") for part in parts if "#" not in part) or "0")
    if plain:
        days.append(",".join(map(str, _values(field, ",".join(plain)))))
    return days


def _one_day(text: str) -> str:
    if not text.isdigit():
        raise ValueError(f"{text}L: L takes one weekday")
    return text


def _check_days(texts: list[str], months: list[int]) -> None:
    if not _is_any(texts[_WEEKDAY]) or _is_any(texts[_DAY]) or "L" in texts[_DAY]:
        return
    first = min(_values(_FIELDS[_DAY], texts[_DAY]))
    if all(first > _DAYS_OF_MONTH[month - 1] for month in months):
        raise ValueError(f"no month it names has a day {first}")


# --- from the wall clock to an instant -------------------------------------------------------------


def _next(pattern: Pattern, base: datetime, zone: ZoneInfo | None) -> datetime:
    local = base.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    repeated = _overlap(wall, zone)
    found = _first_match(pattern, wall)
    if repeated is not None:
        start, end = repeated
        if found < end:
            return _instant(found, zone, local.fold)
        if pattern.every_hour and not local.fold:
            again = _first_match(pattern, start - _SECOND)
            if again < end:
                return _instant(again, zone, 1)
    while (skipped := _gap(found, zone)) is not None:
        start, end = skipped
        later = found + _HOUR
        if _is_shifted(pattern, later, wall, start, end):
            return _instant(later, zone, 0)
        found = _first_match(pattern, end - _SECOND)
    repeated = _overlap(found, zone)
    if repeated is not None and repeated[0].hour == 0 and _skips_to(found, wall, pattern):
        return _instant(found, zone, 1)
    return _instant(found, zone, 0)


def _is_shifted(pattern: Pattern, later: datetime, wall: datetime, start: datetime, end: datetime) -> bool:
    """Whether a run that the change of the clock skips, from `start` to `end`, is made an hour later."""
    if pattern.every_hour or later.hour in pattern.hours or later < end or end - start < _HOUR:
        return False
    if start.hour != 0:
        return True
    # At midnight cron-parser comes by whole days and finds the hour gone; by hours only from a day of a run.
    midnight = wall.replace(hour=0, minute=0, second=0)
    runs_today = _first_match(pattern, midnight - _SECOND).date() == wall.date()
    return start - wall <= _HOUR and 23 in pattern.hours and runs_today


def _skips_to(found: datetime, wall: datetime, pattern: Pattern) -> bool:
    """Whether cron-parser goes to the day of `found` in one step, and so to the second of two midnights."""
    return found.date() > wall.date() and not pattern.every_hour


def _first_match(pattern: Pattern, wall: datetime) -> datetime:
    nearest: datetime | None = None
    for walk in pattern.walks:
        try:
            found = _walk(walk, wall)
        except _NoDate:
            continue
        if nearest is None or found < nearest:
            nearest = found
    if nearest is None:
        raise _NoDate
    return nearest


def _walk(expression: str, wall: datetime) -> datetime:
    # At the top it would cost every start 15 ms and a process: it asks `file` how wide the interpreter is.
    from croniter import CroniterBadDateError, croniter

    try:
        steps = croniter(expression, wall.replace(tzinfo=UTC), ret_type=datetime, second_at_beginning=True)
        found: datetime = steps.get_next(datetime)
    except CroniterBadDateError:
        raise _NoDate from None
    return found.replace(tzinfo=None)


def _instant(wall: datetime, zone: ZoneInfo | None, fold: int) -> datetime:
    return _aware(wall, zone, fold).astimezone(UTC)


def _aware(wall: datetime, zone: ZoneInfo | None, fold: int) -> datetime:
    wall = wall.replace(fold=fold)
    return wall.replace(tzinfo=zone) if zone is not None else wall.astimezone()


def _offsets(wall: datetime, zone: ZoneInfo | None) -> tuple[timedelta, timedelta]:
    before, after = (_aware(wall, zone, fold).utcoffset() for fold in (0, 1))
    assert before is not None and after is not None
    return before, after


def _gap(wall: datetime, zone: ZoneInfo | None) -> tuple[datetime, datetime] | None:
    """The wall-clock times around `wall` that do not exist."""
    before, after = _offsets(wall, zone)
    return _edges(wall, zone) if before < after else None


def _overlap(wall: datetime, zone: ZoneInfo | None) -> tuple[datetime, datetime] | None:
    """The wall-clock times around `wall` that come twice."""
    before, after = _offsets(wall, zone)
    return _edges(wall, zone) if before > after else None


def _edges(wall: datetime, zone: ZoneInfo | None) -> tuple[datetime, datetime]:
    """First time of the hole or the repetition around `wall`, and the first one behind it.

    Both change by minutes at the least, and none is longer than a day.
    """
    start = end = wall.replace(second=0, microsecond=0)
    minute = timedelta(minutes=1)
    before, after = _offsets(wall, zone)
    span = abs(after - before)
    low = start - span
    while (start - low) > minute:
        middle = low + (start - low) // 2
        middle = middle.replace(second=0, microsecond=0)
        if len(set(_offsets(middle, zone))) == 2:
            start = middle
        else:
            low = middle
    start = start if len(set(_offsets(low, zone))) == 1 else low
    end = start + span
    return start, end
