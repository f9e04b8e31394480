"""The entrance: errors are one sentence, exit statuses mean what they say, nothing is loaded too early."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from supervisor import __version__, cli
from supervisor.errors import ConfigError, JobNotFound, OxherdError, RedisUnavailable

ROOT = Path(__file__).parents[2]


def fake(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None, status: int | None = None
) -> None:
    """Let `oxherd status` do this and nothing else."""

    @click.command("status")
    def status_command() -> int | None:
        if error is not None:
            raise error
        return status

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: SimpleNamespace(status=status_command))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConfigError("that is no setting"), 2),
        (JobNotFound("there is no such job"), 1),
        (RedisUnavailable("nobody answers", sent=False), 3),
        (OxherdError("no"), 1),
    ],
)
def test_an_error_of_ours_is_its_sentence_and_its_exit_status(
    error: OxherdError, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, error)
    assert cli.main(["status"]) == expected
    said = capsys.readouterr()
    assert said.err == f"oxherd: {error}\n"
    assert said.out == ""


def test_what_an_error_quotes_is_not_obeyed_by_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, OxherdError("cannot load boom: \x1b[31mred\nWhat it said:\n  | \x07"))
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err == "oxherd: cannot load boom: \\x1b[31mred\nWhat it said:\n  | \\x07\n"


def test_the_return_value_of_a_subcommand_is_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in ((None, 0), (0, 0), (1, 1)):
        fake(monkeypatch, status=value)
        assert cli.main(["status"]) == expected


def test_a_mistake_of_ours_is_one_line_unless_the_traceback_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OXHERD_TRACEBACK", raising=False)
    fake(monkeypatch, ZeroDivisionError("by zero\nand more"))
    assert cli.main(["status"]) == cli.OUR_MISTAKE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError: by zero" in said
    assert "OXHERD_TRACEBACK=1" in said

    monkeypatch.setenv("OXHERD_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["status"])


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake(monkeypatch, KeyboardInterrupt())
    assert cli.main(["status"]) == cli.INTERRUPTED
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ([], "oxherd: a command is missing (see oxherd --help)\n"),
        (["stauts"], "oxherd: no such command 'stauts'; did you mean 'status'? (see oxherd --help)\n"),
        (
            ["--verison"],
            "oxherd: no such option '--verison'; did you mean '--version'? (see oxherd --help)\n",
        ),
        (
            ["--json", "status"],
            "oxherd: no such option '--json' here; it goes behind the command (see oxherd --help)\n",
        ),
    ],
)
def test_wrong_usage_is_one_sentence_with_the_nearest_name(
    argv: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr().err == sentence


def test_the_help_of_the_whole_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, about in cli.SUBCOMMANDS.items():
        assert f"  {name} " in said
        assert about in said
    assert "exit status: 0 done" in said


@pytest.mark.parametrize("name", list(cli.SUBCOMMANDS))
def test_the_help_of_a_subcommand_tells_exit_statuses_and_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: oxherd {name} ")
    assert "--redis URL" in said
    assert "Show this message" not in said
    assert "\nexit status: 0 " in said
    assert f"oxherd {name}" in said.rpartition("\nexample: ")[2].replace("\n", " ")


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"oxherd {__version__}\n"


def test_help_loads_neither_redis_nor_the_config_nor_asyncio() -> None:
    code = (
        "import sys; from supervisor.cli import main; main(['--help'])\n"
        "heavy = {'redis', 'hiredis', 'msgspec', 'asyncio', 'rich', 'structlog', 'supervisor.config'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_whoever_stops_reading_our_output_gets_no_traceback() -> None:
    code = (
        "import sys, types, click\n"
        "from supervisor import cli\n"
        "@click.command('status')\n"
        "def status():\n"
        "    while True: print('x' * 1000)\n"
        "cli.importlib.import_module = lambda name: types.SimpleNamespace(status=status)\n"
        "sys.exit(cli.main(['status']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(30) == cli.READER_GONE
        assert process.stderr.read() == b""


def test_the_module_runs_as_the_command_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "supervisor", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"oxherd {__version__}\n"


SAY_SOMETHING = (
    "import sys, types, click\n"
    "from supervisor import cli\n"
    "from supervisor.cli.render import note, out\n"
    "@click.command('status')\n"
    "def status():\n"
    "    out(sys.stdin.read() + 'answer'); note('note'); return 0\n"
    "cli.importlib.import_module = lambda name: types.SimpleNamespace(status=status)\n"
    "sys.exit(cli.main(['status']))"
)


def said_with(redirection: str) -> tuple[int, str, str]:
    """What a command answers when the shell has redirected it."""
    command = ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, SAY_SOMETHING]
    done = subprocess.run(
        command, cwd=ROOT, input="", capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [
        (">&-", (0, "", "note\n")),
        ("2>&-", (0, "answer\n", "")),
        ("<&-", (0, "answer\n", "note\n")),
        ("<&- >&- 2>&-", (0, "", "")),
        ("2>/dev/full", (0, "answer\n", "")),
    ],
)
def test_a_command_does_without_the_streams_that_were_closed(
    redirection: str, expected: tuple[int, str, str]
) -> None:
    assert said_with(redirection) == expected


def test_an_answer_that_cannot_be_written_is_one_sentence() -> None:
    status, _, err = said_with(">/dev/full")
    assert status == 1
    assert err.startswith("oxherd: the answer cannot be written: No space left on device; ")
    assert err.count("\n") == 1
