"""The benchmark runs from its first line to its table; what it prints is looked at for sense, not speed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "tests/bench/main.py"

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="the benchmark needs redis-server on the path"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, str(MAIN), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )


def bench(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_trial_ends_with_a_table_and_keeps_its_rows(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    told = bench("--quick", "--without-peers", "throughput", "imports", "--keep", str(kept))
    head, imports, *rows = map(json.loads, kept.read_text().splitlines())
    assert head["quick"] and head["missing"]
    assert any("supervisor.master" in line for line in imports["lines"])
    assert [each["contender"] for each in rows] == ["Oxherd 16", "Oxherd 8", "Oxherd 2"]
    for each in rows:
        assert each["figures"]["jobs/s"] > 0 and each["figures"]["share"] > 0, each
        assert each["figures"]["bound a call"] >= 1
    assert "| no-op jobs/s, 16 slots |" in told and str(kept) in told
    assert bench("--from", str(kept)) == told


def test_scale_ends_with_figures_of_many_masters_and_of_a_life() -> None:
    told = bench("--scale", "300", "--rounds", "1", "masters", "life")
    assert "**1 master, " in told and "**100 masters, " in told
    assert "300 at once: " in told
    assert "| 300 | " in told


def test_a_measure_of_no_such_name_is_told_in_one_sentence() -> None:
    done = run("thruput")
    assert done.returncode == 1
    assert done.stderr.startswith("bench: there is no measure thruput; there are throughput, ")
