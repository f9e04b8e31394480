"""What Node's client does that breaks a rule of `invariants.py`, and we do not: the one list, with reasons.

`EXCUSED`  what is broken by such a step by Node is not looked at any more
`AVOIDED`  such a step by Node is left out while this holds, since it loses jobs
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from invariants import Snapshot


@dataclass(frozen=True)
class Excused:
    kinds: tuple[str, ...]
    breach: str  # a pattern, matched from the start
    why: str


@dataclass(frozen=True)
class Avoided:
    kinds: tuple[str, ...]
    when: Callable[[Snapshot], bool]
    why: str


EXCUSED = (
    Excused(
        ("promote_all",),
        r"whole_hashes: \S+ (waits with a delay of|is in wait with priority)",
        "promoted together they keep their delay, and all go to `wait`",
    ),
    Excused(
        ("retry_all",),
        r"whole_hashes: \S+ is in wait with priority",
        "retried together all go to `wait`",
    ),
    Excused(
        ("remove", "drain", "clean"),
        r"whole_hashes: \S+ (waits with a delay of|is in wait with priority)",
        "a parent whose last child is removed waits at once, whatever its delay and priority",
    ),
    Excused(
        ("complete", "fail", "postpone", "wait_for_children", "concurrency", "remove"),
        r"markers: ",
        "nothing marks that fewer are active than the global concurrency allows, unless the end fetches",
    ),
    Excused(
        ("obliterate",),
        r"told: \S+ is in waiting-children and the last that was told of it is nothing",
        "what waits for children stays, and the events are gone",
    ),
    Excused(
        ("to_wait", "hand_back"),
        r"markers: a job may be taken and there is no base marker",
        "nothing marks that a job with a priority was put back",
    ),
)

AVOIDED = (
    Avoided(
        ("drain",),
        lambda seen: any(job_id.startswith("repeat:") for job_id in seen.keys.get("wait", ())),
        "it trims the list by number: the scheduler's job is in no list, an id without a job stays",
    ),
)


def excused(by: str, kind: str, breach: str) -> bool:
    return by == "node" and any(kind in each.kinds and re.match(each.breach, breach) for each in EXCUSED)


def avoided(by: str, kind: str, seen: Snapshot) -> bool:
    return by == "node" and any(kind in each.kinds and each.when(seen) for each in AVOIDED)
