"""Bad input on the command line: one sentence on stderr, an exit status that is documented, Redis as it was.

The subcommands and their options are found by looking, so that a new one without a row fails here.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import redis
from keyspace import Keyspace, difference, keyspace, put_back

from supervisor.blocking import Queue
from supervisor.cli import SUBCOMMANDS, group, main

# What a command line may say is checked before a server is spoken to, so one kind of them is enough.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

LONGEST_SENTENCE = 1_200
# What each subcommand is given but for the parameter in question.
ROWS: dict[str, list[str]] = {
    "run": ["nowhere:nothing"],
    "add": ["work", "a"],
    "status": ["work"],
    "jobs": ["work"],
    "job": ["work", "1"],
    "workers": ["work"],
    "metrics": ["work"],
    "events": ["work", "--from", "0-0", "--count", "1"],
    "retry": ["work", "4"],
    "remove": ["work", "1"],
    "promote": ["work", "2"],
    "cancel": ["work", "2"],
    "ps": [],
    "top": [],
    "stack": ["work", "2"],
    "recommend": [],
    "check": ["json:dumps", "--queue", "work"],
    "config show": [],
    "config check": ["settings.toml"],
    "doctor": [],
    "systemd install": ["mail", "--print"],
    "systemd uninstall": ["--root", "."],
    "drain": ["work", "--yes"],
    "clean": ["work", "--yes"],
    "obliterate": ["work", "--yes"],
    "schedule upsert": ["work", "nightly", "--every", "5m"],
    "schedule list": ["work"],
    "schedule show": ["work", "nightly"],
    "schedule remove": ["work", "nightly"],
    "flow add": ["tree.json"],
    "flow show": ["work", "1"],
    "dlq list": ["work"],
    "dlq show": ["work", "1"],
    "dlq replay": ["work", "1"],
    "batch": ["work", "a", "--jsonl", "lines.jsonl", "--collect", "all"],
    "breaker list": [],
    "breaker show": ["api"],
    "breaker open": ["api", "--for", "5s"],
    "breaker reset": ["api"],
    "pause": ["work"],
    "ctl": ["quiet"],
    "resume": ["work"],
}
# They ask no server.
OFFLINE = (
    "check",
    "config show",
    "doctor",
    "ps",
    "top",
    "stack",
    "recommend",
    "systemd install",
    "systemd uninstall",
)
HALF = "half\udc80"  # how Python says a byte that is no UTF-8
ODD = ("", " ", "{a}{b}", "\n", "*", "%s", "-", "--", "n" * 50_000, HALF, "9" * 5_000, "-1", "é🐂")
# Refused whatever the subcommand, by the kind of the parameter;
BAD: dict[str, tuple[str, ...]] = {
    "integer": ("x", "", "1.5", "1e3", "0x5", "9" * 5_000, HALF),
    "integer range": ("x", "", "1.5", "1e3", "0x5", "9" * 5_000, HALF, "-" + "9" * 30),
    "duration": ("x", "", "5", "-1s", "1e5s", "9" * 400 + "d", "9" * 5_000 + "s", HALF, "0.0001ms"),
    "percent": ("x", "", "5", "-1%", "101%", "nan%", "inf%", "9" * 400 + "%"),
    "date": ("x", "", "2026-13-01", "9" * 400, "0000-00-00", HALF),
    "json": ("{", "", "nan", "[" * 100_000, HALF, "{'a': 1}"),
    "choice": ("x", "", HALF, "n" * 50_000),
    "path": ("", "missing.json", ".", "binary", "no/such/place", "n" * 50_000, HALF, "tree.json/x"),
    "file": ("missing.toml", ".", "binary", "no/such/place", "n" * 50_000, HALF),
    "QUEUE": ("", "a:b", HALF),
    "URL": ("", " ", "http://x", "redis://h:99999", "unix://", HALF),
}


def leaves() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in SUBCOMMANDS:
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            for below, leaf in command.commands.items():
                yield f"{name} {below}", leaf
        elif command is not None:
            yield name, command


LEAVES = dict(leaves())


def test_every_subcommand_has_a_row(redis_server):
    assert ROWS.keys() == LEAVES.keys()


@pytest.fixture
def seeded(raw: redis.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Keyspace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OXHERD_REDIS_URL", redis_url)
    monkeypatch.delenv("OXHERD_CONFIG", raising=False)
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(tmp_path / "run"))  # no master of anybody's is told anything
    (tmp_path / "tree.json").write_text('{"name": "a", "queue": "work"}')
    (tmp_path / "lines.jsonl").write_text("1\n2\n")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "empty").touch()
    (tmp_path / "settings.toml").write_text('[queue.work]\ntarget = "json:dumps"\n')
    with Queue("work", url=redis_url) as queue:
        queue.add("waiting", {})
        queue.add("delayed", {}, delay_ms=3_600_000)
        queue.add("first", {}, priority=3)
        queue.add("failed", {})
    raw.lrem("bull:work:wait", 0, "4")
    raw.zadd("bull:work:failed", {"4": 1_700_000_000_000})
    return keyspace(raw)


def cases(row: str) -> Iterator[tuple[list[str], bool]]:
    """(arguments, whether they must be refused) for each parameter of a subcommand."""
    command, given = LEAVES[row], ROWS[row]
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    for place, argument in enumerate(arguments):
        kind = argument.type.name if argument.type.name != "text" else str(argument.metavar or argument.name)
        bad = BAD.get(kind.strip("[].").upper()) or BAD.get(argument.type.name, ())
        for value in dict.fromkeys([*bad, *ODD]):
            yield [*given[:place], "--", value, *given[place + 1 :]], value in bad
        for value in () if not argument.required else (None,):
            yield given[:place], value is None and place == 0
    for option in command.params:
        if not isinstance(option, click.Option) or option.is_flag:
            continue
        kind = "URL" if option.metavar == "URL" else option.type.name
        bad = () if kind == "URL" and row in OFFLINE else BAD.get(kind, ())
        # What waits, or runs, would do so.
        odd = () if row in ("run", "events") or "wait" in option.opts[0] else ODD
        if kind == "file":
            odd = [value for value in ODD if value != "\n"]  # shown as it is: it is its file's name
        for value in dict.fromkeys([*bad, *odd]):
            yield [*given, f"{option.opts[0]}={value}"], value in bad
    yield [*given, "--no-such-option"], True
    yield [*given, "--redis"], True


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(tmp_path))  # no master runs, whoever else uses this host

    def once(*argv: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        status = main(list(argv))
        said = capsys.readouterr()
        return status, said.out, said.err

    return once


def judged(status: int, out: str, err: str, *, must_fail: bool) -> str | None:
    """What is wrong with how a command ended; None when nothing is."""
    if status not in (0, 1, 2, 3) or "Traceback" in err or "please report" in err:
        return f"status {status}: {err[:300]}"
    if must_fail and status not in (2, 3):
        return f"status {status}, not refused: {(out + err)[:200]}"
    if status < 2:
        return None
    if not err.startswith("oxherd") or err.count("\n") != 1 or len(err) > LONGEST_SENTENCE or out:
        return f"status {status}, no one line of {len(err):,} characters: {err[:300]!r} {out[:99]!r}"
    return None


def shown(argv: list[str]) -> str:
    return " ".join(repr(part if len(part) < 60 else f"{part[:60]}...") for part in argv)


@pytest.mark.parametrize("row", [row for row in ROWS if row in LEAVES])
def test_bad_input_is_a_sentence_and_redis_is_as_it_was(row, run, raw, seeded):
    wrong = []
    changed = False
    for argv, must_fail in cases(row):
        if row in ("run", "check") and not must_fail:  # their targets are told in a paragraph
            continue
        if changed:
            put_back(raw, seeded)
        status, out, err = run(*row.split(), *argv)
        said = judged(status, out, err, must_fail=must_fail)
        now = difference(seeded, keyspace(raw))
        changed = now is not None
        if changed and (must_fail or status >= 2):
            said = said or f"status {status}, but changed {now}"
        wrong += [f"{shown(argv)}: {said}"] if said else []

    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)


FILES = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'"\xff"',
    "zero bytes": b"\0\0\0",
    "too deep": b"[" * 100_000,
    "a long line": b'"' + b"n" * 63_000_000 + b'"',
    "not a number": b"NaN",
    "a huge number": b"9" * 5_000,
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("what", FILES)
@pytest.mark.parametrize(
    "argv",
    [
        "add work a --data-file FILE",
        "add work a --jsonl FILE",
        "flow add FILE",
        "batch work a --collect all --jsonl FILE",
    ],
)
def test_a_file_or_stdin_that_cannot_be_read_is_refused_as_a_whole(what, argv, run, raw, seeded, tmp_path):
    (tmp_path / "file").write_bytes(FILES[what])
    empty_list = what == "nothing" and "--jsonl" in argv

    for file, stdin in ((str(tmp_path / "file"), b""), ("-", FILES[what])):
        status, out, err = run(*argv.replace("FILE", file).split(), stdin=stdin)
        said = judged(status, out, err, must_fail=not empty_list)
        assert said is None, said
        if not empty_list:
            assert difference(seeded, keyspace(raw)) is None
        put_back(raw, seeded)


def test_one_bad_line_and_none_of_the_file_is_added(run, raw, seeded, tmp_path):
    (tmp_path / "file").write_bytes(b'{"a": 1}\n\n{"a": \n{"a": 3}\n')

    status, _, err = run("add", "work", "a", "--jsonl", str(tmp_path / "file"))

    assert status == 2
    assert "line 3" in err
    assert difference(seeded, keyspace(raw)) is None


@pytest.mark.parametrize("argv", ["--data-file", "--jsonl"])
def test_a_file_that_breaks_off_while_it_is_read_is_named(argv, run, raw, seeded):
    status, _, err = run("add", "work", "a", argv, "/proc/self/mem")  # may be opened; nothing is at its start

    assert status == 2
    assert err == "oxherd: /proc/self/mem cannot be read: Input/output error; nothing was added\n"
    assert difference(seeded, keyspace(raw)) is None


# --- as processes: what only the kernel can do to a command ----------------------------------------------


def oxherd(*argv: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-m", "supervisor", *argv]
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(command, env=environment, timeout=30, check=False, **more)  # type: ignore[call-overload]


def test_a_reader_that_has_gone_ends_a_command_without_a_word(seeded, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = oxherd("jobs", "work", "--state", "waiting", stdout=writing, stderr=subprocess.PIPE)
    finally:
        os.close(writing)

    assert ended.returncode == 141
    assert ended.stderr == b""


def test_a_closed_stdin_is_an_empty_one(seeded, tmp_path):
    ended = oxherd(
        "add", "work", "a", "--data-file", "-", capture_output=True, preexec_fn=lambda: os.close(0)
    )

    assert ended.returncode == 2
    assert ended.stderr.startswith(b"oxherd: ")
    assert ended.stderr.count(b"\n") == 1


def test_modules_of_the_working_directory_are_not_taken_for_ours(seeded, tmp_path):
    for name in ("click", "redis", "hiredis"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the user was imported')")

    ended = oxherd("status", "work", "--json", capture_output=True)

    assert ended.stderr == b""
    assert ended.returncode == 0
