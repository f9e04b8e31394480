"""Random sequences of operations on one queue, each step by Node's client or by ours, on one virtual clock.

A sequence is a list of `[by, kind, a, b]`: who performs it ("node" or "us"), what (a method of `World`, or of
`Us` and `Node`), and two whole numbers that pick jobs and options from what is there then. So any part of a
sequence is a sequence too, it can be printed as JSON, and what it finds shrinks.

Time: both clients are told it, and a step of time lowers what is left of every key that expires.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from typing import Any

import invariants
import quirks
import redis
from hypothesis import strategies as st
from peers import Peer, PeerError
from performers import POLICIES, Node, Refused, Us

from supervisor.blocking import Queue
from supervisor.errors import OxherdError
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.address import Address
from supervisor.transport.blocking import Redis

BEGIN_ON = 1_800_000_000_000
STEPS = 45
REST = "rest"
TIMES_MS = (500, 2_000, 6_000, 31_000)

Step = list[Any]  # [by, kind, a, b]
OFTEN = ("add", "fetch", "take_all", "complete", "fail", "time")
SELDOM = ("drain", "obliterate", "clean")  # else queues are empty most of the time
KINDS = (
    *OFTEN,
    "add_many",
    "add_unique",
    "flow",
    "add_child",
    "idle",
    "complete_and_fetch",
    "postpone",
    "to_wait",
    "wait_for_children",
    "hand_back",
    "extend",
    "stalled",
    "lose_lock",
    "pause",
    "resume",
    "remove",
    "retry",
    "promote",
    "change_delay",
    "change_priority",
    "retry_all",
    "promote_all",
    "drain",
    "clean",
    "obliterate",
    "concurrency",
    "rate",
    "hold",
    "schedule",
    "unschedule",
)

steps = st.tuples(
    st.sampled_from(("node", "us")),
    st.sampled_from((REST, *KINDS, *OFTEN, *OFTEN, "add_unique", "flow", "postpone", "add_child")),
    st.integers(0, 14),
    st.integers(0, 14),
)
# All alike long, since lists of hypothesis are short as a rule. They shrink to rests, which are left out.
sequences = st.lists(steps, min_size=STEPS, max_size=STEPS).map(
    lambda drawn: [list(step) for step in drawn if step[1] != REST]
)


class Broken(AssertionError):
    """A rule does not hold after a step."""


class World:
    """The queue, both clients before it, and what their workers hold."""

    def __init__(self, node: Peer, raw: redis.Redis, url: str) -> None:
        self.raw, self.now_ms, self.calls = raw, BEGIN_ON, 0
        self.keys = QueueKeys("q")
        self.queue = Queue("q", url=url, clock=lambda: self.now_ms)
        self.redis = Redis(Address.parse(url))
        self.clients: dict[str, Us | Node] = {"us": Us(self), "node": Node(self, node)}
        self.tokens: dict[str, str] = {}
        self.idle_until = math.inf
        self.tolerated: set[str] = set()
        self.seen = invariants.Snapshot(self.keys.base, {}, {})

    def close(self) -> None:
        self.queue.close()
        self.redis.close()

    def perform(self, step: Step) -> None:
        """One step. A client may refuse it; anything else that goes wrong is raised."""
        by, kind, a, b = step
        self.now_ms += 1
        self.calls += 1
        if quirks.avoided(by, kind, self.seen) or (kind in SELDOM and a > 4):
            return
        if kind == "pause" and "paused" in self.seen.keys.get("meta", {}):
            kind = "resume"
        shared = getattr(self, kind, None)
        with contextlib.suppress(Refused):
            if shared is not None:
                shared(by, a, b)
            else:
                getattr(self.clients[by], kind)(a, b)

    def look(self) -> list[str]:
        self.seen = seen = invariants.take(self.raw, self.keys.base)
        return invariants.breaches(seen, self.idle_until) + self._counted(seen)

    def _counted(self, seen: invariants.Snapshot) -> list[str]:
        counts = {place: len(seen.members(place)) for place in invariants.ZSETS}
        counts |= {"waiting": len(seen.members("wait")), "active": len(seen.members("active"))}
        told = {"node": self.clients["node"].counts(), "us": self.queue.counts()}
        return [
            f"counts: {who} says {found} and there are {counts}"
            for who, found in told.items()
            if {state: found[state] for state in counts} != counts
        ]

    # --- what both share -----------------------------------------------------------------------------

    def token(self) -> str:
        return f"w:{self.calls}"

    def job(self, n: int, *states: str) -> str:
        """A job in one of the states, if there is one; else any. The oldest first."""
        known = sorted(self.seen.jobs, key=lambda job_id: (len(job_id), job_id))
        fitting = [job_id for job_id in known if self.seen.state(job_id) in states] or known
        if not fitting:
            raise Refused
        return fitting[n % len(fitting)]

    def taken(self, n: int) -> tuple[str, str]:
        """A job that a worker holds, with its lock's token; either client may have fetched it."""
        active = [job_id for job_id in self.seen.members("active") if job_id in self.tokens]
        if not active:
            (self.fetch if n % 3 == 0 else self.take_all)(("us", "node")[n % 2], 0, 0)
            self.calls += 1
            self.seen = invariants.take(self.raw, self.keys.base)
            active = [job_id for job_id in self.seen.members("active") if job_id in self.tokens]
        if not active:
            raise Refused
        job_id = active[n % len(active)]
        return job_id, self.tokens[job_id]

    def due_to_fail(self, job_id: str) -> bool:
        """What a worker that fetches it fails without running it."""
        return "defa" in self.seen.jobs.get(job_id, {})

    def fetch(self, by: str, a: int, b: int) -> None:
        self._took(self.clients[by].take(self.token()))

    def complete_and_fetch(self, by: str, a: int, b: int) -> None:
        job_id, token = self.taken(a)
        if self.due_to_fail(job_id):
            raise Refused
        self._took(self.clients[by].complete_and_take(job_id, token))

    def take_all(self, by: str, a: int, b: int) -> None:
        """Workers take what there is, and one more waits: then only the marker tells it of anything."""
        for _ in range(40):
            found = self.clients[by].take(self.token())
            self._took(found)
            self.calls += 1
            if found is None:
                break

    def _took(self, found: tuple[str, str] | None) -> None:
        """`found` is the id of a job and its token; with None the worker waits from now on."""
        if found is not None:
            self.tokens[found[0]] = found[1]
            return
        seen = invariants.take(self.raw, self.keys.base)
        most = seen.keys.get("meta", {}).get("max")
        if most is not None and int(seen.keys.get("limiter", 0)) >= int(most):
            self.idle_until = 0  # it knows when the rate allows the next one, and asks then
            return
        # The waiting worker eats the marker. What it has learned of the next due job it remembers.
        known = [score for _, score in self.raw.zpopmin(self.keys.marker, 2) if score]
        if seen.first_due_on is not None and not seen.held:
            known.append(seen.first_due_on)
        self.idle_until = min(known, default=math.inf)

    def idle(self, by: str, a: int, b: int) -> None:
        """A worker takes and completes until there is no more."""
        for _ in range(40):
            found = self.clients[by].take(self.token())
            if found is None:
                break
            self.tokens[found[0]] = found[1]
            self.look()
            with contextlib.suppress(Refused):
                place = [each for each in self.seen.members("active") if each in self.tokens].index(found[0])
                self.clients[by].complete(place, b)
            self.calls += 1

    def time(self, by: str, a: int, b: int) -> None:
        ms = TIMES_MS[a % len(TIMES_MS)]
        self.now_ms += ms
        for name, left in self.seen.ttl_ms.items():
            if left > 0:
                left = self.raw.pttl(f"{self.keys.base}:{name}") - ms
                if left > 0:
                    self.raw.pexpire(f"{self.keys.base}:{name}", left)
                else:
                    self.raw.delete(f"{self.keys.base}:{name}")

    def lose_lock(self, by: str, a: int, b: int) -> None:
        """A worker dies, and the time of its lock has run out."""
        job_id, _ = self.taken(a)
        self.raw.delete(self.keys.lock(job_id), self.keys.stalled_check)

    def family(self, a: int, b: int) -> list[tuple[str, dict[str, Any]]]:
        """A parent and its children: ids, without which no sequence would run again alike, and options."""
        parent = ({}, {"priority": 2}, {"delay": 1_500}, {})[a % 4]
        own = [{**POLICIES[(b + n) % 5], **({"delay": 400} if b == n else {})} for n in range(1 + a % 2)]
        name = "family" if a % 4 == 3 else f"p{self.calls}"
        return [(name, parent), *((f"{name}-c{n}", each) for n, each in enumerate(own))]

    def schedule_of(self, a: int, b: int) -> tuple[str, int, dict[str, Any]]:
        return f"s{a % 2}", (1_000, 4_000)[a % 4 // 2], ({}, {"priority": 3}, {"attempts": 2})[b % 3]


def play(world: World, sequence: Sequence[Step]) -> None:
    """All steps; raises `Broken` after the first that leaves a breach which is not excused.

    What is excused stays as it is, so the very same sentence is excused after all later steps too.
    """
    for place, step in enumerate(sequence):
        before = world.seen
        try:
            world.perform(list(step))
        except (AssertionError, OxherdError, PeerError) as error:
            found = [f"{type(error).__name__}: {error}"]
        else:
            found = world.look()
        world.tolerated |= {text for text in found if quirks.excused(step[0], step[1], text)}
        if left := [text for text in found if text not in world.tolerated]:
            raise Broken(told_of(world, before, sequence[: place + 1], left))


def told_of(world: World, before: invariants.Snapshot, sequence: Sequence[Step], found: list[str]) -> str:
    lines = [f"after step {len(sequence)}, {sequence[-1]!r}:", *(f"  {text}" for text in found)]
    lines += [
        "before it:",
        *_keys(before, 0),
        "after it:",
        *_keys(world.seen, len(before.keys.get("events", ()))),
    ]
    lines += ["run it again:", f"  OXHERD_SEQUENCE='{json.dumps(list(sequence))}' pytest {AGAIN}"]
    return "\n".join(lines)


AGAIN = "tests/interop/test_random_sequences.py"


def _keys(seen: invariants.Snapshot, told: int) -> list[str]:
    return [
        f"  {name}: {value[told:] if name == 'events' else value}"
        for name, value in sorted(seen.keys.items())
    ]
