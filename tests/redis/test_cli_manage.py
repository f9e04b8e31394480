"""drain, clean, obliterate, and retry and promote of all: what they do, and what they ask before."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from supervisor.blocking import Queue
from supervisor.cli import main

Oxherd = Callable[..., tuple[int, str, str]]


@pytest.fixture
def oxherd(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Oxherd:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str, stdin: str = "", terminal: bool = False) -> tuple[int, str, str]:
        typed = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        monkeypatch.setattr(sys, "stdin", typed)
        capsys.readouterr()
        if terminal:
            monkeypatch.setattr(typed, "isatty", lambda: True)
            monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def queue(redis_url: str, raw: redis.Redis):
    with Queue("work", url=redis_url) as queue:
        yield queue


def finish(raw: redis.Redis, state: str, *job_ids: str) -> None:
    """As if they had ended long ago."""
    for job_id in job_ids:
        raw.lrem("bull:work:wait", 0, job_id)
        raw.zadd(f"bull:work:{state}", {job_id: 1_700_000_000_000})
        raw.hset(f"bull:work:{job_id}", "finishedOn", 1_700_000_000_000)


@pytest.mark.parametrize("verb", ["drain", "clean", "obliterate"])
def test_without_a_terminal_nothing_is_removed_unless_it_is_said(oxherd: Oxherd, queue, verb: str) -> None:
    queue.add("a", {})

    status, out, err = oxherd(verb, "work")

    assert (status, out) == (2, "")
    assert "--yes" in err and "Nothing was changed" in err
    assert queue.counts()["waiting"] == 1
    assert not queue.is_paused()


@pytest.mark.parametrize("verb", ["drain", "obliterate"])
def test_on_a_terminal_it_is_asked_and_no_means_no(oxherd: Oxherd, queue, verb: str) -> None:
    queue.add("a", {})

    status, out, err = oxherd(verb, "work", stdin="n\n", terminal=True)

    assert (status, out) == (1, "")
    assert "[y/N]" in err
    assert queue.counts()["waiting"] == 1

    status, out, _ = oxherd(verb, "work", stdin="y\n", terminal=True)
    assert status == 0
    assert queue.counts()["waiting"] == 0


def test_drain_removes_what_waits_and_delayed_jobs_when_told(oxherd: Oxherd, queue) -> None:
    queue.add("a", {})
    queue.add("b", {}, priority=2)
    queue.add("c", {}, delay_ms=60_000)

    assert oxherd("drain", "work", "--yes") == (0, "2 removed\n", "")
    assert queue.counts()["delayed"] == 1
    status, out, _ = oxherd("drain", "work", "--delayed", "--yes", "--json")
    assert (status, json.loads(out)) == (0, {"queue": "work", "removed": 1})


def test_clean_removes_old_jobs_of_one_state(oxherd: Oxherd, queue, raw: redis.Redis) -> None:
    queue.add_bulk([("a", {})] * 4)
    finish(raw, "failed", "1", "2", "3")

    assert oxherd("clean", "work", "--yes") == (0, "0 removed\n", "")
    assert oxherd("clean", "work", "--state", "failed", "--limit", "2", "--yes") == (0, "2 removed\n", "")
    assert oxherd("clean", "work", "--state", "waiting", "--older-than", "1h", "--yes")[1] == "0 removed\n"
    status, out, _ = oxherd("clean", "work", "--state", "failed", "--older-than", "1h", "--yes", "--json")
    assert (status, json.loads(out)) == (0, {"queue": "work", "state": "failed", "removed": 1})
    assert queue.counts()["waiting"] == 1
    assert oxherd("clean", "work", "--state", "lost", "--yes")[0] == 2


def test_obliterate_refuses_active_jobs_unless_forced(oxherd: Oxherd, queue, raw: redis.Redis) -> None:
    queue.add("a", {})
    raw.lmove("bull:work:wait", "bull:work:active", "RIGHT", "LEFT")

    status, out, err = oxherd("obliterate", "work", "--yes")
    assert (status, out) == (2, "")
    assert "Cannot obliterate queue with active jobs" in err
    assert queue.is_paused()

    assert oxherd("obliterate", "work", "--force", "--yes") == (0, "work is gone\n", "")
    assert raw.keys("bull:work:*") == []


def test_retry_and_promote_take_ids_or_all(oxherd: Oxherd, queue, raw: redis.Redis) -> None:
    queue.add_bulk([("a", {})] * 3)
    finish(raw, "failed", "1", "2", "3")

    assert oxherd("retry", "work")[0] == 2
    assert "instead of the ids" in oxherd("retry", "work", "1", "--all")[2]
    assert "goes with --all" in oxherd("retry", "work", "1", "--limit", "1")[2]
    assert oxherd("retry", "work", "--all", "--limit", "2") == (0, "2 put back\n", "")
    assert oxherd("retry", "work", "--all") == (0, "1 put back\n", "")
    assert queue.counts()["waiting"] == 3

    queue.add("d", {}, delay_ms=60_000)
    assert oxherd("promote", "work")[0] == 2
    status, out, _ = oxherd("promote", "work", "--all", "--json")
    assert (status, json.loads(out)) == (0, {"queue": "work", "count": 1})
    assert queue.counts() | {"waiting": 4, "delayed": 0} == queue.counts()
