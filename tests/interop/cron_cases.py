"""Random questions about cron patterns, and Node's recorded answers to them.

A question is a pattern, a zone and the time after which the next date is asked for; the times lie around the
changes of the clock in that zone and anywhere else. The same seed gives the same questions.
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "cron.json.gz"
SEED: Final = 20261122
PATTERNS: Final = 2_000
DATES_EACH: Final = 4
YEARS: Final = range(2024, 2031)
ZONES: Final = (
    "UTC",
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "Atlantic/Azores",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Australia/Sydney",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Antarctica/Troll",
)
_ODD: Final = (
    "W",
    "15W",
    "LW",
    "H",
    "L-3",
    "#",
    "6-2",
    "1,1",
    "*/0",
    "99",
    "x",
    "5#6",
    "1,,2",
    "-1",
    "1.5",
    "L",
)
_ALIASES: Final = (
    *("@secondly", "@minutely", "@hourly", "@daily", "@weekly", "@monthly"),
    *("@yearly", "@annually", "@weekdays", "@weekends", "@midnight"),
)
_MONTHS: Final = ("jan", "feb", "MAR", "apr", "may", "jun", "jul", "Aug", "sep", "oct", "nov", "dec")
_WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "THU", "fri", "Sat")

Question = dict[str, Any]


def questions(seed: int = SEED) -> list[Question]:
    rng = random.Random(seed)
    changes = {zone: _changes(zone) for zone in ZONES}
    made: list[Question] = []
    for _ in range(PATTERNS):
        pattern, zone = _pattern(rng), rng.choice(ZONES)
        made += [
            {"pattern": pattern, "zone": zone, "after": _date(rng, changes[zone])} for _ in range(DATES_EACH)
        ]
    return made


def ask_node(asked: list[Question]) -> list[dict[str, Any]]:
    node = shutil.which("node")
    assert node is not None
    lines = "".join(json.dumps(question) + "\n" for question in asked)
    done = subprocess.run(
        [node, str(HERE / "node" / "cron.mjs")], input=lines, capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def record(path: Path, asked: list[Question], answers: list[dict[str, Any]]) -> None:
    """Seconds to the next date; false for a refused pattern, null where there is no next date."""
    rows = []
    for question, answer in zip(asked, answers, strict=True):
        said: Any = False if "refused" in answer else None
        if "next" in answer:
            said, rest = divmod(answer["next"] - question["after"], 1000)
            assert rest == 0
        rows.append(said)
    text = json.dumps({"seed": SEED, "answers": rows}, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def recorded(path: Path = RECORDED) -> list[Any]:
    told = json.loads(gzip.decompress(path.read_bytes()))
    assert told["seed"] == SEED
    answers: list[Any] = told["answers"]
    return answers


def _changes(zone: str) -> list[datetime]:
    """The instants at which the zone's offset changes."""
    info = ZoneInfo(zone)
    found = []
    at = datetime(YEARS[0], 1, 1, tzinfo=UTC)
    while at.year in YEARS:
        later = at + timedelta(hours=1)
        if at.astimezone(info).utcoffset() != later.astimezone(info).utcoffset():
            found.append(later)
        at = later
    return found


def _date(rng: random.Random, changes: list[datetime]) -> int:
    if changes and rng.random() < 0.75:
        near = rng.choice((60, 3_600, 4 * 3_600, 36 * 3_600))
        at = rng.choice(changes) + timedelta(seconds=rng.randint(-near, near))
        if rng.random() < 0.5:
            at = at.replace(second=0, minute=rng.choice((0, 15, 30, 45)))
    else:
        start = datetime(YEARS[0], 1, 1, tzinfo=UTC)
        at = start + timedelta(seconds=rng.randrange(len(YEARS) * 365 * 86_400))
    return int(at.timestamp()) * 1000


def _pattern(rng: random.Random) -> str:
    if rng.random() < 0.03:
        return rng.choice(_ALIASES)
    fields = [
        _field(rng, 0, 59, 0.15),
        _field(rng, 0, 59, 0.25),
        _hours(rng),
        _field(rng, 1, 31, 0.65, more=("L", "15,L")),
        _field(rng, 1, 12, 0.8, words=_MONTHS),
        _field(
            rng,
            0,
            7,
            0.65,
            words=_WEEKDAYS,
            more=("5L", "0L,3L", "friL", "2#1", "fri#3", "7#2", "1,4L"),
        ),
    ]
    if rng.random() < 0.05:
        fields[rng.randrange(6)] = rng.choice(_ODD)
    return " ".join(fields if rng.random() < 0.4 else fields[1:])


def _hours(rng: random.Random) -> str:
    """Often the hours in which the clock changes."""
    if rng.random() < 0.5:
        return rng.choice(
            ("0", "1", "2", "3", "23", "1,2", "2,3", "0-4", "0,12", "1-3", "23,0", "*/2", "0-23", "4,1")
        )
    return _field(rng, 0, 23, 0.35)


def _field(
    rng: random.Random,
    least: int,
    most: int,
    any_: float,
    *,
    words: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> str:
    if rng.random() < any_:
        return rng.choice(("*", "*", "*", "?"))
    if more and rng.random() < 0.25:
        return rng.choice(more)
    low, high = sorted((rng.randint(least, most), rng.randint(least, most)))
    step = rng.choice((1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 70))
    if words and rng.random() < 0.4:
        first = rng.choice(words)
        return rng.choice((first, f"{first},{low}", f"{first}-{high}"))
    kinds = (
        f"{low}",
        f"{low}",
        f"{low}-{high}",
        f"*/{step}",
        f"{low}/{step}",
        f"{low}-{high}/{step}",
        ",".join(map(str, rng.sample(range(least, most + 1), 3))),
        f"{low}-{high},{rng.randint(least, most)}",
    )
    return rng.choice(kinds)
