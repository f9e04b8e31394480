"""The shipped units under systemd 257, for what 252 does not know: notify-reload and DelegateSubgroup.

The order counts: one service is used by all, and each takes it from where the one before has left it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

from services import NEWER_KERNELS, PROJECT, UNITS, Machine, Service, command, completed

from sandbox.layers import OF_RUNNER, OF_TEMPLATE
from supervisor.blocking import Queue

GATE = PROJECT / "gate"
# An import that ends when the file is there.
SLOW = f"\nimport os\nwhile not os.path.exists({str(GATE)!r}):\n    time.sleep(0.05)\n"


def test_what_this_version_knows_is_made_use_of(machine: Machine):
    written = sorted(path.name for path in (UNITS / "oxherd.service.d").iterdir())
    assert {"10-delegate-subgroup.conf", "10-notify-reload.conf"} <= set(written)
    shown = Service("oxherd.service").show("Type", "DelegateSubgroup", "ExecReload", "ReloadSignal")
    assert shown == {"Type": "notify-reload", "DelegateSubgroup": "supervisor", "ReloadSignal": "1"}


def test_this_systemd_finds_no_fault_either(machine: Machine):
    units = ("oxherd.service", "oxherd@mail.service", "oxherd.slice")
    done = command("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    told = command("systemd-analyze", "security", "--no-pager", "oxherd.service").stdout
    exposure = re.search(r"Overall exposure level for oxherd.service: ([0-9.]+)", told)
    assert exposure is not None and float(exposure[1]) <= 3.0, told[-300:]


def test_it_is_ready_in_its_own_leaf_and_every_layer_of_strict_is_in_force(service: tuple[Service, Queue]):
    run, queue = service
    shown = run.show("ActiveState", "SubState", "ControlGroup")
    assert (shown["ActiveState"], shown["SubState"]) == ("active", "running")
    assert completed(run, queue, "release") == 1
    group = Path(f"/proc/{run.pid}/cgroup").read_text().strip().partition("::")[2]
    assert group == f"{shown['ControlGroup']}/supervisor"
    assert run.events("limits.kept")[0]["by"] == "cgroup"
    layers = [layer for each in run.events("runner.started") for layer in each["layers"]]
    in_force = {name for name, in_force, _ in layers if in_force}
    assert (OF_RUNNER | OF_TEMPLATE) - in_force <= {*NEWER_KERNELS, "own_user"}


def test_a_reload_is_over_for_systemd_when_it_is_over_and_no_sooner(
    machine: Machine, service: tuple[Service, Queue]
):
    run, queue = service
    pid = run.pid
    machine.release(2)
    (PROJECT / "service.py").write_text((PROJECT / "service.py").read_text() + SLOW)
    with subprocess.Popen(["systemctl", "reload", run.name]) as reload:
        # It is this far only after RELOADING=1 with a MONOTONIC_USEC that is later than its signal.
        run.wait(lambda: run.get("SubState") == "reload-notify", "it has said that it reloads")
        assert completed(run, queue, "release") == 1, "meanwhile the old code goes on"
        assert reload.poll() is None and not run.events("reload.done")
        GATE.touch()
        assert reload.wait(80) == 0
    assert completed(run, queue, "release") == 2
    assert run.events("reload.done")
    assert run.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    assert run.pid == pid


def test_a_release_that_is_refused_is_told_where_people_look(
    machine: Machine, service: tuple[Service, Queue]
):
    run, queue = service
    machine.release(None)
    assert command("systemctl", "reload", run.name, check=False).returncode == 0, "it cannot be told of it"
    assert "the last reload was refused: " in run.get("StatusText")
    shown = command("systemctl", "status", "--no-pager", run.name).stdout
    assert re.search(r'Status: "the last reload was refused: cannot load service: ', shown), shown
    assert completed(run, queue, "release") == 2
    assert run.show("ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    machine.release(1)
    command("systemctl", "reload", run.name)
    assert "refused" not in run.get("StatusText")
    assert completed(run, queue, "release") == 1


def test_one_that_was_killed_is_started_again_in_the_same_group(service: tuple[Service, Queue]):
    """What of the runners' groups was left would keep another from starting: EBUSY."""
    run, queue = service
    before = run.pid
    os.kill(before, signal.SIGKILL)
    run.wait(lambda: run.pid not in (0, before) and run.get("ActiveState") == "active", "there is another")
    assert completed(run, queue, "release") == 1
    assert run.get("NRestarts") == "1"


def test_a_stop_ends_well(service: tuple[Service, Queue]):
    run, _ = service
    run.stop()
    assert run.show("Result", "ExecMainStatus", "ActiveState") == {
        "Result": "success",
        "ExecMainStatus": "0",
        "ActiveState": "inactive",
    }
