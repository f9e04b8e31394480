"""`oxherd check`: a target is imported as `oxherd run` imports it, and what is told of it is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROCESSORS = ROOT / "tests" / "processors"


def check(*argv: str, cwd: Path = PROCESSORS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "supervisor", "check", *argv],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def records(*argv: str) -> list[dict[str, Any]]:
    done = check("--json", *argv)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_processors_are_told_with_their_queues_and_limits():
    done = check("limits")
    assert (done.returncode, done.stderr) == (0, "")
    assert "limits:resize  thumbnails  resize" in done.stdout
    assert "timeout 90s, soft timeout 500ms, memory 512M" in done.stdout
    assert "limits:resize has a backoff of its own" in done.stdout
    assert (
        "no timeout: a job that hangs keeps its slot until somebody cancels it (limits:rest)" in done.stdout
    )


def test_what_the_start_costs_and_holds_was_measured():
    (trial,) = (each for each in records("simple", "--queue", "work") if each["what"] == "trial")
    assert 0 < trial["fork_ms"] <= trial["first_line_ms"] < trial["import_ms"] < 20_000
    assert 0 < trial["runner_private_bytes"] < trial["runner_pss_bytes"] < 100_000_000
    assert trial["template_bytes"] > 1_000_000
    assert "parent_death" in trial["layers"]
    assert trial["profile"] == "process"


def test_a_plain_function_is_checked_for_its_queue():
    (told,) = (each for each in records("plain:double", "--queue", "numbers") if each["what"] == "processor")
    assert (told["target"], told["queue"], told["name"]) == ("plain:double", "numbers", None)


def test_what_cannot_be_imported_is_exit_2_with_its_traceback_and_nothing_of_ours_in_it():
    done = check("broken_at_import")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "oxherd: cannot load broken_at_import: importing broken_at_import raised Zero"
    )
    assert "raise_it = 1 / 0" in done.stderr
    assert "trial" not in done.stderr
    assert "No job was taken" not in done.stderr, "nobody had thought so"


def test_an_import_that_starts_threads_is_told_with_their_names():
    """I5: no fork beside them; each runner imports for itself, and what that costs is measured."""
    done = check("threaded")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: each runner imports for itself, in " in done.stdout
    assert "1 thread running (nightly-refresh)" in done.stdout


def test_nothing_to_check_is_one_sentence(tmp_path: Path):
    done = check(cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("oxherd: there is nothing to check: name a TARGET")


def test_the_type_that_data_are_made_into_is_told(tmp_path: Path):
    (tmp_path / "shapes.py").write_text(
        "from dataclasses import dataclass\n"
        "from oxherd import Job\n"
        "@dataclass\n"
        "class Resize:\n    width: int\n"
        "def work(job: Job[Resize]): pass\n"
    )
    assert "any (Resize)" in check("shapes:work", "--queue", "q", cwd=tmp_path).stdout


def test_what_the_import_prints_is_told(tmp_path: Path):
    (tmp_path / "loud.py").write_text("print('hello')\ndef work(job): pass\n")
    done = check("loud:work", "--queue", "q", cwd=tmp_path)
    assert "warning: the import prints: hello" in done.stdout


def test_check_leaves_no_process_behind():
    """I8: the template and the runner of a trial are buried by it."""
    done = check("simple", "--queue", "work")
    assert done.returncode == 0
    left = subprocess.run(["pgrep", "-f", "oxherd: trial"], capture_output=True, text=True).stdout
    assert left == ""
