"""`oxherd breaker` on a real server: what it shows, changes and refuses, and with which exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from supervisor.cli import main
from supervisor.protocol.commands.breaker import BreakerKeys, EnterBreaker, LeaveBreaker, Rule

Oxherd = Callable[..., tuple[int, str, str]]
RULE = Rule(failures=2, within_ms=60_000, open_ms=30_000, longest_ms=60_000)


@pytest.fixture
def breaker(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Oxherd:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str) -> tuple[int, str, str]:
        status = main(["breaker", *argv])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def fail(wire) -> Callable[[str, int], None]:
    """Let the breaker of this name see so many failures now, by the clock the commands look at."""
    seconds, microseconds = wire.raw.time()
    now_ms = seconds * 1000 + microseconds // 1000

    def failed(name: str, times: int) -> None:
        keys = BreakerKeys(name, "bull")
        for n in range(times):
            wire.run(EnterBreaker(keys, now_ms, f"{n}", "lock", "token", trials=1, share=0.0))
            wire.run(LeaveBreaker(keys, now_ms, f"{n}", "failed", RULE))

    return failed


def test_of_a_breaker_that_has_seen_no_failure_nothing_is_known(breaker: Oxherd):
    assert breaker("list") == (0, "", "oxherd breaker: no breaker has seen a failure in the last day\n")
    status, said, _ = breaker("show", "payments")
    assert (status, said.split()) == (0, ["breaker", "payments", "state", "closed", "failures", "-"])
    assert breaker("reset", "payments")[:2] == (0, "payments is closed; nothing was known of it\n")


def test_breakers_are_listed_by_name_with_what_they_have_seen(breaker: Oxherd, fail):
    fail("payments", 2)
    fail("mail", 1)

    status, said, _ = breaker("list")

    assert status == 0
    rows = [" ".join(line.split()) for line in said.splitlines()[1:]]
    assert rows[0] == "mail closed 1 of 2 in 1m -"
    assert rows[1].startswith("payments open - in ")
    records = [json.loads(line) for line in breaker("list", "--json")[1].splitlines()]
    assert [(each["name"], each["state"], each["failed"]) for each in records] == [
        ("mail", "closed", 1),
        ("payments", "open", 0),
    ]


def test_showing_one_that_is_open_is_a_no(breaker: Oxherd, fail):
    fail("payments", 2)

    status, said, _ = breaker("show", "payments")
    assert status == 1
    assert "times opened     1\n" in said

    status, said, _ = breaker("show", "payments", "--json")
    record = json.loads(said)
    assert status == 1
    assert (record["state"], record["trips"], record["within_ms"]) == ("open", 1, 60_000)
    assert record["until_on"] - record["opened_on"] == 30_000


def test_it_is_opened_and_reset_by_hand(breaker: Oxherd, raw: redis.Redis):
    assert breaker("open", "payments", "--for", "10m")[:2] == (0, "payments is open for 10m\n")
    assert breaker("show", "payments")[0] == 1

    status, said, _ = breaker("reset", "payments", "--json")
    assert (status, json.loads(said)["state"]) == (0, "closed")
    assert raw.keys("*") == []


def test_another_prefix_has_breakers_of_its_own(breaker: Oxherd):
    breaker("open", "payments", "--for", "10m", "--prefix", "other")

    assert breaker("show", "payments")[0] == 0
    assert breaker("show", "payments", "--prefix", "other")[0] == 1


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), "a verb is missing: list, show, open, reset"),
        (("opne", "payments"), "opne"),
        (("show",), "missing argument 'NAME'"),
        (("show", "a:b"), "no breaker is named 'a:b'"),
        (("reset", ""), "no breaker is named ''"),
        (("open", "payments"), "missing option '--for'"),
        (("open", "payments", "--for", "soon"), "no duration"),
        (("open", "payments", "--for", "0"), "more than 0 and at most 30d"),
        (("open", "payments", "--for", "31d"), "more than 0 and at most 30d"),
        (("open", "a b", "--for", "1m"), "no breaker is named 'a b'"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(breaker: Oxherd, raw: redis.Redis, argv, said):
    status, out, err = breaker(*argv)

    assert (status, out) == (2, "")
    assert said in err
    assert raw.keys("*") == []


def test_a_key_of_somebody_else_is_told_in_one_sentence(breaker: Oxherd, raw: redis.Redis):
    raw.set("bull:ox:breaker:payments", "mine")

    for argv in (("show", "payments"), ("open", "payments", "--for", "1m")):
        status, _, err = breaker(*argv)
        assert status == 1
        assert "WRONGTYPE" in err
        assert "Traceback" not in err
