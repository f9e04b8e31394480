"""Every subcommand on a real server: what it answers, what it refuses, and with which exit status."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from supervisor.cli import READER_GONE, main
from supervisor.cli.add import JOBS_A_CHUNK

SENTENCE = re.compile(r"^oxherd[a-z ]*: [^\n]+\n$")


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Oxherd = Callable[..., Answer]


@pytest.fixture
def oxherd(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Oxherd:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)

    def run(*argv: str, stdin: str = "") -> Answer:
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode("utf-8", "surrogateescape")))
        )
        capsys.readouterr()
        status = main(list(argv))
        said = capsys.readouterr()
        return Answer(status, said.out, said.err)

    return run


def refused(answer: Answer, status: int, *words: str) -> None:
    """One sentence on stderr, nothing on stdout."""
    assert answer.status == status, answer
    assert answer.out == ""
    assert SENTENCE.match(answer.err), answer.err
    for word in words:
        assert word in answer.err


# --- add --------------------------------------------------------------------------------------------


def test_add_prints_the_id_and_stores_what_was_asked(oxherd: Oxherd, raw: redis.Redis) -> None:
    answer = oxherd(
        *("add", "work", "resize", '{"page": 1}', "--attempts", "3", "--backoff", "exponential:1s"),
        *("--timeout", "1m", "--keep-logs", "7"),
    )

    assert (answer.status, answer.out, answer.err) == (0, "1\n", "")
    assert raw.lrange("bull:work:wait", 0, -1) == [b"1"]
    stored = raw.hgetall("bull:work:1")
    assert stored[b"name"] == b"resize"
    assert json.loads(stored[b"data"]) == {"page": 1}
    options = json.loads(stored[b"opts"])
    assert options == {
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 1000},
        "timeout": 60_000,
        "kl": 7,
    }


def test_add_puts_each_job_where_its_options_say(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    oxherd("add", "work", "b", "--lifo")
    oxherd("add", "work", "c", "--priority", "5")
    oxherd("add", "work", "d", "--delay", "1h")
    oxherd("add", "work", "e", "--job-id", "mine", "--prefix", "other")

    assert raw.lrange("bull:work:wait", 0, -1) == [b"1", b"2"]  # taken from the right
    assert raw.zrange("bull:work:prioritized", 0, -1) == [b"3"]
    assert raw.zrange("bull:work:delayed", 0, -1) == [b"4"]
    assert raw.hget("other:work:mine", "name") == b"e"


def test_add_takes_data_from_a_file_from_stdin_and_none_at_all(
    oxherd: Oxherd, raw: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text('{"from": "file"}')
    oxherd("add", "work", "a", "--data-file", "data.json")
    oxherd("add", "work", "b", "--data-file", "-", stdin="[1, 2]")
    oxherd("add", "work", "c")

    assert [json.loads(raw.hget(f"bull:work:{n}", "data")) for n in (1, 2, 3)] == [
        {"from": "file"},
        [1, 2],
        {},
    ]


def test_add_says_as_json_where_the_job_is(oxherd: Oxherd) -> None:
    assert oxherd("add", "work", "a", "--json").records == [{"queue": "work", "id": "1"}]


def test_a_file_of_jobs_adds_one_for_each_line(oxherd: Oxherd, raw: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text("".join(f'{{"n": {n}}}\n\n' for n in range(2_500)))

    answer = oxherd("add", "work", "a", "--jsonl", "jobs.jsonl", "--priority", "3")

    assert answer.status == 0
    assert answer.lines == [str(n) for n in range(1, 2_501)]
    assert answer.err == "oxherd: 2,500 jobs added to work\n"
    assert raw.zcard("bull:work:prioritized") == 2_500
    assert json.loads(raw.hget("bull:work:2500", "data")) == {"n": 2_499}


def test_one_job_of_a_file_is_one_job(oxherd: Oxherd) -> None:
    assert oxherd("add", "work", "a", "--jsonl", "-", stdin="{}\r\n").err == "oxherd: 1 job added to work\n"


def test_of_a_file_with_one_bad_line_nothing_is_added(
    oxherd: Oxherd, raw: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "jobs.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in range(3_000)) + '{"n": \n')

    refused(
        oxherd("add", "work", "a", "--jsonl", "jobs.jsonl"), 2, "line 3001 of jobs.jsonl", "no JSON", "none"
    )
    refused(oxherd("add", "work", "a", "--jsonl", "-", stdin="{}\n\n[NaN]\n"), 2, "line 3 of stdin", "none")

    assert raw.dbsize() == 0


def test_jobs_are_added_to_the_last_though_nobody_reads_their_ids(
    redis_url: str, raw: redis.Redis, tmp_path: Path
) -> None:
    """`oxherd add ... --jsonl F | head` once ended in the middle of the file, a part of its jobs added."""
    (tmp_path / "jobs.jsonl").write_text("".join(f"{n}\n" for n in range(2 * JOBS_A_CHUNK)))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", "add", "work", "a", "--jsonl", str(tmp_path / "jobs.jsonl")],
            env=os.environ | {"OXHERD_REDIS_URL": redis_url},
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (READER_GONE, "oxherd: 4,000 jobs added to work\n")
    assert raw.llen("bull:work:wait") == 2 * JOBS_A_CHUNK


@pytest.mark.parametrize("many", [("--job-id", "mine"), ("--dedup-id", "mine")])
def test_of_a_job_that_is_already_there_add_says_so(oxherd: Oxherd, many: tuple[str, ...]) -> None:
    first = oxherd("add", "work", "a", *many)
    again = oxherd("add", "work", "a", *many)
    assert (first.err, again.out) == ("", first.out)
    there = f"oxherd: work/{first.out.strip()} is already there; nothing was added\n"
    assert again.err == there

    waited = oxherd("add", "work", "a", *many, "--wait", "--wait-timeout", "50ms")
    assert waited.err.startswith(there)
    assert "added work/" not in waited.err


def test_a_deduplication_is_stored_as_its_flags_say(oxherd: Oxherd, raw: redis.Redis) -> None:
    late = ("--delay", "1h", "--dedup-id", "d", "--dedup-ttl", "5s", "--dedup-extend", "--dedup-replace")
    first = oxherd("add", "work", "a", *late)
    second = oxherd("add", "work", "a", *late)
    assert second.err == ""  # it took the place of the first
    assert second.out != first.out
    options = json.loads(raw.hget(f"bull:work:{second.out.strip()}", "opts"))
    assert options["de"] == {"id": "d", "ttl": 5_000, "extend": True, "replace": True}
    oxherd("add", "work", "a", "--dedup-id", "k", "--dedup-keep-last", "--backoff", "custom:mine:2s")
    options = json.loads(raw.hget("bull:work:3", "opts"))
    assert options["de"] == {"id": "k", "keepLastIfActive": True}
    assert options["backoff"] == {"type": "mine", "delay": 2_000}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("wo:rk", "a"), ["Queue name cannot contain :", "nothing was added"]),
        (("", "a"), ["Queue name must be provided"]),
        (("work", "a", "{page: 1}"), ["no JSON", "nothing was added"]),
        (("work", "a", '"\udcff"'), ["the data is no UTF-8 text (byte 1); nothing was added"]),
        (("work", "a", "NaN"), ["JSON cannot say"]),
        (("work", "a", "[" * 5000), ["no JSON"]),
        (("work", "a", "--priority", "2097152"), ["Priority should be between 0 and 2097151"]),
        (("work", "a", "--priority", "-1"), ["Priority should be between 0 and 2097151"]),
        (("work", "a", "--priority", "1.5"), ["--priority"]),
        (("work", "a", "--job-id", "17"), ["Custom Id cannot be integers"]),
        (("work", "a", "--job-id", "a:b"), ["Custom Id cannot contain :", "nothing was added"]),
        (("work", "a", "--job-id", ""), ["--job-id is empty", "nothing was added"]),
        (("work", "a", "--jsonl", "x", "--priority", "-1"), ["Priority should be", "nothing was added"]),
        (("work", "a", "--delay", "5"), ["--delay", "write it like 500ms"]),
        (("work", "a", "--backoff", "exponential:soon"), ["--backoff", "'soon' is no duration"]),
        (
            ("work", "a", "--backoff", "expo:1s"),
            ["'expo' is unknown; did you mean 'exponential'?", "custom:expo"],
        ),
        (("work", "a", "--backoff", "mine:1s"), ["known are exponential, fixed.", "custom:mine"]),
        (("work", "a", "--backoff", "custom"), ["custom:NAME"]),
        (("work", "a", "--backoff", ":1s"), ["'' is unknown"]),
        (("work", "a", "--lifo", "--priority", "3"), ["goes by that alone", "nothing was added"]),
        (("work", "a", "--dedup-id", ""), ["--dedup-id is empty"]),
        (("work", "a", "--dedup-ttl", "5s"), ["--dedup-ttl says more about --dedup-id", "missing"]),
        (("work", "a", "--dedup-replace"), ["--dedup-replace says more about --dedup-id"]),
        (("work", "a", "--dedup-id", "d", "--dedup-ttl", "5"), ["--dedup-ttl", "write it like"]),
        (("work", "a", "--dedup-id", "d", "--dedup-ttl", "0s"), ["--dedup-ttl is 0"]),
        (("work", "a", "--dedup-id", "d", "--dedup-extend"), ["--dedup-ttl says", "missing"]),
        (
            ("work", "a", "--dedup-id", "d", "--dedup-keep-last", "--dedup-ttl", "5s"),
            ["--dedup-keep-last and --dedup-ttl contradict"],
        ),
        (
            ("work", "a", "--dedup-id", "d", "--dedup-replace", "--dedup-reschedule"),
            ["--dedup-replace and --dedup-reschedule contradict"],
        ),
        (("work", "a", "--jsonl", "x", "--dedup-id", "d"), ["only one would be added"]),
        (("work", "a", "--attemps", "3"), ["no such option '--attemps'", "did you mean '--attempts'?"]),
        (("work",), ["NAME"]),
        (("work", "a", "{}", "--jsonl", "x"), ["give the data once"]),
        (("work", "a", "--jsonl", "x", "--wait"), ["--wait", "about one"]),
        (("work", "a", "--jsonl", "nowhere"), ["nowhere cannot be read: No such file", "nothing was added"]),
        (("work", "a", "--data-file", "nowhere"), ["nowhere cannot be read: No such file"]),
        (("work", "a", "--redis", "http://localhost"), ["--redis", "redis://"]),
        (("work", "a", "--config", "nowhere.toml"), ["nowhere.toml", "does not exist"]),
    ],
)
def test_a_job_that_cannot_be_is_refused_with_a_sentence(
    argv: tuple[str, ...], words: list[str], oxherd: Oxherd, raw: redis.Redis
) -> None:
    refused(oxherd("add", *argv), 2, *words)
    assert raw.dbsize() == 0


def test_a_file_given_as_data_is_recognized(oxherd: Oxherd, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("{}")
    refused(oxherd("add", "work", "a", "data.json"), 2, "a file is given with --data-file")


def test_job_defaults_of_the_config_are_stored_where_add_says_nothing(
    oxherd: Oxherd, raw: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "oxherd.toml").write_text(
        '[queue.work.defaults]\nattempts = 4\nbackoff = "exponential:2s:0.5"\nremove_on_complete = 100\n'
    )
    oxherd("add", "work", "a")
    oxherd("add", "work", "b", "--attempts", "1")

    options = [json.loads(raw.hget(f"bull:work:{n}", "opts")) for n in (1, 2)]
    assert [each["attempts"] for each in options] == [4, 1]
    assert options[0]["backoff"] == {"type": "exponential", "delay": 2000, "jitter": 0.5}
    assert options[0]["removeOnComplete"] in (100, {"count": 100})


def test_a_redis_that_is_not_there_is_exit_3(oxherd: Oxherd) -> None:
    for argv in (
        ("add", "work", "a"),
        ("status",),
        ("job", "work", "1"),
        ("events", "work"),
        ("pause", "work"),
    ):
        refused(
            oxherd(*argv, "--redis", "redis://127.0.0.1:1"), 3, "cannot reach Redis at redis://127.0.0.1:1"
        )


# --- looking ----------------------------------------------------------------------------------------


def test_status_finds_the_queues_and_counts_their_jobs(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    oxherd("add", "work", "b", "--delay", "1h")
    oxherd("add", "mail", "c", "--priority", "1")
    oxherd("pause", "mail")
    oxherd("add", "foreign", "d", "--prefix", "other")
    raw.set("bull:nothing:meta", "no hash")
    raw.hset("bull:a:b:meta", "x", "y")

    answer = oxherd("status")
    assert answer.status == 0
    assert [line.split() for line in answer.lines] == [
        ["queue", "waiting", "prioritized", "delayed", "active", "completed", "failed", "workers"],
        ["mail", "0", "1", "0", "0", "0", "0", "0", "paused"],
        ["work", "1", "0", "1", "0", "0", "0", "0"],
    ]
    assert oxherd("status", "work", "--json").records == [
        {
            "queue": "work",
            "waiting": 1,
            "prioritized": 0,
            "delayed": 1,
            "active": 0,
            "completed": 0,
            "failed": 0,
            "waiting_children": 0,
            "paused": False,
            "workers": 0,
            "degraded": [],
        }
    ]
    assert [each["queue"] for each in oxherd("status", "--json", "--prefix", "other").records] == ["foreign"]


def test_status_of_a_prefix_with_signs_of_a_pattern_finds_only_that(oxherd: Oxherd) -> None:
    oxherd("add", "work", "a", "--prefix", "b[u]*l")
    oxherd("add", "mail", "a", "--prefix", "bull")
    assert [each["queue"] for each in oxherd("status", "--json", "--prefix", "b[u]*l").records] == ["work"]


def test_status_names_the_queue_that_is_broken_and_counts_the_others(
    oxherd: Oxherd, raw: redis.Redis
) -> None:
    oxherd("add", "work", "a")
    oxherd("add", "broken", "a")
    raw.set("bull:broken:delayed", "no sorted set")

    answer = oxherd("status")
    assert answer.status == 1
    assert [line.split()[:2] for line in answer.lines] == [
        ["queue", "waiting"],
        ["broken", "?"],
        ["work", "1"],
    ]
    assert answer.err.startswith("oxherd: broken cannot be counted: one of its keys holds something else")
    broken, work = oxherd("status", "--json").records
    assert (broken["waiting"], work["waiting"]) == (None, 1)


def test_status_counts_the_workers_of_any_program(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    raw.client_setname("bull:d29yaw==:w:somebody")
    assert oxherd("status", "work", "--json").records[0]["workers"] == 1
    raw.client_setname("bull:d29yaw==:qe")  # listens to its events
    assert oxherd("status", "work", "--json").records[0]["workers"] == 0


def test_status_of_a_queue_that_never_was_is_no(oxherd: Oxherd) -> None:
    oxherd("add", "work", "a")
    answer = oxherd("status", "work", "wrok")
    assert answer.status == 1
    assert answer.err == "oxherd: no job was ever added to wrok (prefix 'bull')\n"
    assert oxherd("status", "--prefix", "nobody") == Answer(
        0, "", "oxherd: there is no queue with the prefix 'nobody'\n"
    )
    refused(oxherd("status", "wo:rk"), 2, "Queue name cannot contain :")


def test_jobs_lists_one_state_in_the_order_in_which_they_will_run(oxherd: Oxherd) -> None:
    for name in ("first", "second", "third"):
        oxherd("add", "work", name)

    answer = oxherd("jobs", "work", "--state", "waiting", "--limit", "2")
    assert answer.lines[0].split() == ["id", "name", "attempts", "added"]
    assert [line.split()[:3] for line in answer.lines[1:]] == [["1", "first", "0/1"], ["2", "second", "0/1"]]
    assert "ago)" in answer.lines[1]
    assert answer.err == "oxherd: 2 of 3; the next with --start 2\n"
    rest = oxherd("jobs", "work", "--state", "waiting", "--start", "2", "--json")
    assert [each["name"] for each in rest.records] == ["third"]
    assert rest.err == ""


def test_jobs_says_that_an_id_has_no_job(oxherd: Oxherd, raw: redis.Redis) -> None:
    for _ in range(3):
        oxherd("add", "work", "a")
    raw.delete("bull:work:1")

    answer = oxherd("jobs", "work", "--state", "waiting", "--limit", "2")
    assert [line.split()[0] for line in answer.lines] == ["id", "2"]
    without, more = answer.err.splitlines()
    assert without.startswith("oxherd: 1 id stands among them without a job; ")
    assert more == "oxherd: 1 of 3; the next with --start 2"


def test_the_stack_traces_of_two_attempts_are_told_apart(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    raw.hset("bull:work:1", "stacktrace", '["Traceback\\nValueError: 1", "Traceback\\nValueError: 2"]')

    lines = oxherd("job", "work", "1").lines
    assert lines[-5:] == ["  Traceback", "  ValueError: 1", "", "  Traceback", "  ValueError: 2"]


def test_jobs_refuses_a_state_that_is_none(oxherd: Oxherd) -> None:
    refused(oxherd("jobs", "work", "--state", "lost"), 2, "--state", "waiting-children")
    refused(oxherd("jobs", "work"), 2, "--state")
    empty = oxherd("jobs", "work", "--state", "failed")
    assert (empty.status, empty.out, empty.err) == (0, "", "oxherd: no job of work is failed\n")


def test_job_shows_what_is_stored(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "resize", '{"page": 1}', "--attempts", "3")
    raw.rpush("bull:work:1:logs", "one row", "a \x1b[31mred\x1b[0m row")

    answer = oxherd("job", "work", "1", "--logs")
    facts = dict(
        line.split(None, 1) for line in answer.lines if line and not line.startswith(" ") and " " in line
    )
    assert facts["job"] == "work/1"
    assert facts["name"] == "resize"
    assert facts["state"] == "waiting"
    assert facts["attempts"] == "0/3"
    assert facts["data"] == '{"page": 1}'
    assert answer.lines[-3:] == ["log", "  one row", "  a \\x1b[31mred\\x1b[0m row"]

    (record,) = oxherd("job", "work", "1", "--logs", "--json").records
    assert record["state"] == "waiting"
    assert record["data"] == {"page": 1}
    assert record["attempts"] == 3
    assert record["logs"] == ["one row", "a \x1b[31mred\x1b[0m row"]
    assert isinstance(record["timestamp"], int)
    assert record["finished_on"] is None


def test_the_verdicts_of_a_job_are_shown_whoever_wrote_them(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    known = {
        "cause": "signal", "reason": "it \x1b[31mdied", "attempt": 2, "ended": "signal 9 (SIGKILL)",
        "killed_by": "oxherd", "peak_bytes": 314572800, "peak_of": "attempt", "ran_ms": 2500, "cpu_ms": 40,
        "runner": 71, "runner_age_ms": 9000, "runner_jobs": 1, "progress": "41", "no_stack": "it was stopped",
        "output": "\n".join(f"row {n}" for n in range(30)),
    }  # fmt: skip
    nonsense = {"cause": 7, "peak_bytes": "much", "output": ["x"], "runner": True}
    stored = json.dumps([nonsense, "no record", known])
    raw.hset("bull:work:1", mapping={"ox:verdict": stored, "ox:crashes": "2"})

    shown = oxherd("job", "work", "1")
    assert "crashes   2" in shown.lines
    at = shown.lines.index("verdicts")
    assert shown.lines[at + 1 : at + 10] == [
        "  not an attempt, no cause:",
        "  attempt 2, signal: it \\x1b[31mdied",
        "    ended     signal 9 (SIGKILL), sent by oxherd",
        "    memory    300 MB at most",
        "    time      2.5 s, CPU 40 ms",
        "    runner    71, 9.0 s old, 1 job before this one",
        "    progress  41",
        "    no stack  it was stopped",
        "    output    ... 20 lines before",
    ]
    assert shown.lines[-1].strip() == "row 29"
    (record,) = oxherd("job", "work", "1", "--json").records
    assert record["verdicts"] == [nonsense, known]
    assert (record["crashes"], record["extra"]) == (2, {})


def test_a_job_that_is_not_there_is_exit_1(oxherd: Oxherd) -> None:
    refused(oxherd("job", "work", "17"), 1, "there is no job 17 in work")


def test_a_job_with_broken_json_is_shown_with_what_is_wrong(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a")
    raw.hset("bull:work:1", mapping={"data": "{no", "opts": "[", "timestamp": "soon"})

    answer = oxherd("job", "work", "1")
    assert answer.status == 0
    assert "data" in answer.err
    assert oxherd("job", "work", "1", "--json").records[0]["problems"]
    assert oxherd("jobs", "work", "--state", "waiting").status == 0


def test_events_are_told_one_a_line(oxherd: Oxherd) -> None:
    oxherd("add", "work", "resize")

    answer = oxherd("events", "work", "--from", "0", "--count", "2")
    assert answer.status == 0
    added, waiting = (line.split() for line in answer.lines)
    assert added[-3:] == ["added", "1", "job_name=resize"]
    assert waiting[-2:] == ["waiting", "1"]
    records = oxherd("events", "work", "--from", added[0], "--count", "1", "--json").records
    assert records == [
        {
            "queue": "work",
            "id": waiting[0],
            "event": "waiting",
            "job_id": "1",
            "told_on": int(waiting[0].partition("-")[0]),
            "values": {},
        }
    ]
    refused(oxherd("events", "work", "--from", "yesterday"), 2, "--from", "no id of an event")


# --- acting -----------------------------------------------------------------------------------------


def test_promote_remove_and_retry_say_what_became_of_each_job(oxherd: Oxherd, raw: redis.Redis) -> None:
    oxherd("add", "work", "a", "--delay", "1h")
    promoted = oxherd("promote", "work", "1", "2")
    assert promoted.status == 1
    assert promoted.lines[0] == "1  promoted"
    assert promoted.lines[1] == "2  there is no such job"
    assert raw.lrange("bull:work:wait", 0, -1) == [b"1"]

    removed = oxherd("remove", "work", "1", "1", "2", "--json")
    assert removed.status == 1
    assert removed.records == [
        {"queue": "work", "id": "1", "done": True, "outcome": "removed"},
        {"queue": "work", "id": "2", "done": False, "outcome": "there is no such job"},
    ]
    assert raw.exists("bull:work:1") == 0

    oxherd("add", "work", "a", "--job-id", "mine")
    retried = oxherd("retry", "work", "1", "mine")
    assert retried.status == 1
    assert retried.lines == ["1     there is no such job", "mine  left as it is: waiting"]
    refused(oxherd("retry", "work"), 2, "ID")


def test_pause_and_resume(oxherd: Oxherd) -> None:
    oxherd("add", "work", "a")
    assert oxherd("pause", "work").out == "work is paused\n"
    assert oxherd("status", "--json").records[0]["paused"] is True
    assert oxherd("resume", "work", "--json").records == [{"queue": "work", "paused": False}]
    assert oxherd("status", "--json").records[0]["paused"] is False
