"""A trickle of jobs, each into idle masters, while what idle masters wait by is broken again and again.

An idle master has a call standing at the server (docs/decisions/0014). Here its connection is killed, its pop
unblocked, its script forgotten, the master told to be quiet, to reload and to stop, and each time jobs come
at that very moment. Starts are counted outside of Redis, one file a job; what is lost with a reply is found
by the stalled check only after half a minute, which is longer than anybody waits here.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time

import pytest
import redis
from running import TESTS, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

ROUNDS = 150
AT_ONCE = 3  # jobs around each trouble
WITHIN_S = 15.0


class Herd:
    """Two masters, and what befalls them."""

    def __init__(self, place, oxherd, raw, rng) -> None:
        shutil.copy(TESTS / "processors" / "release.py", place)
        (place / "release").write_text("r1")
        self.place, self.raw, self.rng = place, raw, rng
        self._oxherd = oxherd
        self.masters = [self._start(), self._start()]
        self.ended = []
        self.told = 0

    def _start(self):
        flags = ("--concurrency", "2", "--stop-deadline", "10s", "--log-level", "info")
        run = self._oxherd(*flags, target="release", queue="work", cwd=self.place)
        run.until("master.started")
        return run

    def _blocked(self) -> list[int]:
        return [int(each["id"]) for each in self.raw.client_list() if each["cmd"].startswith("bzpopmin")]

    def kill_a_wait(self) -> None:
        if waits := self._blocked():
            self.raw.client_kill_filter(_id=self.rng.choice(waits))

    def end_a_wait(self) -> None:
        if waits := self._blocked():
            self.raw.client_unblock(self.rng.choice(waits), error=self.rng.random() < 0.5)

    def forget_scripts(self) -> None:
        self.raw.script_flush()

    def be_quiet_for_a_moment(self) -> None:
        run = self.rng.choice(self.masters)
        run.signal(signal.SIGTSTP)
        time.sleep(self.rng.random() * 0.01)  # the moment at which a job arrives
        run.signal(signal.SIGCONT)

    def reload(self) -> None:
        self.rng.choice(self.masters).signal(signal.SIGHUP)

    def restart(self) -> None:
        self.masters.append(self._start())
        old = self.masters.pop(0)
        old.signal(signal.SIGTERM)
        self.ended.append(old)

    def trouble(self) -> None:
        common = [self.kill_a_wait, self.end_a_wait, self.forget_scripts, self.be_quiet_for_a_moment]
        [what] = self.rng.choices([*common, self.reload, self.restart], [20, 10, 5, 20, 4, 6])
        with contextlib.suppress(redis.ResponseError):  # it has ended meanwhile
            what()


def test_whatever_befalls_who_waits_each_job_is_begun_once_and_soon(oxherd, raw, redis_url, tmp_path):
    rng = random.Random(14)
    notes = tmp_path / "notes"
    notes.mkdir()
    herd = Herd(tmp_path, oxherd, raw, rng)
    data = {"s": 0.002, "notes": str(notes)}
    ids = []
    with Queue("work", url=redis_url) as queue:
        for _ in range(ROUNDS):
            before = rng.randrange(AT_ONCE + 1)
            ids += [queue.add("a", data, attempts=1).id for _ in range(before)]
            herd.trouble()
            ids += [queue.add("a", data, attempts=1).id for _ in range(AT_ONCE - before)]
            time.sleep(rng.random() * 0.03)  # idle again, or not quite
        until(lambda: raw.zcard("bull:work:completed") == len(ids), "all are completed", WITHIN_S)
    for master in herd.ended:
        assert master.ended(30) == 0

    assert raw.llen("bull:work:wait") == raw.llen("bull:work:active") == raw.zcard("bull:work:failed") == 0
    starts = {path.name: path.read_text().splitlines() for path in notes.iterdir()}
    assert {job: lines for job, lines in starts.items() if len(lines) != 1} == {}
    assert len(starts) == len(ids)
    stalled = [job for job in ids if raw.hget(f"bull:work:{job}", "stc") is not None]
    assert stalled == []
    waited_ms = [
        int(on) - int(at)
        for on, at in (raw.hmget(f"bull:work:{job}", "processedOn", "timestamp") for job in ids)
    ]
    # A call tells the time of its making, and a job may come while it is on its way. One that stands has been
    # made long before, and goes by the server's clock.
    assert min(waited_ms) > -100
