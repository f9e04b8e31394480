"""A deploy storm: twenty reloads and five restarts under load, and every job is run once.

450 jobs of 0.1-0.5 s, 45 of 2 s and 5 of 30 s, sleeping, in 16 slots, while one release follows the other. A
restart is what a deploy without a pause does: the next master is started, then the one before is told to stop
and ends its jobs, those of 30 s included. Starts are counted outside of Redis, one file a job.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from running import ROOT, TESTS, Running, until

from supervisor.blocking import Queue

pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

RELOADS, RESTARTS, SLOTS = 20, 5, 16
PATIENCE_S = 150.0


class Deploys:
    """One release after the other, in one directory."""

    def __init__(self, place: Path, oxherd) -> None:
        shutil.copy(TESTS / "processors" / "release.py", place)
        self.place = place
        self._oxherd = oxherd
        self._number = 0
        self.masters: list[Running] = []

    def release(self, text: str = "") -> None:
        self._number += 1
        (self.place / "release").write_text(text or f"r{self._number}")

    def restart(self) -> None:
        self.release()
        flags = ("--concurrency", str(SLOTS), "--stop-deadline", "90s")
        self.masters.append(self._oxherd(*flags, target="release", queue="work", cwd=self.place))
        self.masters[-1].until("master.started")
        if len(self.masters) > 1:
            self.masters[-2].signal(signal.SIGTERM)

    def reload(self) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "supervisor", "ctl", "reload", "--pid", str(self.masters[-1].pid)]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "OXHERD_RUNTIME_DIR": str(self.place / "run")}
        return subprocess.run(argv, env=env, cwd=self.place, capture_output=True, text=True, timeout=60)


def test_a_storm_of_deploys_loses_no_job_and_runs_none_twice(oxherd, raw, redis_url, tmp_path):
    rng = random.Random(20)
    notes = tmp_path / "notes"
    notes.mkdir()
    lasts = [*(rng.uniform(0.1, 0.5) for _ in range(450)), *[2.0] * 45]
    rng.shuffle(lasts)
    with Queue("work", url=redis_url) as queue:
        for s in [*[30.0] * 5, *lasts]:
            queue.add("a", {"s": s, "notes": str(notes)}, attempts=1)

    deploys = Deploys(tmp_path, oxherd)
    deploys.restart()
    for number in range(1, RELOADS + 1):
        broken = number % 7 == 0
        deploys.release("broken" if broken else "")
        done = deploys.reload()
        assert done.returncode == (1 if broken else 0), done.stderr
        if number % (RELOADS // RESTARTS) == 0:
            deploys.restart()
    until(lambda: raw.zcard("bull:work:completed") == 500, "all are completed", PATIENCE_S)
    for master in deploys.masters[:-1]:
        assert master.ended(60) == 0

    assert raw.llen("bull:work:wait") == raw.llen("bull:work:active") == raw.zcard("bull:work:failed") == 0
    starts = {path.name: path.read_text().splitlines() for path in notes.iterdir()}
    assert len(starts) == 500
    assert {job: lines for job, lines in starts.items() if len(lines) != 1} == {}
    counts = [raw.hmget(f"bull:work:{job}", "atm", "ats", "stc") for job in starts]
    assert Counter(map(tuple, counts)) == {(b"1", b"1", None): 500}
    releases = {line.split()[0] for lines in starts.values() for line in lines}
    assert len(releases) > RELOADS // 2, releases
    assert "broken" not in releases
