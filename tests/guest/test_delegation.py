"""The guest is what these tests take it for: systemd delegates a cgroup v2 whose limits and kill work."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from units import systemd_run

MEGABYTE = 1 << 20


def probed(who: str) -> dict[str, Any]:
    command = systemd_run(
        f"probe-{who}.service", who, [sys.executable, str(Path(__file__).parent / "probe.py")]
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_unit_of_either_user_can_limit_and_kill_what_it_starts(who: str):
    found = probed(who)
    assert found["signal"] == signal.SIGKILL
    assert found["memory"]["oom_group_kill"] == 1
    assert found["memory"]["oom_kill"] >= 3, "the hog (which the kernel counts twice) and both its children"
    assert 31 * MEGABYTE <= found["peak"] <= 32 * MEGABYTE
    assert found["pids"] == 16
    assert found["killed_by"] == signal.SIGKILL


def test_nothing_but_cgroup_v2_is_mounted():
    assert " cgroup " not in Path("/proc/mounts").read_text()
    assert {"cpu", "memory", "pids"} <= set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
