from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("10m", 600_000),
        ("1h", 3_600_000),
        ("2d", 172_800_000),
        ("0", 0),
        ("1.5s", 1500),
    ],
)
def test_durations_are_read_as_people_write_them(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 year", "1s2", "٣s x", "1e3s", "nan", "0.0001ms"])
def test_what_is_no_duration_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match=r"is no (duration|whole number of milliseconds)"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("64K", 65536),
        ("64k", 65536),
        ("1MiB", 1 << 20),
        ("100B", 100),
        ("0", 0),
    ],
)
def test_sizes_are_read_as_people_write_them(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "512", "M", "-1M", "1X", "1MBs"])
def test_what_is_no_size_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


@given(st.integers(0, 10**15))
def test_a_duration_that_is_shown_is_read_back(ms):
    assert parse_duration(format_duration(ms)) == ms


@given(st.integers(0, 10**15))
def test_a_size_that_is_shown_is_read_back(count):
    assert parse_size(format_size(count)) == count
