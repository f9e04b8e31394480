"""What top and ps show, and what keys mean, without a terminal; docs/how-to/top.md agrees with it."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest

from supervisor.cli.recommend import Known, _limits_of, _lines
from supervisor.cli.render import columns_of
from supervisor.cli.slots_view import progress, size, slots_table
from supervisor.cli.terminal import split_keys
from supervisor.cli.top_screen import HELP, KEYS_LINE, MORE_LINE, Screen

PAGE = (Path(__file__).parents[2] / "docs/how-to/top.md").read_text(encoding="utf-8")
JOB = {
    "id": "17",
    "name": "resize",
    "attempt": 2,
    "running_ms": 5_200,
    "progress": 63,
    "lock_margin_ms": 26_000,
}
TREE = {
    "count": 1,
    "threads": 1,
    "cpu_ms": 5_000,
    "cpu_share": 0.99,
    "anon_bytes": 15 * 2**20,
    "ago_ms": 3,
    "processes": [],
    "dear": None,
}
SLOT = {
    "number": 1,
    "queue": "work",
    "runner": 4193,
    "phase": "busy",
    "generation": 1,
    "served": 7,
    "age_ms": 9_000,
    "jobs": [JOB],
    "tree": TREE,
}
EMPTY = {**SLOT, "number": 2, "runner": None, "phase": "empty", "jobs": [], "tree": None, "age_ms": None}
QUEUE = {
    "name": "work",
    "slots": 2,
    "busy": 1,
    "quiet": False,
    "degraded": "",
    "done": 10,
    "failed": 1,
    "renewed_ago_ms": 400,
}
KNOWN = {
    "pid": 1,
    "host": "web1",
    "generation": 1,
    "started_on": 0,
    "asked_on": 1_000,
    "redis": {"address": "unix:///r", "connected": True, "answered_ago_ms": 30},
    "queues": [QUEUE],
    "slots": [SLOT, EMPTY],
}


def screen_of(*looks: dict) -> Screen:
    screen = Screen()
    for look in looks:
        screen.take(look)
    return screen


def text_of(screen: Screen, width: int = 80, height: int = 24) -> str:
    return "\n".join(line for line, _ in screen.lines(width, height))


@pytest.mark.parametrize("width", [60, 80, 81, 100, 131, 200])
@pytest.mark.parametrize("height", [5, 8, 24, 60])
def test_every_screen_has_the_size_of_its_terminal(width, height):
    known = copy.deepcopy(KNOWN)
    known["slots"] = [{**SLOT, "number": n, "queue": "牛" * 40} for n in range(100)]
    known["queues"] = [{**QUEUE, "name": f"queue {n}"} for n in range(30)]
    lines = screen_of(known).lines(width, height)
    assert len(lines) == height
    assert all(columns_of(text) <= width for text, _ in lines)


def test_what_is_not_known_is_a_dash_and_never_a_zero():
    rows = [line for line, row in slots_table([EMPTY], 200) if row is not None]
    assert not re.search(r"\b0", rows[0].replace("2 work", ""))
    assert rows[0].count(" -") >= 8
    assert size(None) == "-"
    assert size(0) == "0"


def test_a_job_that_is_done_with_its_work_has_a_full_bar_and_all_its_digits():
    done = {**SLOT, "jobs": [{**JOB, "progress": 100}]}
    for width in (79, 80, 200):
        assert slots_of(done, width).endswith("██████████ 100%")
    assert progress(99.7) == "█████████░ 99%"
    assert progress(0) == "░░░░░░░░░░ 0%"


def slots_of(slot: dict, width: int) -> str:
    return "\n".join(line for line, row in slots_table([slot], width) if row is not None)


def test_words_of_strangers_move_no_cursor():
    evil = {
        **SLOT,
        "queue": "a\x1b[2J",
        "jobs": [{**JOB, "id": "1\x1b]0;x\x07", "name": "\r\n\x9b", "progress": "\x1b[H"}],
    }
    evil["tree"] = {**TREE, "count": 2, "processes": [{}, {
        "pid": 5, "parent": 4193, "name": "\x1b[31m", "state": "R", "user_ms": 1, "system_ms": 1,
        "anon_bytes": 1, "threads": 1, "age_ms": 1,
    }]}  # fmt: skip
    for line, _ in slots_table([evil], 200, trees=True):
        assert line.isprintable()


def test_rates_are_what_happened_between_two_looks():
    later = copy.deepcopy(KNOWN)
    later["asked_on"] = 3_000
    later["queues"][0]["done"] = 15
    assert " - " in text_of(screen_of(KNOWN)).split("STATE")[1].split("fetching")[0] + " "
    assert "2.5  fetching" in text_of(screen_of(KNOWN, later))


def test_who_is_kept_ready_is_told_when_there_is_somebody():
    assert "kept ready" not in text_of(screen_of(KNOWN))
    spare = {"runner": 4200, "phase": "spare", "generation": 1, "age_ms": 9, "tree": TREE}
    known = {**KNOWN, "runners": {"templates": [], "strays": 0, "spares": [spare]}}
    assert "kept ready: 4200 spare, 15M" in text_of(screen_of(known))


def test_who_takes_no_jobs_says_so_and_why():
    well = {**KNOWN, "proof": {"ok": True, "alive": True, "why": "", "line": "1/2 busy"}}
    assert "takes no jobs" not in text_of(screen_of(well))
    stopping = {**KNOWN, "proof": {**well["proof"], "ok": False, "why": "the master is stopping"}}
    assert "takes no jobs: the master is stopping" in text_of(screen_of(stopping))


def test_a_cancel_is_asked_for_only_after_a_yes():
    screen = screen_of(KNOWN)
    assert screen.press("c") is None
    assert "cancel the job work/17? y or n" in text_of(screen)
    assert screen.press("q") is None  # not a yes
    assert screen.press("c") is None
    question = screen.press("y")
    assert (question.verb, question.args["id"]) == ("cancel", "17")


def test_the_choice_stays_with_its_job_when_the_order_changes():
    busier = {**SLOT, "number": 3, "jobs": [{**JOB, "id": "18"}], "tree": {**TREE, "cpu_share": 2.0}}
    screen = screen_of({**KNOWN, "slots": [SLOT, EMPTY]})
    screen.press("down")
    screen.press("up")
    screen.take({**KNOWN, "slots": [busier, SLOT, EMPTY]})
    assert screen.press("x").args["id"] == "17"


@pytest.mark.parametrize(
    ("text", "keys", "rest"),
    [
        ("jjc", ["j", "j", "c"], ""),
        ("\x1b[B\x1b[B\x1bOAx", ["down", "down", "up", "x"], ""),
        ("\x1b[6~\r", ["page down", "enter"], ""),
        ("\x1b[1;5C\x1bOPq", ["q"], ""),  # keys that mean nothing here
        ("j\x1b", ["j"], "\x1b"),  # Escape, or what an arrow begins with
        ("j\x1b[", ["j"], "\x1b["),
        ("\x1b[6", [], "\x1b[6"),
        ("\x1bq", ["escape", "q"], ""),
        ("ä牛", ["ä", "牛"], ""),
    ],
)
def test_keys_that_come_together_are_all_pressed(text, keys, rest):
    assert split_keys(text) == (keys, rest)


def test_the_keys_are_told_on_one_screen_and_a_longer_page_says_that_it_goes_on():
    known = {**KNOWN, "queues": [{**QUEUE, "name": f"queue {n}"} for n in range(6)]}
    screen = screen_of(known)
    screen.press("?")
    text = text_of(screen)
    assert all(line in text for line in HELP)
    assert KEYS_LINE in text
    screen.show([f"line {n}" for n in range(40)])
    assert "line 20" in text_of(screen)
    assert MORE_LINE in text_of(screen)
    for _ in range(3):
        screen.press("page down")
    assert "line 39" in text_of(screen)
    assert MORE_LINE not in text_of(screen)


def test_the_page_names_every_key_and_no_other():
    keys = set(re.findall(r"^\| (.+?) \|", PAGE, re.MULTILINE)) - {"Key", "---"}
    named = {key for cell in keys for key in re.findall(r"`(.)`", cell)}
    assert named == {"k", "j", "s", "t", "x", "p", "+", "-", "c", "m", "q"}
    assert all(re.search(rf"(^|[ ,]){re.escape(key)}[ ,]", "\n".join([*HELP, KEYS_LINE])) for key in named)


def test_the_limits_of_the_page_are_those_that_its_evidence_gives():
    known = Known()
    for name, most in (("ran_ms", 7_100), ("cpu_ms", 3_400), ("peak_bytes", 412 * 2**20), ("processes", 1)):
        for _ in range(200):
            known.spreads[name].add(most)
    block = PAGE.partition("[queue.work.policy]\n")[2].partition("```")[0]
    jobs = {"resize": known}
    told = "\n".join(_lines("work", jobs, _limits_of(jobs)))
    assert told.partition("[queue.work.policy]\n")[2].strip() == block.strip()
    assert "`job.completed`" in PAGE
