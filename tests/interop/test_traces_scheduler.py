"""The recorded traces of job schedulers, replayed through our client and our commands, compared key by key.

The clock is set for every call, so that ids and times of the runs are compared exactly.

Steps that are not compared, and why: `comparing.NOT_COMPARED`. Where the steps behind them need it, a queue
is brought by hand to what they record.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from comparing import load
from scene import Scene, completed, failed, retried

from supervisor.client.edit import add_log, register
from supervisor.client.manage import obliterate
from supervisor.client.schedulers import (
    Schedule,
    by_cron,
    count_schedulers,
    every,
    get_scheduler,
    list_schedulers,
    remove_scheduler,
    upsert_scheduler,
)
from supervisor.errors import InvalidSchedule, JobError, UsageError
from supervisor.protocol.commands.scheduler import NextIteration
from supervisor.protocol.commands.work import FetchedJob, Outcome
from supervisor.protocol.deduplication import Deduplication
from supervisor.protocol.schedule import following_run

NEW_YEAR_MS = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) * 1000
TWO_IN_THE_MORNING_MS = NEW_YEAR_MS + 2 * 3_600_000


class Play:
    """A trace whose T0 is `t0` milliseconds."""

    def __init__(self, scene: Scene, name: str, t0: int) -> None:
        trace = load(name)
        self.scene = scene
        self._times = {mark: t0 + int(after[1:-2]) for mark, after in trace["times"].items()}
        self._steps: Iterator[dict[str, Any]] = iter(trace["steps"])
        self.queue = scene.queue

    def at(self, mark: str) -> Play:
        """The next call is made at this time."""
        self.scene.clock.now = self._times[mark] - 1
        return self

    def skip(self) -> None:
        next(self._steps)

    def write_by_hand(self) -> None:
        """Bring Redis to what the next step records."""
        for key, entry in self._next()["keys"].items():
            value = entry.get("value")
            if entry["type"] == "hash":
                self.scene.raw.hset(key, mapping={name: self._plain(text) for name, text in value.items()})
            elif entry["type"] == "zset":
                self.scene.raw.zadd(key, {member: self._plain(score) for member, score in value})
            elif entry["type"] == "string":
                self.scene.raw.set(key, value)
            else:
                assert entry["type"] == "stream"  # only what is told from now on is compared
        self.scene.skip_events()

    def _plain(self, text: str) -> str:
        return re.sub(r"\bT\d+\b", lambda found: self._text(found[0]), text)

    def matches(self, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Compare; `change` says what differs on purpose."""
        step = self._next()
        if change is not None:
            change(step["keys"])
        self.scene.matches(step)

    def _next(self) -> dict[str, Any]:
        text = json.dumps(next(self._steps))
        text = re.sub(r"(repeat:[^\"\\]*:)(T\d+)", lambda found: found[1] + self._text(found[2]), text)
        text = re.sub(r'"(T\d+)\*4096"', lambda found: f'"{self._times[found[1]] * 4096}"', text)
        text = re.sub(r"UUID(\d+:\d+)", r"U\1", text).replace('"ttl_ms"', '"pttl_ms"')
        step = json.loads(text)
        step.setdefault("new_events", {})
        for score in step["keys"].get("bull:Q:repeat", {"value": []})["value"]:
            score[1] = self._text(score[1])
        return step

    def fetch(self, mark: str, *outcomes: Outcome, token: str = "") -> list[FetchedJob]:
        return list(self.at(mark).scene.exchange(*outcomes, token=token).jobs)

    def go_on(self, mark: str, job: FetchedJob) -> None:
        """What a worker does with a job of a scheduler, before it runs it."""
        now_ms = self._times[mark]
        assert job.scheduler_id is not None
        run = following_run(job.opts, job.scheduler_id, now_ms)
        if run is not None:
            self.scene.redis.execute(NextIteration(self.scene.keys, job.scheduler_id, job.id, run, now_ms))

    def _text(self, mark: str) -> str:
        return str(self._times[mark])


Open = Callable[[str, int], AbstractContextManager[Play]]


@pytest.fixture
def play(redis_url: str, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Play]]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    opened: list[Any] = []

    def start(name: str, t0: int, *, registered: bool = True) -> Play:
        scene = Scene(redis_url, raw, "Q")
        opened.append(scene.opened())
        opened[-1].__enter__()
        if registered:
            scene.queue.run(register())
        return Play(scene, name, t0)

    yield start
    for each in opened:
        each.__exit__(None, None, None)
    monkeypatch.undo()
    time.tzset()


def test_a_cron_schedule_over_two_runs(play: Callable[..., Play]) -> None:
    now = play("scheduler-cron", NEW_YEAR_MS - 798)
    now.matches()
    tick = upsert_scheduler(
        "sch1",
        by_cron("*/2 * * * * *"),
        name="tick",
        data={"a": 1},
        options={"attempts": 3, "remove_on_complete": 100},
    )
    now.at("T1").queue.run(tick)
    now.matches()
    one, all_ = now.queue.run(get_scheduler("sch1")), now.queue.run(list_schedulers())
    assert all_ == [one]
    assert (one.name, one.pattern, one.iterations, one.data) == ("tick", "*/2 * * * * *", 1, {"a": 1})
    assert now.queue.run(count_schedulers()) == 1
    now.matches()
    now.at("T3").scene.attach()
    (job,) = now.fetch("T5")
    now.go_on("T7", job)
    now.matches()
    assert not now.fetch("T9", completed(job, b"1"))
    now.scene.idle()
    (job,) = now.fetch("T12")
    now.go_on("T13", job)
    now.matches()
    now.fetch("T15", completed(job, b"2"))
    now.scene.idle()
    now.matches()
    assert now.queue.run(remove_scheduler("sch1")) is True
    now.matches()
    assert now.queue.run(remove_scheduler("sch1")) is False
    now.matches()


def test_a_schedule_of_every_second_and_what_upserts_change(play: Callable[..., Play]) -> None:
    now = play("scheduler-every", TWO_IN_THE_MORNING_MS - 64_587_735)
    now.at("T0").queue.run(upsert_scheduler("ev", every(1_000), name="tick", data={"a": 1}))
    now.matches()
    now.at("T2").scene.attach()
    (job,) = now.fetch("T3")
    now.go_on("T4", job)
    now.matches()
    assert not now.fetch("T5", completed(job, b"1"))
    (job,) = now.fetch("T8")
    now.go_on("T10", job)
    now.matches()
    now.fetch("T12", completed(job, b"2"))
    now.scene.idle()
    now.matches()
    again = upsert_scheduler("ev", every(1_000), name="tick2", data={"b": 2}, options={"priority": 5})
    now.at("T13").queue.run(again)
    now.matches()
    now.at("T16").queue.run(upsert_scheduler("ev", every(5_000), name="tick3"))
    now.matches()
    end = now._times["T21"]
    cron = Schedule(pattern="0 0 3 * * *", tz="Europe/Stockholm", limit=7, end_on=end)
    now.at("T17").queue.run(upsert_scheduler("ev", cron, name="tick4", data={"c": 1}))
    now.matches()
    with pytest.raises(JobError) as refused:
        now.queue.remove(f"repeat:ev:{now._times['T20']}")
    assert refused.value.status == -8
    now.matches()
    assert now.queue.drain(delayed=True) == 0
    now.matches()
    assert now.queue.clean("delayed") == []
    now.matches()


def test_offset_start_immediately_end_and_limit(play: Callable[..., Play]) -> None:
    now = play("scheduler-options", NEW_YEAR_MS - 3_426_986_436)
    now.at("T0").queue.run(upsert_scheduler("off", every(60_000, offset_ms=7_000), name="o"))
    now.matches()
    start = Schedule(every_ms=60_000, start_on=now._times["T14"])
    now.at("T1").queue.run(upsert_scheduler("start", start, name="s"))
    now.matches()
    now.at("T2").queue.run(upsert_scheduler("imm", Schedule(pattern="0 0 1 1 *", immediately=True), name="i"))
    now.matches()
    noon = Schedule(pattern="0 0 12 * * *", tz="UTC", start_on=now._times["T16"])
    now.at("T4").queue.run(upsert_scheduler("cst", noon, name="i"))
    now.matches()
    for refused, wrong in (
        ("end date", Schedule(every_ms=1_000, end_on=now._times["T4"] - 1)),
        ("neither and both", Schedule()),
    ):
        with pytest.raises(InvalidSchedule):
            now.at("T4").queue.run(upsert_scheduler(refused, wrong))
        now.matches()
    now.at("T5").queue.run(upsert_scheduler("lim", Schedule(every_ms=200, limit=2), name="l"))
    now.at("T6").scene.attach()
    (job,) = now.fetch("T6")
    now.go_on("T8", job)
    (job,) = now.fetch("T9", completed(job, b"0"))
    now.go_on("T10", job)
    assert not now.fetch("T10", completed(job, b"1"))
    (job,) = now.fetch("T12")
    now.go_on("T12", job)
    now.fetch("T12", completed(job, b"2"))
    now.scene.idle()
    now.matches()


def test_a_retry_adds_no_second_run(play: Callable[..., Play]) -> None:
    now = play("scheduler-retry", NEW_YEAR_MS + 35_913)
    now.at("T0").queue.run(upsert_scheduler("ev", every(60_000), name="e", options={"attempts": 2}))
    now.at("T2").scene.attach()
    (job,) = now.fetch("T2")
    now.go_on("T3", job)
    (job,) = now.fetch("T5", retried(job, "x"))
    now.go_on("T6", job)
    now.fetch("T7", failed(job, "x"))
    now.scene.raw.zrem(now.scene.keys.marker, "0")
    now.matches()


def test_runs_that_were_missed_are_one_late_run(play: Callable[..., Play]) -> None:
    now = play("scheduler-missed", NEW_YEAR_MS + 1)
    now.at("T0").queue.run(upsert_scheduler("ev", every(1_000), name="tick"))
    now.matches()
    now.at("T2").scene.attach()
    (job,) = now.fetch("T2")
    now.go_on("T3", job)
    now.matches()
    now.fetch("T5", completed(job))
    (job,) = now.fetch("T8")
    now.go_on("T9", job)
    now.matches()
    (job,) = now.fetch("T13", completed(job))
    now.go_on("T16", job)
    now.matches()
    now.at("T18").scene.exchange(completed(job), fetch=0)
    now.matches()


def test_slots_that_are_taken(play: Callable[..., Play]) -> None:
    now = play("scheduler-collision", NEW_YEAR_MS - 3_426_624_261)
    raw, keys = now.scene.raw, now.scene.keys
    now.at("T0").queue.run(upsert_scheduler("ev", every(60_000), name="e"))
    now.at("T2").scene.attach()
    (job,) = now.fetch("T2")
    now.fetch("T5", completed(job))
    taken = f"repeat:ev:{now._times['T9']}"
    raw.hset(keys.job(taken), "name", "occupied")
    raw.xadd(keys.events, {"event": "duplicated", "jobId": taken})  # which ours does not say
    now.scene.idle()
    now.skip()
    now.scene._told = 6
    now.at("T7").queue.run(upsert_scheduler("ev", every(60_000), name="e"))
    now.matches()
    new_year = upsert_scheduler("c", by_cron("0 0 1 1 *"), name="c")
    now.at("T8").queue.run(new_year)
    raw.zrem(keys.delayed, f"repeat:c:{NEW_YEAR_MS}")  # as if it ran
    with pytest.raises(JobError, match="job ID already exists") as refused:
        now.at("T8").queue.run(new_year)
    assert refused.value.status == -10
    now.matches()


def test_a_paused_queue(play: Callable[..., Play]) -> None:
    now = play("scheduler-paused", NEW_YEAR_MS + 40_103)
    now.queue.pause()
    now.at("T1").queue.run(upsert_scheduler("ev", every(60_000), name="tick"))
    now.matches()
    now.at("T3").queue.run(upsert_scheduler("ev2", every(60_000), name="tick", options={"priority": 3}))
    now.matches()


def test_old_repeatables_are_listed_and_go_on(play: Callable[..., Play]) -> None:
    now = play("v5-legacy-repeat", NEW_YEAR_MS - 3_426_732_868)
    now.write_by_hand()
    found = now.queue.run(list_schedulers())
    now.matches()
    assert [(each.id, each.name, each.every_ms, each.pattern, each.legacy) for each in found] == [
        ("mykey", "n2", 60_000, None, True),
        ("58f1a95137cdfe5a628809e030d70211", "n", None, "0 0 1 1 *", True),
    ]
    for job_id in (
        f"repeat:58f1a95137cdfe5a628809e030d70211:{NEW_YEAR_MS}",
        f"repeat:mykey:{now._times['T14']}",
    ):
        now.queue.promote(job_id)
    now.at("T6").scene.attach()
    (job,) = now.fetch("T6")
    now.go_on("T8", job)
    (job,) = now.fetch("T9", completed(job, b"1"))
    now.go_on("T11", job)
    assert not now.fetch("T12", completed(job, b"1"))
    now.scene.idle()

    def ours(keys: dict[str, Any]) -> None:
        """BullMQ 6 forgets the data that BullMQ 5 gave each run."""
        for last in ("58f1a95137cdfe5a628809e030d70211:" + now._text("T17"), "mykey:" + now._text("T15")):
            keys[f"bull:Q:repeat:{last}"]["value"]["data"] = '{"a":1}'

    now.matches(ours)


def test_drain_keeps_the_jobs_of_schedulers(play: Callable[..., Play]) -> None:
    now = play("drain", NEW_YEAR_MS - 3_426_822_885)
    now.at("T0").queue.add("w", 1)
    now.at("T1").queue.add("w", 2)
    now.at("T1").queue.add("p", 3, priority=3)
    now.at("T2").queue.add("d", 4, delay_ms=60_000)
    now.at("T3").queue.run(upsert_scheduler("s", every(60_000)))
    now.at("T5").queue.run(upsert_scheduler("c", by_cron("0 0 1 1 *")))
    now.matches()

    def ours(keys: dict[str, Any]) -> None:
        """BullMQ leaves the id of a removed job here, and the scheduler's job, which it keeps, in no list."""
        keys["bull:Q:wait"] = {"type": "list", "value": [f"repeat:s:{now._times['T3']}"]}

    assert now.queue.drain() == 3
    now.matches(ours)
    assert now.queue.drain(delayed=True) == 1
    now.matches(ours)


def test_obliterate(play: Callable[..., Play]) -> None:
    now = play("obliterate", NEW_YEAR_MS + 17_344 - 43)
    now.scene.metrics = 10
    now.at("T0").queue.add("x", 0)
    now.at("T2").scene.attach()
    (job,) = now.fetch("T3")
    now.queue.run(add_log("1", "line"))
    now.fetch("T4", completed(job, b"1"))
    now.at("T5").queue.add("hold", 1)
    now.fetch("T6")
    now.scene.idle()
    now.queue.pause()
    now.at("T8").queue.add("w", 1)
    now.at("T9").queue.add("w", 1, deduplication=Deduplication("DD"))
    now.at("T9").queue.add("d", 2, delay_ms=60_000)
    now.at("T10").queue.run(upsert_scheduler("s", every(60_000)))
    now.matches()
    with pytest.raises(UsageError, match="Cannot obliterate queue with active jobs"):
        now.queue.run(obliterate())
    now.matches()
    now.queue.run(obliterate(force=True))
    now.matches()


def test_what_bullmq_refuses_is_refused() -> None:
    """The texts are in scheduler-options."""
    now_ms = NEW_YEAR_MS
    for wrong in (
        Schedule(),
        Schedule(every_ms=1, pattern="* * * * *"),
        Schedule(every_ms=1_000, end_on=now_ms - 1),
        Schedule(pattern="* * * * *", immediately=True, start_on=now_ms),
        Schedule(every_ms=0),
    ):
        with pytest.raises(InvalidSchedule):
            wrong.checked(now_ms)
