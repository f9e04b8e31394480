"""`oxherd dlq`: letters listed, shown and replayed, and what is said when that cannot be."""

from __future__ import annotations

import io
import json
import sys

import pytest

from supervisor.cli import main
from supervisor.protocol.commands.job import RetryJob
from supervisor.protocol.commands.work import Failed, Told
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys

DEAD = QueueKeys("paint-dead")


@pytest.fixture
def oxherd(redis_url, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv):
        monkeypatch.setattr(sys, "stdin", io.StringIO())  # no terminal: nothing here asks
        capsys.readouterr()
        status = main(["dlq", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def three(wire):
    """Three letters, 1 to 3, of jobs with the same ids."""
    for name in ("a", "b\x1b[2J", "c"):
        wire.add(wire.job(name, data=b'{"n":1}'))
        (job,) = wire.fetch()
        wire.exchange([Failed(job.id, job.token, "boom\nbang", "at x\nat y", KEEP_ALL, 1, dead_letter=DEAD)])


def test_letters_are_listed_without_anything_a_terminal_would_obey(oxherd, three):
    status, out, err = oxherd("list", "paint-dead", "--limit", "2")

    assert status == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["1", "paint/1", "a"],
        ["2", "paint/2", "b\\x1b[2J"],
    ]
    assert "boom bang" in out
    assert "2 of 3; the next with --start 2" in err


def test_programs_get_one_record_a_letter(oxherd, three):
    status, out, _ = oxherd("list", "paint-dead", "--json", "--start", "1")

    records = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [record["job_id"] for record in records] == ["2", "3"]
    assert records[0]["dead_letter_queue"] == "paint-dead"
    assert (records[0]["data"], records[0]["failed_reason"]) == ({"n": 1}, "boom\nbang")


def test_no_letters_are_no_mistake(oxherd, wire):
    assert oxherd("list", "paint-dead") == (0, "", "oxherd: no letter waits in paint-dead\n")
    assert oxherd("list", "paint-dead", "--json")[:2] == (0, "")
    assert oxherd("replay", "paint-dead", "--all")[:2] == (0, "0 replayed\n")


def test_a_letter_is_shown_whole(oxherd, three):
    status, out, _ = oxherd("show", "paint-dead", "3")

    assert status == 0
    assert "paint/3" in out and '{"n": 1}' in out and "  at y" in out
    assert json.loads(oxherd("show", "paint-dead", "3", "--json")[1])["stacktrace"] == ["at x\nat y"]
    assert oxherd("show", "paint-dead", "9")[0] == 1


def test_a_letter_tells_the_verdicts_of_its_job(oxherd, wire):
    wire.add(wire.job())
    (job,) = wire.fetch()
    told = Told(b'{"cause":"signal","reason":"it died","attempt":1}', is_crash=True)
    wire.exchange([Failed(job.id, job.token, "it died", None, KEEP_ALL, 1, dead_letter=DEAD, told=told)])

    assert "\nverdicts\n  attempt 1, signal: it died\n" in oxherd("show", "paint-dead", "1")[1]
    record = json.loads(oxherd("show", "paint-dead", "1", "--json")[1])
    assert record["verdicts"] == [{"cause": "signal", "reason": "it died", "attempt": 1}]
    assert record["extra"] == {"ox:crashes": "1"}


def test_named_letters_are_replayed_and_each_is_told_of(oxherd, three, wire):
    status, out, _ = oxherd("replay", "paint-dead", "3", "9", "3")

    assert status == 1
    assert out.splitlines() == ["3  paint/3", "9  left as it is: there is no such letter"]
    assert wire.ids(wire.queue.wait) == ["3"]

    status, out, _ = oxherd("replay", "paint-dead", "1", "--json", "--to", "repair")
    assert status == 0
    assert json.loads(out) == {
        "queue": "paint-dead", "id": "1", "done": True, "outcome": "repair/1",
        "job_queue": "repair", "job_id": "1",
    }  # fmt: skip


def test_all_are_replayed_but_for_those_with_a_reason(oxherd, three, wire):
    wire.run(RetryJob(wire.queue, "2", "failed"))

    assert oxherd("replay", "paint-dead", "--all")[:2] == (
        1,
        "2  left as it is: the job itself is no longer failed\n2 replayed, 1 left as they are\n",
    )
    _, out, _ = oxherd("replay", "paint-dead", "--all", "--json")
    assert json.loads(out.splitlines()[-1]) == {"queue": "paint-dead", "count": 0, "left": 1}


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ([], "a verb is missing"),
        (["lsit", "q"], "lsit"),
        (["replay", "q"], "name the jobs by ID, or say --all"),
        (["replay", "q", "1", "--all"], "instead of the ids"),
        (["replay", "q", "1", "--limit", "1"], "--limit goes with --all"),
        (["replay", "q", "1", "--to", "a:b"], "Queue name cannot contain :"),
        (["replay", "q", "1", "--to", ""], "Queue name must be provided"),
        (["list", "a:b"], "Queue name cannot contain :"),
    ],
)
def test_wrong_usage_changes_nothing(oxherd, raw, argv, word):
    status, out, err = oxherd(*argv)

    assert (status, out) == (2, "")
    assert word in err
    assert raw.dbsize() == 0
