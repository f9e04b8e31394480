"""What people run: the scripts are sound, and the test command lets nothing pass unseen."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from supervisor.cli import SUBCOMMANDS

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix)
SHELL = [ROOT / ".ci/run", ROOT / "scripts/lib/setup.sh", *SCRIPTS]
TEST = "tests/unit/test_x.py::test_it"


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts/lib")
    spec = importlib.util.spec_from_file_location("suites", ROOT / "scripts/lib/suites.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "suites", module)  # dataclasses look it up
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.unprivileged, "wanted", lambda: False)
    monkeypatch.delenv("CI", raising=False)
    return module


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_a_shell_script_parses_and_stops_at_the_first_error(path: Path) -> None:
    subprocess.run(["bash", "-n", str(path)], check=True)
    if path.suffix != ".sh":
        assert "set -euo pipefail" in path.read_text()


def test_every_command_of_the_readme_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^(?:\$ )?oxherd ([a-z]+)", readme, re.MULTILINE))
    assert named <= set(SUBCOMMANDS)
    missing = [path for path in re.findall(r"\]\(([a-z/]+\.md)\)", readme) if not (ROOT / path).exists()]
    assert not missing


def test_no_script_names_a_package_registry() -> None:
    for path in [*SHELL, ROOT / "requirements/ci.txt"]:
        assert not re.search(r"(?i)index[-_]url|--registry|pypi\.|npmjs\.|://", path.read_text()), path
    for path in (ROOT / "tests").glob("*/package-lock.json"):
        assert '"resolved"' not in path.read_text(), path


def test_the_lock_has_an_exact_version_for_each_dependency() -> None:
    lines = (ROOT / "requirements/ci.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    locked = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    wanted = re.findall(r'^    "([A-Za-z0-9-]+)[>"]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert {name.lower() for name in wanted} <= locked


def test_a_suite_that_was_left_out_fails_the_command_only_with_ci(
    suites: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    total = suites.Total(counts=Counter(passed=3), left_out=["interop: there is no npm here"])
    assert suites.close(total, 0.0, seed=7) == 0
    monkeypatch.setenv("CI", "true")
    assert suites.close(total, 0.0, seed=7) == 1
    assert "LEFT OUT  interop: there is no npm here" in capsys.readouterr().out


def test_a_failed_test_that_passes_the_second_time_is_called_flaky_and_still_fails(
    suites: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    total = suites.Total(counts=Counter(failed=1, passed=2), bad=[TEST])
    monkeypatch.setattr(suites, "pytest", lambda arguments, seed, lane: (0, {"passed": [TEST]}))
    suites.run_again(total, total.bad, [], seed=7)
    assert suites.close(total, 0.0, seed=7) == 1
    assert f"FLAKY     {TEST}, seed 7" in capsys.readouterr().out


def test_the_last_line_is_the_total_in_the_form_of_pytest(
    suites: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    total = suites.Total(counts=Counter(passed=12, skipped=1))
    assert suites.close(total, 0.0, seed=7) == 0
    last = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert re.fullmatch(r"=+ 12 passed, 1 skipped in [0-9.]+s =+", last)


def test_a_path_on_the_command_line_runs_that_alone(suites: ModuleType) -> None:
    assert suites.chosen_of("unit", []) == ["tests/unit"]
    assert suites.chosen_of("unit", ["tests/redis/test_y.py"]) == []
    assert suites.chosen_of("unit", [TEST, "tests/redis"]) == [TEST]
    assert suites.chosen_of("unit", ["tests/"]) == ["tests/unit"]


def test_a_directory_of_tests_that_nobody_listed_is_run_too(suites: ModuleType) -> None:
    in_lanes = [name for lane in suites.lanes() for names in lane for name in names]
    known = {*suites.SHARING, *in_lanes, *suites.ALONE}
    assert len(known) == len([*suites.SHARING, *in_lanes, *suites.ALONE])
    there = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert there <= known


def test_what_a_lane_printed_is_shown_whole_and_the_first_lanes_first(
    suites: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run beside each other: the first goes on when the second has ended, and not before."""
    monkeypatch.setattr(suites, "STATE", tmp_path)
    second_has_ended = threading.Event()

    def first(lane: Any) -> None:
        lane.say("first begins")
        assert second_has_ended.wait(30)
        lane.run(
            [sys.executable, "-c", "import os; print('first in lane', os.environ['OXHERD_TEST_LANE'])"], ROOT
        )
        lane.total.bad.append(TEST)

    def second(lane: Any) -> None:
        lane.run([sys.executable, "-c", "import sys; print('second', file=sys.stderr)"], ROOT)
        lane.total.counts["passed"] = 3
        second_has_ended.set()

    total = suites.Total(counts=Counter(passed=1))
    suites.run_lanes(total, [[first], [second]])
    shown = [line for line in capfd.readouterr().out.splitlines() if line and "lanes" not in line]
    assert shown == ["first begins", "first in lane 1", "second"]
    assert total.bad == [TEST] and total.counts["passed"] == 4


def test_a_lane_that_breaks_breaks_the_command(
    suites: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites, "STATE", tmp_path)

    def broken(lane: Any) -> None:
        raise ValueError("no such thing")

    with pytest.raises(ValueError, match="no such thing"):
        suites.run_lanes(suites.Total(), [[lambda lane: None], [broken]])


@pytest.mark.parametrize(
    ("now", "status", "line"),
    [
        (
            1_099,
            0,
            "counted    the master's own instructions: 1,099 a job, +9.9% against the 1,000 on record",
        ),
        (
            1_101,
            1,
            "FAILED    instructions: the master's own instructions: 1,101 a job, +10.1% against the 1,000",
        ),
    ],
)
def test_more_instructions_a_job_than_a_tenth_fail_the_command(
    suites: ModuleType,
    now: int,
    status: int,
    line: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The count alone is not the real one."""
    bench = tmp_path / "tests/bench"
    bench.mkdir(parents=True)
    program = (ROOT / "tests/bench/instructions.py").read_text()
    assert program.count("count = per_job()") == 1
    (bench / "instructions.py").write_text(program.replace("count = per_job()", f"count = {now}"))
    monkeypatch.syspath_prepend(ROOT / "tests/bench")
    kind = importlib.import_module("instructions").interpreter()
    (bench / "instructions.json").write_text(json.dumps({kind: 1_000}))
    monkeypatch.setattr(suites, "ROOT", tmp_path)
    monkeypatch.setattr(suites.shutil, "which", lambda name: f"/usr/bin/{name}")
    lane = suites.Lane(total=suites.Total(counts=Counter(passed=1)))
    suites.count_instructions(lane)
    assert suites.close(lane.total, 0.0, seed=7) == status
    assert line in capfd.readouterr().out


def test_without_valgrind_the_count_is_left_out_aloud(
    suites: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suites.shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", "true")
    lane = suites.Lane(total=suites.Total(counts=Counter(passed=1)))
    suites.count_instructions(lane)
    assert "valgrind is not installed" in lane.total.left_out[0]
    assert suites.close(lane.total, 0.0, seed=7) == 1


def test_a_path_that_is_not_there_is_named_and_nothing_is_run(
    suites: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: a mistyped path was taken for an option, no test ran, and the command succeeded."""
    assert suites.main(["tests/unit/test_house.py", "tests/unit/no_such_file.py"]) == 2
    assert "there is no tests/unit/no_such_file.py" in capsys.readouterr().err


def test_a_run_of_no_test_at_all_fails(suites: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert suites.close(suites.Total(), 0.0, seed=7) == 1
    assert "no test was selected" in capsys.readouterr().out
