"""`oxherd doctor`: what it tells was tried in a runner, as root and as anybody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sandbox.policy import Policy
from supervisor.cli.doctor import Finding, _missing, _secrets
from supervisor.master.trial import Layer, Seen, Trial, missing

ROOT = Path(__file__).parents[2]


def doctor(tmp_path: Path, *flags: str, config: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "oxherd.toml").write_text(config)
    return subprocess.run(
        [sys.executable, "-m", "supervisor", "doctor", *flags],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def records(tmp_path: Path, *flags: str, **how: str) -> list[dict[str, Any]]:
    done = doctor(tmp_path, "--json", *flags, **how)
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def layers_of(profile: str, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for each in told if each["what"] == "layer" and each["profile"] == profile]


def test_the_table_fits_on_a_narrow_screen_and_ends_with_the_verdict(tmp_path: Path):
    done = doctor(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.splitlines()[-1] == "process can be had on this host."
    assert "subreaper" in done.stdout


def test_the_layers_of_process_are_those_that_a_runner_read_back(tmp_path: Path):
    told = records(tmp_path)
    layers = {each["layer"]: each["in_force"] for each in layers_of("process", told)}
    assert layers["no_new_privs"] is layers["not_dumpable"] is layers["parent_death"] is True
    assert "no_new_privs" not in {each["layer"] for each in layers_of("none", told)}


def test_a_layer_that_is_required_and_cannot_be_had_is_exit_1(tmp_path: Path):
    done = doctor(tmp_path, config='[policy]\nrequire = ["no_such_layer"]\n')
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "process cannot be had on this host."
    assert "no_such_layer" in done.stdout


def test_whether_secrets_can_be_reached_is_tried(tmp_path: Path):
    """I1, issue point 10: nothing of ours is inherited, and /proc of the master is closed to all but root."""
    told = records(tmp_path, OXHERD_REDIS_URL="redis://:verysecret@127.0.0.1:1/0")
    secrets = {each["profile"]: each["secrets"] for each in told if each["what"] == "profile"}
    if os.geteuid() == 0:
        assert secrets["process"].startswith("reachable: /proc/MASTER/environ and /proc/MASTER/mem")
        assert "[policy] user" in secrets["process"]
    else:
        assert secrets["process"].startswith("nothing is inherited")
        assert "may open stay reachable" in secrets["process"]
    assert "verysecret" not in json.dumps(told)


# --- what is made of a trial ------------------------------------------------------------------------------


def finding(profile: str, *layers: Layer, **seen: Any) -> Finding:
    saw = {"first_line_at": 0.0, "uid": 1000, "readable": [], "variables": [], **seen}
    trial = Trial(
        processors=[],
        layers=layers,
        import_ms=0,
        fork_ms=0,
        first_line_ms=0,
        template_bytes=0,
        seen=Seen(**saw),
    )
    return Finding(profile=profile, policy=Policy(profile=profile), trial=trial, why_not="")


def test_a_missing_layer_is_told_with_its_reason_and_the_way_to_it():
    found = finding("strict", Layer("landlock_files", False, "ABI 0"), Layer("subreaper", True, ""))
    ((name, text),) = _missing([found])
    assert name == "landlock_files"
    assert text.startswith("ABI 0\nto get it: Linux 5.13")


def test_a_variable_of_ours_that_a_runner_has_is_told_as_reachable():
    assert _secrets(finding("process", variables=["OXHERD_X"])) == "reachable: inherited OXHERD_X"


def test_what_is_required_is_looked_for_among_what_is_in_force():
    layers = [Layer("subreaper", True, ""), Layer("cgroup", False, "none here")]
    assert missing(layers, Policy(require=("subreaper", "cgroup"))) == ["cgroup"]
