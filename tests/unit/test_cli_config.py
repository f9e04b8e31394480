"""`oxherd config`: each kind of mistake is one sentence with file and key; what is shown can be read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.cli import main
from supervisor.config.load import load

Checked = tuple[int, list[str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OXHERD_CONFIG", raising=False)
    monkeypatch.delenv("OXHERD_REDIS_URL", raising=False)
    return tmp_path / "oxherd.toml"


@pytest.fixture
def check(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Checked]:
    """The exit status of `config check` for a text, and its mistakes."""

    def checked(text: str) -> Checked:
        here.write_text(text)
        status = main(["config", "check", str(here), "--json"])
        said = capsys.readouterr()
        assert said.err == ""
        return status, [json.loads(line)["mistake"] for line in said.out.splitlines()]

    return checked


# What is wrong: one line of a file, and the sentence about it, which has the line's number at the front.
EVERY_KIND = {
    "an unknown section": ("[lok]", "[lok]: 'lok' is unknown; did you mean 'lock'?"),
    "an unknown section like none": ("[zzzz]", "[zzzz]: 'zzzz' is unknown; known are alerts, embedded,"),
    "an unknown key": ("lock.duratoin = 1", "[lock] 'duratoin' is unknown; did you mean 'duration'?"),
    "an unknown key of a queue": (
        "queue.q.concurency = 1",
        "[queue.q] 'concurency' is unknown; did you mean 'concurrency'?",
    ),
    "an unknown table of a queue": (
        "queue.q.lok.duration = '1s'",
        "[queue.q] 'lok' is unknown; did you mean 'lock'?",
    ),
    "an unknown key in a value": (
        "queue.q.limiter = { mx = 1, duration = '1s' }",
        "[queue.q] limiter: 'mx' is unknown; did you mean 'max'?",
    ),
    "no table": ("lock = 5", "lock must be a table, written as [lock]"),
    "no table of a queue": ("queue.q.lock = 5", "queue.q.lock must be a table, written as [queue.q.lock]"),
    "no queue": ("queue.q = 5", "each queue has a table of its own, written as [queue.NAME]"),
    "a queue's name": ("[queue.'a:b']", "[queue] 'a:b': a queue's name has no colon in it"),
    "no text": ("worker.name = 5", "[worker] name: 5 is not text; write it in quotes"),
    "empty text": ("worker.name = ' '", "[worker] name: it is empty; leave it out for the default"),
    "no number": ("recycle.jobs = 1.5", "[recycle] jobs: 1.5 is no whole number"),
    "no switch": ("stalled.skip = 'so'", "[stalled] skip: 'so' is neither true nor false"),
    "a time without unit": (
        "lock.duration = 30",
        "[lock] duration: 30 has no unit; write it in quotes with one, like '30s'",
    ),
    "a time of another unit": (
        "lock.duration = '3 weeks'",
        "[lock] duration: '3 weeks' is no duration; write it like 500ms, 30s, 10m or 1h",
    ),
    "a size": ("policy.memory = '5 apples'", "[policy] memory: '5 apples' is no size; write it like 64K,"),
    "a share": ("alerts.max_failed = 5", "[alerts] max_failed: 5 has no %; write it in quotes"),
    "a share that is none": ("alerts.max_failed = '500%'", "[alerts] max_failed: '500%' is no share; write"),
    "none of a list": ("log.level = 'loud'", "[log] level: 'loud' is none of debug, info, warning, error"),
    "too little": ("lock.duration = '10ms'", "[lock] duration: 10ms is less than 1s"),
    "too much": ("queue.q.concurrency = 5000", "[queue.q] concurrency: 5000 is more than 1024"),
    "a scheme": ("redis.url = 'http://x'", "[redis] url: an address starts with one of redis://"),
    "a file for a target": (
        "queue.q.target = 'a.py'",
        "[queue.q] target: 'a.py' looks like a file; a target",
    ),
    "no target": ("queue.q.target = 'a:b:c'", "[queue.q] target: 'a:b:c' is no target; write module or"),
    "no function": ("hooks.failed = 'tell'", "[hooks] failed: 'tell' is no function; write module:function"),
    "no address": ("http.listen = 'here'", "[http] listen: 'here' is no address; write PORT, HOST:PORT,"),
    "no endpoint": ("tracing.endpoint = 'x'", "[tracing] endpoint: an endpoint starts with http://"),
    "what to keep": (
        "keep.completed = 'few'",
        "[keep] completed: 'few' is neither all, nor a count, nor an age",
    ),
    "half a limiter": ("queue.q.limiter = { max = 5 }", "[queue.q] limiter: a limiter needs both: { max ="),
    "a backoff": (
        "queue.q.defaults.backoff = 'exponentail:1s'",
        "[queue.q.defaults] backoff: backoff 'exponentail' is unknown; did you mean 'exponential'?",
    ),
    "what is the same for all": (
        "queue.q.policy.result = '1M'",
        "[queue.q.policy] result: it is the same for all queues; set it in [policy]",
    ),
    "dead letters of its own": (
        "queue.q.dead_letter = 'q'",
        "[queue.q] dead_letter: jobs of 'q' that fail would come back to it",
    ),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_mistake_is_one_sentence_with_file_line_key_and_what_is_allowed(kind, check):
    line, sentence = EVERY_KIND[kind]
    status, mistakes = check(f"# a comment\n\n{line}\n")
    assert status == 2
    assert [each[: len(sentence) + 15] for each in mistakes] == [f"oxherd.toml:3: {sentence}"]
    assert "\n" not in mistakes[0]


# What several settings say together: each alone is right.
CONFLICTS = {
    "policy.timeout = '5s'\npolicy.soft_timeout = '5s'": (
        "[policy] soft_timeout (from file oxherd.toml:2): it would never be"
    ),
    "stop.deadline = '5s'\nstop.grace = '6s'": "[stop] grace (from file oxherd.toml:2): the grace is longer",
    "queue.a.dead_letter = 'b'\nqueue.b.dead_letter = 'a'": (
        "oxherd.toml:1: [queue.a] dead_letter: jobs of 'a' that fail"
    ),
    "redis.url = 'redis://h'\nredis.ca_file = 'oxherd.toml'": (
        "[redis] ca_file is for TLS, and the address starts with redis"
    ),
    "redis.url = 'redis://h'\nredis.sentinel_user = 'x'": "[redis] sentinel_user is for Sentinels, and the",
    "redis.url = 'redis://a:b@h'\nredis.password_file = 'oxherd.toml'": "a password and a password_file",
    "redis.url = 'redis://h?username=a'\nredis.user = 'b'": "[redis] user is set and the address has",
    "redis.url = 'redis://h'\nredis.password_file = 'gone'": "[redis] password_file: gone cannot be read (No",
    "redis.url_file = 'gone'": "[redis] url_file: gone cannot be read (No such file or directory)",
    "redis.url = 'redis://h:99999'": "the Redis URL",
    "redis.url = 'redis+cluster://h'\nredis.prefix = 'x'": "in a Redis Cluster all keys of the queues",
    "policy.require = ['landlok']": "[policy] require: there is no layer 'landlok'; there are",
}


@pytest.mark.parametrize("text", CONFLICTS)
def test_settings_that_conflict_are_told(text, check):
    status, mistakes = check(text)
    assert status == 2
    assert CONFLICTS[text] in mistakes[0]
    assert not any("\n" in each or "started" in each for each in mistakes)


def test_all_mistakes_are_told_at_once(here, check, monkeypatch):
    monkeypatch.setenv("OXHERD_LOCK_DURATOIN", "1s")
    lines = [
        line for kind, (line, _) in EVERY_KIND.items() if line.startswith(("log", "http.", "tracing", "keep"))
    ]
    status, mistakes = check("\n".join([*lines, "policy.require = ['landlok']"]))
    assert status == 2
    assert [each.partition(": ")[0] for each in mistakes] == [
        *("env 'OXHERD_LOCK_DURATOIN' is unknown; did you mean 'OXHERD_LOCK_DURATION'?",),
        *(f"oxherd.toml:{number}" for number in (1, 4, 2, 3)),
        "[policy] require",
    ]


def test_people_get_the_same_in_lines_and_a_word_when_all_is_well(here, capsys):
    here.write_text("lock.duration = 5\nlog.level = 'x'\n")
    assert main(["config", "check", str(here)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "oxherd: the settings have 2 mistakes:"
    assert len(said.err.splitlines()) == 3

    here.write_text("[queue.mail]\n[queue.work]\n")
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "no mistake in oxherd.toml; queues: mail, work\n"


@pytest.mark.parametrize("text", ["[lock", "x = 1\nx = 2", "a = 'b"])
def test_a_text_that_is_no_toml_is_told_with_its_place(here, text, capsys):
    here.write_text(text)
    assert main(["config", "check", str(here)]) == 2
    said = capsys.readouterr().err
    assert "is not TOML" in said
    assert "line" in said or "end of document" in said


FULL = """
[redis]
prefix = "x"
[lock]
duration = "10s"
[http]
listen = "unix:/run/x.sock"
[alerts]
max_failed = "2.5%"
[policy]
readable = ["/a", "/b b"]
memory = "512M"
cpus = 1.5
[keep]
completed = { count = 5, age = "2h", limit = 3 }
failed = "7,24h"
[queue.mail]
target = [
  "letters:send",
  "letters:check",
]
limiter = { max = 10, duration = "1m" }
[queue."mail.lock"]
dead_letter = "dead \\u007f \\" letters"
[queue.mail.lock]
duration = "5s"
[queue.mail.policy]
fresh = true
[queue.mail.defaults]
backoff = { kind = "exponential", delay = "1s", jitter = 0.5 }
attempts = 3
"""


def test_what_is_shown_is_a_config_file_that_says_the_same(here, capsys, tmp_path):
    here.write_text(FULL)
    before = load(here, {}, {}).config
    assert main(["config", "show"]) == 0
    again = tmp_path / "again.toml"
    again.write_text(capsys.readouterr().out)
    assert "cpus = 1.5 " in again.read_text()

    assert load(again, {}, {}).config == before


def test_each_value_tells_where_it_is_from(here, capsys, monkeypatch):
    here.write_text(FULL)
    monkeypatch.setenv("OXHERD_STOP_GRACE", "3s")
    assert main(["config", "show", "--timeout", "60s", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = {(each["section"], each["option"]): (each["value"], each["origin"]) for each in rows}

    assert told["lock", "duration"] == ("10s", "file oxherd.toml:5")
    assert told["queue.mail", "target"] == (["letters:send", "letters:check"], "file oxherd.toml:18")
    assert told["queue.mail", "limiter"] == ({"max": 10, "duration": "1m"}, "file oxherd.toml:22")
    assert told["queue.mail.lock", "duration"] == ("5s", "file oxherd.toml:26")
    assert told["queue.mail.defaults", "attempts"] == (3, "file oxherd.toml:31")
    assert told["stop", "grace"] == ("3s", "env OXHERD_STOP_GRACE")
    assert told["policy", "timeout"] == ("1m", "flag --timeout")
    assert told["stalled", "skip"] == (False, "default")
    assert told["hooks", "failed"] == (None, "default")


def test_no_secret_is_shown_and_a_credential_is_named(here, capsys, monkeypatch, tmp_path):
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "redis-password").write_text("swordfish")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    here.write_text(
        "[redis]\nurl = 'redis://me:swordfish@host:1/2?password=swordfish'\n"
        "password_file = 'redis-password'\n"
        "[tracing]\nendpoint = 'https://me:swordfish@host/'\n"
    )
    for more in ([], ["--json"]):
        assert main(["config", "show", *more]) == 0
        said = capsys.readouterr()
        assert "swordfish" not in said.out + said.err
        assert "redis://me@host:1/2" in said.out
        assert f"file oxherd.toml:3, credential {credentials}/redis-password" in said.out

    assert main(["config", "check", "--json"]) == 2
    assert "swordfish" not in capsys.readouterr().out


def test_a_file_that_is_named_twice_is_refused(here, capsys):
    here.write_text("")
    assert main(["config", "check", str(here), "--config", str(here)]) == 2
    assert "the file is named twice" in capsys.readouterr().err
