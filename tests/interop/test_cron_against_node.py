"""Our next dates beside cron-parser's: 2,000 random patterns, four dates each, most where clocks change.

Node's answers are recorded in data/cron.json.gz; with --long they are asked for anew, and must be the same.
Every difference is one of `REASONS`, and each reason is needed.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cron_cases import HERE, SEED, Question, ask_node, questions, record, recorded

from supervisor.errors import InvalidSchedule
from supervisor.protocol import cron

REFUSED, NONE = False, None


def ours(question: Question) -> Any:
    """Seconds to the next date; False for a refused pattern, None where there is no next date."""
    try:
        pattern = cron.parse(question["pattern"])
    except InvalidSchedule:
        return REFUSED
    found = cron.next_ms(pattern, question["after"], cron.zone_of(question["zone"]))
    return NONE if found is None else (found - question["after"]) // 1000


def _near_a_change(question: Question, size: timedelta) -> bool:
    """Whether the clock of the zone changes by `size` within a day and a half."""
    zone, at = ZoneInfo(question["zone"]), datetime.fromtimestamp(question["after"] / 1000, UTC)
    offsets = [(at + timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in range(-36, 37)]
    return any(abs(b - a) == size for a, b in pairwise(offsets))


# Why an answer may differ: question, Node's answer, ours.
REASONS: Mapping[str, Callable[[Question, Any, Any], bool]] = {
    "H draws a number of its own in each process, so two workers would disagree; refused by name": (
        lambda question, node, own: own is REFUSED and "H" in question["pattern"]
    ),
    "a change by half an hour: cron-parser counts whole hours, skips the rest of one or finds no date": (
        lambda question, node, own: own is not REFUSED and _near_a_change(question, timedelta(minutes=30))
    ),
    "a change back by two hours: cron-parser runs the repeated hours twice, we once as with any other": (
        lambda question, node, own: _near_a_change(question, timedelta(hours=2)) and node < own
    ),
    "cron-parser answers a time before the one it was asked about": lambda question, node, own: (
        node is not REFUSED and node is not NONE and node <= 0
    ),
}


def test_the_next_date_is_the_one_that_node_gives() -> None:
    print(f"seed {SEED}")
    needed: Counter[str] = Counter()
    unexplained = []
    asked, answers = questions(), recorded()
    assert len({question["pattern"] for question in asked}) > 1_500
    for question, node in zip(asked, answers, strict=True):
        own = ours(question)
        if own == node and (own is REFUSED) == (node is REFUSED):
            continue
        why = next((text for text, holds in REASONS.items() if holds(question, node, own)), None)
        if why is None:
            unexplained.append((question, node, own))
        else:
            needed[why] += 1
    assert not unexplained, "\n".join(map(str, unexplained[:20]))
    assert set(needed) == set(REASONS), "a reason that no difference needs is no reason"
    assert sum(needed.values()) < 60


@pytest.mark.long
def test_node_still_gives_the_recorded_answers(tmp_path: Any) -> None:
    if shutil.which("node") is None or not (HERE / "node_modules" / "cron-parser").is_dir():
        pytest.skip("cron-parser is not installed; ./scripts/test installs it")
    asked = questions()
    record(tmp_path / "cron.json.gz", asked, ask_node(asked))
    told, before = recorded(tmp_path / "cron.json.gz"), recorded()
    changed = [
        (question, then, now)
        for question, then, now in zip(asked, before, told, strict=True)
        if then != now and "H" not in question["pattern"]
    ]
    assert not changed, f"cron-parser has changed its mind; (question, before, now): {changed[:10]}"
