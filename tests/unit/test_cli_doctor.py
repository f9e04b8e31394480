"""`oxherd doctor`: what it tells was tried in a runner, as root and as anybody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from sandbox import layers
from supervisor.cli.doctor import Finding, _limits_mode, _missing, _secrets
from supervisor.cli.remedies import remedy_of
from supervisor.config.model import Config
from supervisor.config.policy import PolicyConfig
from supervisor.master import cgroup
from supervisor.master.trial import Seen

ROOT = Path(__file__).parents[2]
CONFIG = Config()
# No kernel and no container refuses these.
ALWAYS = set(
    """
    own_session signals_reset stdin_null descriptors_closed parent_death subreaper no_core no_new_privs
    not_dumpable no_capabilities own_files
    """.split()  # noqa: SIM905
)


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
    found = {each["layer"]: each["in_force"] for each in layers_of("process", told)}
    assert found["no_new_privs"] is found["not_dumpable"] is found["parent_death"] is True
    assert "no_new_privs" not in {each["layer"] for each in layers_of("none", told)}


def test_a_layer_that_is_required_and_cannot_be_had_is_exit_1(tmp_path: Path):
    """And the table shows the other layers all the same."""
    done = doctor(tmp_path, config='[policy]\nrequire = ["file_rules"]\n')
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "process cannot be had on this host."
    assert "file_rules (not part of process)" in " ".join(done.stdout.split())
    assert re.search(r"^subreaper +- +yes +yes$", done.stdout, re.MULTILINE)
    strict = doctor(tmp_path, "--profile", "strict")
    if os.geteuid() == 0:
        assert strict.returncode == 1
        assert "name a user in [policy] user" in " ".join(strict.stdout.split())
    else:
        assert strict.returncode == 0


def test_strict_can_be_had_by_whoever_is_not_root(tmp_path: Path):
    done = doctor(tmp_path, "--profile", "strict")
    if os.geteuid() == 0:
        assert done.returncode == 1
        assert "name a user in [policy] user" in " ".join(done.stdout.split())
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_a_layer_that_there_is_not_is_a_mistake_in_the_config(tmp_path: Path):
    done = doctor(tmp_path, config='[policy]\nrequire = ["no_such_layer"]\n')
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no layer 'no_such_layer'" in done.stderr


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run runners as somebody else")
def test_a_user_for_the_runners_closes_the_master_to_them(tmp_path: Path):
    told = records(tmp_path, config="[policy]\nuser = 'nobody'\n")
    process = next(each for each in told if each["what"] == "profile" and each["profile"] == "process")
    if process["available"]:
        assert process["runner_uid"] == 65534
        assert process["secrets"].startswith("nothing is inherited")
    else:  # this interpreter lies where nobody but root may read
        assert "nobody" in process["why_not"] or "65534" in process["why_not"]


# --- what is made of a trial ------------------------------------------------------------------------------


def finding(profile: str, *layers: tuple[str, bool, str], **seen: Any) -> Finding:
    saw = Seen(**{"first_line_at": 0.0, "uid": 1000, "readable": [], "variables": [], **seen})
    return Finding(profile=profile, why_not="", layers=layers, seen=saw)


def test_a_missing_layer_is_told_with_its_reason_and_the_way_to_it():
    found = finding("strict", ("file_rules", False, "ABI 0"), ("subreaper", True, ""))
    ((name, text),) = _missing([found])
    assert name == "file_rules"
    assert text.startswith("ABI 0\nto get it: Linux 5.13")


def test_a_variable_of_ours_that_a_runner_has_is_told_as_reachable():
    assert _secrets(finding("process", variables=["OXHERD_X"]), CONFIG) == "reachable: inherited OXHERD_X"


def test_how_limits_are_kept_is_told_in_both_cases(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cgroup, "delegated", lambda: "cgroup v2 is not mounted here")
    assert "sampled four times a second: cgroup v2 is not mounted here" in _limits_mode()
    assert "Delegate=yes" in _limits_mode() and "Nobody keeps cpus and cpu_weight" in _limits_mode()
    given = cgroup.Delegated(Path("/sys/fs/cgroup/here"), frozenset({"memory", "pids"}))
    monkeypatch.setattr(cgroup, "delegated", lambda: given)
    said = _limits_mode()
    assert said.startswith("memory and processes are kept by the kernel, in a cgroup for each runner")
    assert "cpus and cpu_weight by nobody: /sys/fs/cgroup/here has no controller for cpu" in said
    monkeypatch.setattr(cgroup, "lacks_cpu", lambda found: "")
    assert _limits_mode().endswith("in a cgroup for each runner below /sys/fs/cgroup/here")
    assert "cpus and cpu_weight are kept by the kernel" in _limits_mode()


def test_what_the_policy_opens_in_strict_is_said_of_the_secrets():
    opened = replace(CONFIG, policy=PolicyConfig(network=True))
    assert _secrets(finding("strict"), CONFIG).endswith("socket is reachable")
    assert "but [policy] network opens" in _secrets(finding("strict"), opened)


@pytest.mark.parametrize("name", sorted(layers.NAMES - ALWAYS))
def test_there_is_a_remedy_for_each_layer_that_a_host_may_refuse(name: str):
    assert remedy_of(name)
