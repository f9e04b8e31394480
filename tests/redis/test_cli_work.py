"""Commands that need somebody who works, and those that find a server by themselves."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from supervisor.cli.display import WITHOUT_RICH
from supervisor.transport import embedded

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

PROCESSORS = """
import time

def work(job):
    for done in (25, 50, 75, 100):
        job.progress(done)
        time.sleep(job.data.get("step_s", 0))
    if "why" in job.data:
        raise ValueError(job.data["why"])
    return {"was": job.data}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "deeds_of_cli.py").write_text(PROCESSORS)
    return tmp_path


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """What a command sees: none of our own variables, and a state directory that nobody else uses."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OXHERD_")}
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(home), "COLUMNS": "100", "TERM": "xterm"}


@pytest.fixture
def here(environ: dict[str, str], redis_url: str) -> dict[str, str]:
    return {**environ, "OXHERD_REDIS_URL": redis_url}


def oxherd(
    home: Path, environ: dict[str, str], *argv: str, text_in: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", *argv]
    return subprocess.run(
        command,
        cwd=home,
        env=environ,
        input=text_in,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def running(home: Path, environ: dict[str, str], *argv: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "supervisor", *argv]
    with subprocess.Popen(
        command,
        cwd=home,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                process.kill()


@contextmanager
def worker(home: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with running(
        home,
        environ,
        "run",
        "deeds_of_cli:work",
        "--queue",
        "work",
        "--concurrency",
        "1",
        "--log-format",
        "json",
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if '"master.started"' in line:
                break
        else:
            pytest.fail("the worker did not start")
        yield process


def on_terminal(home: Path, environ: dict[str, str], *argv: str) -> tuple[int, str]:
    """Run it with a terminal on all three streams; exit status and what the terminal saw."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", *argv],
        cwd=home,
        env=environ,
        stdin=inner,
        stdout=inner,
        stderr=inner,
        start_new_session=True,
    )
    os.close(inner)
    seen = b""
    deadline = time.monotonic() + PATIENCE_S
    with os.fdopen(outer, "rb", buffering=0) as terminal:
        while time.monotonic() < deadline and select.select([terminal], [], [], PATIENCE_S)[0]:
            try:
                part = terminal.read(65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            seen += part
    if time.monotonic() > deadline:
        process.kill()
    return process.wait(PATIENCE_S), seen.decode("utf-8", "replace")


def plain(seen: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)


# --- add --wait -------------------------------------------------------------------------------------


def test_wait_prints_the_result_and_only_that(home: Path, here: dict[str, str]) -> None:
    with worker(home, here):
        done = oxherd(home, here, "add", "work", "a", '{"n": 1}', "--wait")
        assert done.returncode == 0
        assert json.loads(done.stdout) == {"was": {"n": 1}}
        assert done.stderr.splitlines()[0] == "oxherd: added work/1"

        as_json = oxherd(home, here, "add", "work", "a", "--wait", "--json")
        assert json.loads(as_json.stdout) == {
            "queue": "work",
            "id": "2",
            "state": "completed",
            "returned": {"was": {}},
        }

        slowly = oxherd(home, here, "add", "work", "a", '{"step_s": 0.4}', "--wait")
        assert "oxherd: work/3 active\n" in slowly.stderr
        assert re.search(r"work/3 active \d+%", slowly.stderr)


def test_wait_for_a_job_that_fails_says_why_and_is_exit_1(home: Path, here: dict[str, str]) -> None:
    with worker(home, here):
        failed = oxherd(home, here, "add", "work", "a", '{"why": "no good"}', "--wait")
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.splitlines()[-1].startswith("oxherd: ")
        assert "no good" in failed.stderr.splitlines()[-1]

        as_json = oxherd(home, here, "add", "work", "a", '{"why": "no good"}', "--wait", "--json")
        assert as_json.returncode == 1
        record = json.loads(as_json.stdout)
        assert (record["state"], record["id"]) == ("failed", "2")
        assert "no good" in record["failed_reason"]


def test_wait_gives_up_when_told_to_and_leaves_the_job(
    home: Path, here: dict[str, str], raw: redis.Redis
) -> None:
    done = oxherd(home, here, "add", "work", "a", "--wait-timeout", "200ms")
    assert (done.returncode, done.stdout) == (1, "")
    assert "had not finished" in done.stderr.splitlines()[-1]
    assert raw.llen("bull:work:wait") == 1


def test_wait_shows_progress_on_a_terminal(home: Path, here: dict[str, str]) -> None:
    with worker(home, here):
        status, seen = on_terminal(home, here, "add", "work", "a", '{"step_s": 0.3}', "--wait")
    assert status == 0
    assert "work/1 a active" in plain(seen)
    assert "25%" in plain(seen)
    assert plain(seen).rstrip().endswith('{"was": {"step_s": 0.3}}')


def test_ctrl_c_ends_a_wait_quietly(home: Path, here: dict[str, str]) -> None:
    with running(home, here, "add", "work", "a", "--wait") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "oxherd: added work/1\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert "Traceback" not in process.stderr.read()


def test_events_are_told_as_they_happen_until_ctrl_c(home: Path, here: dict[str, str]) -> None:
    oxherd(home, here, "add", "work", "a")
    with running(home, here, "events", "work", "--json", "--from", "0") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["event"] == "added"
        process.stdout.readline()
        oxherd(home, here, "add", "work", "b")
        assert json.loads(process.stdout.readline())["values"] == {"job_name": "b"}
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read().strip() == ""


# --- run --burst ------------------------------------------------------------------------------------


def test_a_burst_does_what_is_there_and_tells_its_outcome(home: Path, here: dict[str, str]) -> None:
    oxherd(home, here, "add", "work", "a", "--jsonl", "-", text_in='{"n": 1}\n{"n": 2}\n{"why": "no"}\n')
    burst = ("run", "deeds_of_cli:work", "--queue", "work", "--burst")

    done = oxherd(home, here, *burst)
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("done: 2 completed, 1 failed in ")
    assert "the last to fail was work/3" in last

    oxherd(home, here, "add", "work", "a")
    again = oxherd(home, here, *burst, "--json")
    assert again.returncode == 0
    record: dict[str, Any] = json.loads(again.stdout)
    assert record.pop("took_ms") >= 0
    assert record == {"completed": 1, "failed": 0, "put_back": 0}


def test_a_burst_shows_its_slots_on_a_terminal(home: Path, here: dict[str, str]) -> None:
    oxherd(home, here, "add", "work", "a", "--jsonl", "-", text_in='{"step_s": 0.3}\n{"why": "no"}\n')
    status, seen = on_terminal(
        home, here, "run", "deeds_of_cli:work", "--queue", "work", "--burst", "--concurrency", "1"
    )
    assert status == 1
    shown = plain(seen)
    assert "slot 1" in shown
    assert "work/1 a" in shown
    assert "50%" in shown
    assert "job.completed" not in shown  # the picture says it
    assert "done: 1 completed, 1 failed" in shown


def test_a_burst_without_rich_has_plain_lines_and_a_sentence(home: Path, here: dict[str, str]) -> None:
    (home / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "real = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'rich' else real(name, *more)\n"
    )
    without = {**here, "PYTHONPATH": f"{home}{os.pathsep}{ROOT}"}
    oxherd(home, here, "add", "work", "a")
    status, seen = on_terminal(home, without, "run", "deeds_of_cli:work", "--queue", "work", "--burst")
    assert status == 0
    assert WITHOUT_RICH in seen
    assert "done: 1 completed, 0 failed" in seen


def test_a_paused_queue_ends_a_burst_with_a_sentence(home: Path, here: dict[str, str]) -> None:
    oxherd(home, here, "pause", "work")
    oxherd(home, here, "add", "work", "a")
    done = oxherd(home, here, "run", "deeds_of_cli:work", "--queue", "work", "--burst")
    assert done.returncode == 1
    assert "oxherd resume work" in done.stderr.splitlines()[-1]


def test_a_module_that_cannot_be_imported_is_exit_2_and_takes_nothing(
    home: Path, here: dict[str, str], raw: redis.Redis
) -> None:
    (home / "broken_of_cli.py").write_text("import no_such_library\n")
    oxherd(home, here, "add", "work", "a")
    for target, word in (
        ("broken_of_cli:work", "no_such_library"),
        ("nowhere_of_cli:work", "nowhere_of_cli"),
        ("deeds_of_cli:nothing", "nothing"),
    ):
        done = oxherd(home, here, "run", target, "--queue", "work")
        assert done.returncode == 2
        assert word in done.stderr
        assert "supervisor/" not in done.stderr  # the traceback is of the user's module
    assert raw.llen("bull:work:wait") == 1


# --- the private server -----------------------------------------------------------------------------


@pytest.fixture
def alone(environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """No Redis is named anywhere."""
    state = Path(tempfile.mkdtemp(prefix="oxherd-state-"))
    try:
        yield {**environ, "OXHERD_EMBEDDED_STATE_DIR": str(state)}
    finally:
        assert embedded.running(state) is None, "a server was left behind"
        shutil.rmtree(state)


def state_of(environ: dict[str, str]) -> Path:
    return Path(environ["OXHERD_EMBEDDED_STATE_DIR"])


def test_elsewhere_than_on_a_terminal_a_redis_must_be_named(home: Path, alone: dict[str, str]) -> None:
    for argv in (["status"], ["add", "work", "a"], ["run", "deeds_of_cli:work", "--queue", "work"]):
        done = oxherd(home, alone, *argv)
        assert (done.returncode, done.stdout) == (2, "")
        assert "OXHERD_REDIS_URL" in done.stderr
    assert list(state_of(alone).iterdir()) == []


def test_on_a_terminal_a_private_server_is_used_and_named(home: Path, alone: dict[str, str]) -> None:
    status, seen = on_terminal(home, alone, "add", "work", "a")
    assert status == 0
    assert "no Redis is named, so this is a private one at" in seen
    assert "OXHERD_REDIS_URL" in seen
    assert seen.rstrip().endswith("1")
    assert embedded.running(state_of(alone)) is None

    status, seen = on_terminal(home, alone, "status", "work", "--json")
    record = json.loads(plain(seen).splitlines()[-1])
    assert record["waiting"] == 1  # the job is still there


def test_the_word_embedded_asks_for_it_anywhere(home: Path, alone: dict[str, str]) -> None:
    added = oxherd(home, alone, "add", "work", "a", "--redis", "embedded")
    assert (added.returncode, added.stdout, added.stderr) == (0, "1\n", "")
    (home / "oxherd.toml").write_text('[redis]\nurl = "embedded"\n')
    assert json.loads(oxherd(home, alone, "status", "--json").stdout)["waiting"] == 1
    (home / "oxherd.toml").unlink()
    named = {**alone, "OXHERD_REDIS_URL": "embedded"}
    done = oxherd(home, named, "run", "deeds_of_cli:work", "--queue", "work", "--burst")
    assert done.returncode == 0
    assert "as asked, Redis is a private one at" in done.stderr
    assert "done: 1 completed" in done.stdout


def test_commands_find_the_server_of_a_run_and_it_goes_with_the_last(
    home: Path, alone: dict[str, str]
) -> None:
    asked = {**alone, "OXHERD_REDIS_URL": "embedded"}
    with worker(home, asked) as run:
        # These name no Redis and see no terminal; they find what runs.
        done = oxherd(home, alone, "add", "work", "a", "--wait")
        assert json.loads(done.stdout) == {"was": {}}
        assert json.loads(oxherd(home, alone, "status", "--json").stdout)["completed"] == 1

        run.send_signal(signal.SIGINT)
        assert run.wait(PATIENCE_S) == 0
    assert embedded.running(state_of(alone)) is None
    assert oxherd(home, alone, "status").returncode == 2


def test_a_server_that_cannot_be_had_is_exit_3(home: Path, alone: dict[str, str]) -> None:
    done = oxherd(home, alone, "status", "--redis", "embedded", "--config", os.devnull)
    assert done.returncode == 0
    broken = {**alone, "OXHERD_EMBEDDED_BINARY": "/does/not/exist"}
    done = oxherd(home, broken, "status", "--redis", "embedded")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "/does/not/exist" in done.stderr
