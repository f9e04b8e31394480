"""`oxherd schedule` on a real server: what it stores, shows and refuses, and with which exit status."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from supervisor.blocking import Queue
from supervisor.cli import main
from supervisor.client.schedulers import get_scheduler

ROOT = Path(__file__).parents[2]
Oxherd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def schedule(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Oxherd:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str) -> tuple[int, str, str]:
        status = main(["schedule", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def queue(redis_url: str):
    with Queue("mail", url=redis_url) as queue:
        yield queue


def test_a_cron_schedule_is_stored_and_its_next_runs_are_shown(schedule: Oxherd, queue: Queue):
    status, said, _ = schedule(
        *("upsert", "mail", "nightly", "--cron", "0 3 * * *", "--tz", "Europe/Berlin", "--limit", "9"),
        *("--name", "report", "--data", '{"to": ["é"]}', "--attempts", "3", "--backoff", "exponential:1s"),
    )
    assert status == 0
    assert said.startswith("next run  ") and said.count("\nthen ") == 2
    found = queue.run(get_scheduler("nightly"))
    assert found is not None
    assert (found.pattern, found.tz, found.limit, found.name) == ("0 3 * * *", "Europe/Berlin", 9, "report")
    assert found.data == {"to": ["é"]}
    assert found.options == {"attempts": 3, "backoff": {"type": "exponential", "delay": 1_000}}


def test_schedulers_are_listed_and_shown(schedule: Oxherd):
    schedule("upsert", "mail", "poll", "--every", "5m", "--offset", "10s", "--data", "[1]")
    schedule("upsert", "mail", "daily", "--cron", "@daily", "--tz", "UTC")
    status, said, _ = schedule("list", "mail")
    assert status == 0
    assert "every 5m" in said and "@daily UTC" in said
    status, said, _ = schedule("list", "mail", "--json")
    records = [json.loads(line) for line in said.splitlines()]
    assert [record["id"] for record in records] == ["poll", "daily"]
    assert records[0]["upcoming"][1] - records[0]["next_on"] == 300_000
    status, said, _ = schedule("show", "mail", "poll")
    assert status == 0
    assert "data" in said and "next runs" in said


def test_what_is_not_there_is_said_with_status_1(schedule: Oxherd):
    assert schedule("show", "mail", "nobody")[0] == 1
    status, said, _ = schedule("remove", "mail", "nobody")
    assert (status, said) == (1, "nobody  there is no such scheduler\n")
    assert schedule("list", "mail")[:2] == (0, "")


def test_a_scheduler_is_removed_with_its_delayed_job(schedule: Oxherd, queue: Queue):
    schedule("upsert", "mail", "daily", "--cron", "@daily")
    assert queue.counts()["delayed"] == 1
    assert schedule("remove", "mail", "daily")[:2] == (0, "daily  removed\n")
    assert queue.counts()["delayed"] == 0


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ((), "neither"),
        (("--every", "5m", "--cron", "@daily"), "both"),
        (("--cron", "0 0 15W * *"), "W, the nearest weekday"),
        (("--cron", "@daily", "--tz", "Europe/Atlantis"), "no time zone"),
        (("--every", "5m", "--tz", "UTC"), "knows no time zone"),
        (("--every", "5m", "--offset", "6m"), "offset_ms is between"),
        (("--every", "5m", "--limit", "0"), "limit is between"),
        (("--every", "5m", "--end", "2020-01-01"), "End date must be greater"),
        (("--every", "5m", "--end", "tomorrow"), "is no date"),
        (("--cron", "@daily", "--immediately", "--start", "2030-01-01"), "contradict"),
        (("--every", "5m", "--data", "{"), "no JSON"),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_status_2_and_nothing_is_stored(
    schedule: Oxherd, raw: redis.Redis, flags: tuple[str, ...], why: str
):
    status, _, said = schedule("upsert", "mail", "s", *flags)
    assert status == 2
    assert why in said and said.count("\n") == 1
    assert raw.keys("*") == []


def test_an_old_repeatable_is_listed_with_what_to_do(schedule: Oxherd, raw: redis.Redis):
    raw.zadd("bull:mail:repeat", {"md5": 1_800_000_000_000})
    raw.hset("bull:mail:repeat:md5", mapping={"name": "n", "every": 60_000})
    status, said, advice = schedule("list", "mail")
    assert status == 0 and "md5" in said
    assert "Make a job scheduler of the same pattern" in advice


def test_the_page_on_schedules_runs_as_it_stands(redis_url: str, raw: redis.Redis, tmp_path: Path):
    page = (ROOT / "docs/how-to/schedule.md").read_text(encoding="utf-8")
    (tmp_path / "schedules.py").write_text(page.split("```python\n")[1].partition("```")[0], encoding="utf-8")
    where = {**os.environ, "OXHERD_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "schedules.py"], cwd=tmp_path, env=where, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("first run of nightly: ")
    assert raw.exists("bull:reports:repeat") == 0


def test_the_commands_on_the_page_are_taken(schedule: Oxherd, raw: redis.Redis):
    page = (ROOT / "docs/how-to/schedule.md").read_text(encoding="utf-8")
    lines = [shlex.split(line[2:]) for line in page.splitlines() if line.startswith("$ oxherd schedule ")]
    assert len(lines) == 7
    raw.zadd("bull:reports:repeat", {lines[-1][-1]: 5})
    raw.hset(f"bull:reports:repeat:{lines[-1][-1]}", "name", "n")
    assert [schedule(*line[2:])[0] for line in lines] == [0] * 7


def test_a_verb_is_needed_and_a_wrong_one_is_named(schedule: Oxherd):
    status, _, said = schedule()
    assert status == 2 and "upsert" in said
    status, _, said = schedule("lst", "mail")
    assert status == 2 and "list" in said
