"""The other systems as the benchmark runs them: workers and producers work, whatever the figures are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_trial_has_a_figure_of_every_system_that_is_installed(tmp_path: Path) -> None:
    kept = tmp_path / "rows.jsonl"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/bench/main.py"), "--quick", "start", "--keep", str(kept)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    head, *rows = map(json.loads, kept.read_text().splitlines())
    assert not [each for each in rows if "error" in each]
    took = {each["contender"]: each["figures"]["s"] for each in rows}
    assert {"Oxherd 2", "Node sandboxed 2"} <= set(took) and all(0 < each < 60 for each in took.values())
    for who, why in head["missing"].items():
        assert f"LEFT OUT  {who}: {why}" in done.stderr  # loudly
        assert f"**Left out: {who}: {why}.**" in done.stdout
