"""`status --check`, `metrics` and `workers`: numbers of a queue, and the exit status that comes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from supervisor.blocking import Queue
from supervisor.cli import main
from supervisor.client.alerts import Thresholds, alerts
from supervisor.protocol.commands.work import Completed, Failed
from supervisor.protocol.job_options import KeepJobs

Oxherd = Callable[..., tuple[int, str, str]]
FOREVER = KeepJobs(count=-1)


@pytest.fixture
def oxherd(redis_url: str, monkeypatch, capsys, tmp_path) -> Oxherd:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    with Queue("paint", url=redis_url) as made:
        yield made


def end(wire: Any, *, completed: int = 0, failed: int = 0) -> None:
    wire.add(count=completed + failed)
    for number, job in enumerate(wire.fetch(completed + failed)):
        ended = (
            Completed(job.id, job.token, b"1", FOREVER)
            if number < completed
            else Failed(job.id, job.token, "no", None, FOREVER, 1)
        )
        wire.exchange([ended], metrics=60)


# --- alerts -------------------------------------------------------------------------------------------


def test_a_queue_within_its_thresholds_is_all_right(oxherd, queue, wire):
    end(wire, completed=19, failed=1)
    queue.add_bulk([("j", {})] * 3)
    status, out, err = oxherd(
        "status", "paint", "--check", "--max-waiting", "3", "--max-failed", "5%", "--max-age", "10m"
    )
    assert (status, err) == (0, "")
    assert "paint" in out


def test_each_threshold_that_is_passed_is_one_sentence_and_the_status_is_1(oxherd, queue, wire):
    end(wire, completed=3, failed=1)
    hour_ago = time.time_ns() // 1_000_000 - 3_600_000
    queue.add("j", {}, timestamp=hour_ago)
    queue.add("j", {}, priority=3)
    ask = ["status", "paint", "--check", "--max-waiting", "1", "--max-failed", "20%", "--max-age", "10m"]
    status, _, err = oxherd(*ask)
    assert status == 1
    assert err.splitlines() == [
        "oxherd: paint: 2 jobs wait, more than 1",
        "oxherd: paint: 1 of 4 finished jobs failed (25.0%), more than 20%",
        "oxherd: paint: the oldest job has waited 3,600 s, longer than 600 s",
    ]
    status, out, _ = oxherd(*ask, "--json")
    assert len(json.loads(out)["alerts"]) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-waiting", "3"),
        ("--check", "--max-failed", "5"),
        ("--check", "--max-failed", "500%"),
        ("--check", "--max-failed", "nan%"),
    ],
)
def test_thresholds_that_say_nothing_are_refused(oxherd, arguments):
    status, _, err = oxherd("status", *arguments)
    assert status == 2
    assert err.count("\n") == 1


def test_thresholds_of_the_config_hold_where_no_flag_says_another(oxherd, queue, tmp_path):
    config = tmp_path / "limits.toml"
    config.write_text('[alerts]\nmax_waiting = 1\nmax_age = "1h"\n[queue.calm.alerts]\nmax_waiting = 9\n')
    with Queue("calm", redis=queue.connect()) as calm:
        for each in (queue, calm):
            each.add_bulk([("j", {})] * 2)
    ask = ("status", "--check", "--config", str(config))
    status, _, err = oxherd(*ask)
    assert (status, err) == (1, "oxherd: paint: 2 jobs wait, more than 1\n")
    assert oxherd(*ask, "--max-waiting", "2")[0] == 0
    status, _, err = oxherd(*ask, "--max-waiting", "1")
    assert status == 1 and len(err.splitlines()) == 2, "a flag holds for every queue"
    assert oxherd("status", "--config", str(config))[0] == 0, "nobody has asked for a check"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("max_failed = 5", "5 has no %; write it in quotes with one, like '5%'"),
        ('max_failed = "120%"', "'120%' is no share; write it like 5% or 0.5%"),
        ("max_waiting = -1", "-1 is less than 0"),
        ("max_age = 600", "600 has no unit; write it in quotes with one, like '30s'"),
        ("waiting = 3", "'waiting' is unknown; did you mean 'max_waiting'?"),
    ],
)
def test_a_threshold_of_the_config_that_cannot_be_is_refused(oxherd, tmp_path, line, sentence):
    (tmp_path / "oxherd.toml").write_text(f"[alerts]\n{line}\n")
    status, _, err = oxherd("status", "--check", "--max-waiting", "3")
    assert status == 2
    assert sentence in err


def test_the_oldest_job_is_also_looked_for_where_it_starves(queue, raw):
    now_ms = 1_800_000_000_000
    queue.add("fresh", {}, timestamp=now_ms)
    queue.add("first", {}, priority=1, timestamp=now_ms)
    queue.add("starves", {}, priority=9, timestamp=now_ms - 50_000)
    queue.add("last", {}, priority=9, timestamp=now_ms)
    limits = Thresholds(max_age_ms=49_999)

    def told() -> list[Any]:
        with Queue("paint", redis=queue.connect(), clock=lambda: now_ms) as seen:
            return seen.run(alerts(limits))

    (alert,) = told()
    assert (alert.kind, alert.value, alert.limit) == ("age", 50_000, 49_999)
    queue.remove("3")
    assert told() == []


def test_a_job_that_was_to_wait_is_no_older_than_when_it_was_due(queue, raw):
    now_ms = 1_800_000_000_000
    queue.add("j", {}, delay_ms=40_000, timestamp=now_ms - 50_000)
    raw.zrem(queue.keys.delayed, "1")
    raw.lpush(queue.keys.wait, "1")
    with Queue("paint", redis=queue.connect(), clock=lambda: now_ms) as seen:
        (alert,) = seen.run(alerts(Thresholds(max_age_ms=0)))
    assert alert.value == 10_000


# --- metrics ------------------------------------------------------------------------------------------


def test_metrics_are_told_minute_by_minute(oxherd, wire):
    end(wire, completed=2)
    wire.now_ms += 60_000
    end(wire, completed=1, failed=1)
    wire.now_ms += 120_000
    end(wire, completed=1)
    status, out, _ = oxherd("metrics", "paint")
    head, titles, *rows = out.splitlines()
    assert (status, head) == (0, "4 completed, 1 failed since counting began")
    assert titles.split() == ["minute", "completed", "failed"]
    assert [row.split()[2] for row in rows] == ["0", "1", "2"]
    status, out, _ = oxherd("metrics", "paint", "--json", "--minutes", "2")
    assert json.loads(out)["completed"]["points"] == [0, 1]


def test_nothing_counted_is_said(oxherd, queue):
    queue.add("j", {})
    status, out, err = oxherd("metrics", "paint")
    assert (status, out) == (1, "")
    assert "--worker-metrics" in err


def test_the_export_for_prometheus_carries_labels(oxherd, queue):
    queue.add("j", {})
    status, out, _ = oxherd("metrics", "paint", "--prometheus", "--label", "env=live")
    assert status == 0
    assert 'bullmq_job_count{queue="paint", state="waiting", env="live"} 1' in out.splitlines()
    for wrong in (["--label", "env=live"], ["--prometheus", "--label", "env"]):
        assert oxherd("metrics", "paint", *wrong)[0] == 2


# --- workers ------------------------------------------------------------------------------------------


def test_workers_are_listed_and_their_absence_is_the_status(oxherd, queue, redis_server):
    assert oxherd("workers", "paint")[0] == 1
    names = [queue.keys.client_name(":w:left"), queue.keys.client_name(":qe")]
    clients = [redis.Redis(unix_socket_path=redis_server.socket, client_name=name) for name in names]
    try:
        for client in clients:
            client.ping()
        status, out, _ = oxherd("workers", "paint")
        assert (status, out.splitlines()[1].split()[:2]) == (0, ["left", "worker"])
        _, out, _ = oxherd("workers", "paint", "--listeners", "--json")
        assert [json.loads(line)["kind"] for line in out.splitlines()] == ["worker", "listener"]
    finally:
        for client in clients:
            client.close()
