"""What people run: the scripts are sound, and the test command lets nothing pass unseen."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

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
    monkeypatch.setattr(suites, "pytest", lambda arguments, seed: (0, {"passed": [TEST]}))
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
    known = {*suites.SHARING, *(name for names in suites.alone() for name in names)}
    there = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    assert there <= known


def test_a_path_that_is_not_there_is_named_and_nothing_is_run(
    suites: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: a mistyped path was taken for an option, no test ran, and the command succeeded."""
    assert suites.main(["tests/unit/test_house.py", "tests/unit/no_such_file.py"]) == 2
    assert "there is no tests/unit/no_such_file.py" in capsys.readouterr().err


def test_a_run_of_no_test_at_all_fails(suites: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert suites.close(suites.Total(), 0.0, seed=7) == 1
    assert "no test was selected" in capsys.readouterr().out
