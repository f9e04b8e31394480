"""Patterns: what they mean, what is refused and how it is called, and what becomes of the clock's changes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from supervisor.errors import InvalidSchedule
from supervisor.protocol import cron


def after(pattern: str, when: str, zone: str = "UTC", count: int = 3) -> list[str]:
    """The next dates after `when`, in UTC."""
    at = int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()) * 1000
    found = []
    for _ in range(count):
        at = cron.next_ms(cron.parse(pattern), at, cron.zone_of(zone))
        found.append(datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("0 3 * * *", "2026-01-01 03:00:00"),
        ("*/5 * * * * *", "2026-01-01 00:00:05"),
        ("@hourly", "2026-01-01 01:00:00"),
        ("@weekdays", "2026-01-02 00:00:00"),
        ("0 0 L * *", "2026-01-31 00:00:00"),
        ("0 0 15,L 2 *", "2026-02-15 00:00:00"),
        ("0 0 * * 5L", "2026-01-30 00:00:00"),
        ("0 0 * * friL", "2026-01-30 00:00:00"),
        ("0 0 * * tue#2", "2026-01-13 00:00:00"),
        ("0 0 13 * 5", "2026-01-02 00:00:00"),
        ("0 0 * jul-AUG ?", "2026-07-01 00:00:00"),
        ("0 0 * * 7", "2026-01-04 00:00:00"),
        ("0 0 29 2 *", "2028-02-29 00:00:00"),
        ("5/20 12 * * *", "2026-01-01 12:05:00"),
        ("* *", "2026-01-01 00:01:00"),
    ],
)
def test_the_next_date_of_a_pattern(pattern: str, first: str):
    assert after(pattern, "2026-01-01 00:00:00", count=1) == [first]


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("0 0 15W * *", "W, the nearest weekday"),
        ("H * * * *", "H is a number"),
        ("0 22-2 * * *", "runs backwards"),
        ("1,1 * * * *", "1 twice"),
        ("0 0 * * sun,7", "0 twice"),
        ("0 0 L,L * *", "L twice"),
        ("60 * * * *", "between 0 and 59"),
        ("*/0 * * * *", "every 0"),
        ("1,,2 * * * *", "empty place"),
        ("0 0 * * L", "L alone"),
        ("0 0 * * 1#1,2", "stands alone"),
        ("0 0 * * 1#6", "from 1 to 5"),
        ("0 0 30 2 *", "has a day 30"),
        ("0 0 * January *", "nothing that the month can be"),
        ("@reboot", "no alias"),
        ("1 2 3 4 5 6 7", "six are the most"),
        ("", "has none"),
        ("1.5 * * * *", "nothing that the minute can be"),
    ],
)
def test_a_pattern_that_cannot_be_kept_is_refused_by_name(pattern: str, why: str):
    with pytest.raises(InvalidSchedule, match=why):
        cron.parse(pattern)


def test_a_run_in_the_hour_that_is_skipped_comes_an_hour_later():
    assert after("30 2 * * *", "2026-03-28 12:00:00", "Europe/Berlin", 2) == [
        "2026-03-29 01:30:00",
        "2026-03-30 00:30:00",
    ]


def test_a_run_that_is_due_in_the_next_hour_anyway_is_not_made_twice():
    assert after("15 0-4 * * *", "2026-03-29 00:15:00", "Europe/Berlin", 2) == [
        "2026-03-29 01:15:00",
        "2026-03-29 02:15:00",
    ]


def test_a_run_in_the_hour_that_is_repeated_is_made_once():
    assert after("30 2 * * *", "2026-10-24 12:00:00", "Europe/Berlin", 2) == [
        "2026-10-25 00:30:00",
        "2026-10-26 01:30:00",
    ]


def test_with_every_hour_the_repeated_one_runs_twice():
    assert after("30 * * * *", "2026-10-25 00:00:00", "Europe/Berlin") == [
        "2026-10-25 00:30:00",
        "2026-10-25 01:30:00",
        "2026-10-25 02:30:00",
    ]


def test_a_midnight_that_does_not_exist_is_left_out():
    assert after("0 0 * * *", "2026-09-05 12:00:00", "America/Santiago", 1) == ["2026-09-07 03:00:00"]


def test_the_next_date_is_later_than_a_date_that_is_one_itself():
    assert after("0 0 * * *", "2026-01-01 00:00:00", count=1) == ["2026-01-02 00:00:00"]


def test_milliseconds_of_the_date_are_no_reason_to_wait_a_second_more():
    assert cron.next_ms(cron.parse("* * * * * *"), 1_800_000_000_999, None) == 1_800_000_001_000


def test_an_unknown_time_zone_is_refused_with_its_name():
    with pytest.raises(InvalidSchedule, match="Europe/Atlantis"):
        cron.zone_of("Europe/Atlantis")
    with pytest.raises(InvalidSchedule, match=r"\.\./passwd"):
        cron.zone_of("../passwd")


def test_a_pattern_that_never_comes_has_no_next_date():
    # The calendar ends in the year 9999.
    assert cron.next_ms(cron.parse("0 0 1 1 *"), 253_400_000_000_000, None) is None
