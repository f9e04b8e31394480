"""`oxherd systemd install --user`: a service of an ordinary user's own manager, with no session, no root."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from image import USER
from services import CHECKOUT, CONFIG, NEWER_KERNELS, PATIENCE_S, Machine, Service, command, completed

from sandbox.layers import OF_RUNNER, OF_TEMPLATE
from supervisor.blocking import Queue


def as_user(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """As in a shell of the user's, where a login has set XDG_RUNTIME_DIR."""
    user = pwd.getpwnam(USER)
    env = {"HOME": user.pw_dir, "XDG_RUNTIME_DIR": f"/run/user/{user.pw_uid}", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        words,
        env=env,
        user=USER,
        group=USER,
        extra_groups=[],
        cwd=user.pw_dir,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


def oxherd(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return as_user(sys.executable, "-P", "-m", "supervisor", *words, check=check)


class OfAUser(Service):
    """A unit of the user's manager."""

    def systemctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return as_user("systemctl", "--user", *words, check=check)

    def show(self, *names: str) -> dict[str, str]:
        told = self.systemctl("show", f"--property={','.join(names)}", self.name).stdout
        return dict(line.split("=", 1) for line in told.splitlines())

    def journal(self, *options: str) -> str:
        ours = ["journalctl", f"_SYSTEMD_USER_UNIT={self.name}", "--no-pager", "--output=cat"]
        return command(*ours, *options).stdout


@pytest.fixture(scope="module")
def home(machine: Machine) -> Iterator[tuple[OfAUser, Queue]]:
    """The unit as `install --user` has written it; its manager lives though nobody is logged in."""
    user = pwd.getpwnam(USER)
    command("loginctl", "enable-linger", USER)
    run = OfAUser("oxherd.service")
    run.wait(lambda: Path(f"/run/user/{user.pw_uid}/bus").exists(), "the user's manager is up")
    project = Path(user.pw_dir, "thumbnails")
    project.mkdir()
    (project / "service.py").write_text((CHECKOUT / "tests/processors/service.py").read_text())
    url = machine.redis_url.replace("?db=2", "?db=4")
    settings = Path(user.pw_dir, ".config/oxherd/oxherd.toml")
    as_user("mkdir", "-p", str(settings.parent))
    settings.write_text(CONFIG.format(url=url))
    told = oxherd("systemd", "install", "--user", "--directory", str(project)).stdout
    assert "systemctl --user enable --now oxherd.service" in told
    with Queue("work", url=url) as queue:
        yield run, queue
    run.systemctl("stop", run.name, check=False)
    command("loginctl", "disable-linger", USER)


def test_a_users_manager_finds_no_fault_with_what_was_installed(home: tuple[OfAUser, Queue]):
    done = as_user("systemd-analyze", "--user", "verify", "--man=no", "oxherd.service", check=False)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_user_runs_jobs_under_every_layer_of_strict_without_root(home: tuple[OfAUser, Queue]):
    run, queue = home
    run.systemctl("daemon-reload")
    done = run.systemctl("enable", "--now", run.name, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{run.journal()}"
    assert completed(run, queue, "release") == 1
    layers = [layer for each in run.events("runner.started") for layer in each["layers"]]
    refused = {name: reason for name, in_force, reason in layers if not in_force}
    assert refused.keys() <= NEWER_KERNELS, refused
    in_force = {name for name, in_force, _ in layers if in_force}
    assert (OF_RUNNER | OF_TEMPLATE) - in_force <= {*NEWER_KERNELS, "own_user"}
    assert run.events("limits.kept")[0]["by"] == "cgroup"
    shown = run.show("ActiveState", "StatusText", "Slice", "ControlGroup")
    assert (shown["ActiveState"], shown["Slice"]) == ("active", "oxherd.slice")
    assert f"/user@{pwd.getpwnam(USER).pw_uid}.service/" in shown["ControlGroup"]
    assert " done, " in shown["StatusText"]


def test_the_kernel_keeps_the_limits_of_a_users_jobs_too(home: tuple[OfAUser, Queue]):
    run, queue = home
    job = queue.add("hog", None, attempts=1)
    run.wait(lambda: queue.state(job.id) == "failed", "the hog fails")
    assert queue.get(job.id).verdicts[-1]["cause"] == "memory_limit"


def test_its_user_finds_it_from_a_shell_and_it_reloads(home: tuple[OfAUser, Queue]):
    run, queue = home
    assert str(run.pid) in oxherd("ps").stdout
    run.systemctl("reload", run.name)
    assert run.events("reload.done")
    oxherd("ctl", "quiet")
    assert "is quiet" in run.get("StatusText")
    oxherd("ctl", "resume")
    assert completed(run, queue, "release") == 1


def test_it_stops_and_is_taken_away_by_its_user(home: tuple[OfAUser, Queue]):
    run, _ = home
    run.systemctl("disable", "--now", run.name)
    assert run.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    oxherd("systemd", "uninstall", "--user")
    units = Path(pwd.getpwnam(USER).pw_dir, ".config/systemd/user")
    assert [path for path in units.rglob("*") if path.is_file()] == []
