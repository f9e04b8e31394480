"""How answers look: times, tables, JSON, and nothing a terminal would obey."""

from __future__ import annotations

import json
import re

import pytest

from supervisor.cli.render import as_json, clean, clipped, moment, pairs, pretty_json, span, table
from supervisor.cli.verdict import used_text

NOW_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (0, "0 ms"),
        (-5, "0 ms"),
        (999, "999 ms"),
        (1_234, "1.2 s"),
        (9_949, "9.9 s"),
        (9_950, "9 s"),
        (59_999, "59 s"),
        (60_000, "1 min"),
        (100_000, "1.7 min"),
        (119_000, "2 min"),
        (610_000, "10 min"),
        (5_400_000, "1.5 h"),
        (7_200_000, "2 h"),
        (432_000_000, "5 d"),
    ],
)
def test_a_length_of_time_is_said_to_the_eyes_precision(ms: int, said: str) -> None:
    assert span(ms) == said


def test_a_moment_is_local_time_and_how_long_ago() -> None:
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d \(3 min ago\)", moment(NOW_MS - 180_000, NOW_MS)
    )
    assert moment(NOW_MS + 5_000, NOW_MS).endswith("(in 5.0 s)")
    assert moment(None, NOW_MS) == moment(0, NOW_MS) == "-"


def test_a_date_no_calendar_has_is_shown_as_it_is_stored() -> None:
    assert moment(10**18, NOW_MS) == str(10**18)


def test_what_a_terminal_would_obey_is_spelled_out() -> None:
    assert clean("a\x1b[2Jb\x9b\u202ec") == "a\\x1b[2Jb\\x9b\\u202ec"
    assert clean("one\ntwo\tthree\r") == "one two three"
    assert clean("Bär 🐂") == "Bär 🐂"
    assert "\x9b" not in pretty_json({"a": "\x9b2J"})
    assert "\x1b" not in pretty_json({"a": "\x1b[2J" * 40})


def test_columns_stand_under_each_other() -> None:
    text = table(("queue", "n", ""), [["a", "1", "x"], ["longer", "1,000", ""]], right=[1])
    assert text.splitlines() == ["queue       n", "a           1  x", "longer  1,000"]


def test_columns_stand_under_each_other_whatever_the_script() -> None:
    text = table(("id", "n"), [["漢/u\u0308", "1"], ["ox 🐂", "2"], ["plain", "3"]])
    assert text.splitlines() == ["id     n", "漢/u\u0308   1", "ox 🐂  2", "plain  3"]


def test_a_value_of_several_lines_stays_in_its_column() -> None:
    assert pairs([("a", "x"), ("name", '{\n  "b": 1\n}')]) == 'a     x\nname  {\n        "b": 1\n      }'


def test_a_line_of_json_is_one_line_that_any_reader_takes() -> None:
    value = {"text": "Bär\n", "half": "\ud83d", "many": [1, None, True]}
    line = as_json(value)
    assert "\n" not in line
    assert json.loads(line.encode()) == value


def test_long_texts_end_in_an_ellipsis() -> None:
    assert clipped("abcdef", 6) == "abcdef"
    assert clipped("abcdefg", 6) == "abcde…"


def test_what_an_attempt_has_used_is_one_line_and_one_process_is_one():
    alone = used_text({"attempt": 2, "ran_ms": 1_500, "processes": 1})
    assert alone == "attempt 2: ran 1.5 s, 1 process"
    assert used_text({"attempt": 2, "processes": 3}) == "attempt 2: 3 processes and threads at most"
