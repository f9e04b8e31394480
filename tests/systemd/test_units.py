"""The shipped units under a real systemd: what it is told, and what it does.

The order counts: one service is used by most tests, and each takes it from where the one before has left it.
"""

from __future__ import annotations

import os
import re
import signal
import stat
from pathlib import Path

import pytest
from services import NEWER_KERNELS, PROJECT, UNITS, Machine, Service, command, completed

from sandbox.layers import OF_RUNNER, OF_TEMPLATE
from supervisor.blocking import Queue

BUSY = re.compile(r"\d/2 busy, \d+ waiting, \d+ done, (locks renewed \d+\.\d s ago|no locks held)")


# --- what is written -----------------------------------------------------------------------------------


def test_systemd_finds_no_fault_with_what_was_installed(machine: Machine):
    units = ("oxherd.service", "oxherd@mail.service", "oxherd.slice")
    done = command("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (done.stderr, done.returncode) == ("", 0)


def test_what_the_service_may_do_is_little(machine: Machine):
    """`security` gives 10 for everything and 0 for nothing."""
    told = command("systemd-analyze", "security", "--no-pager", "oxherd.service").stdout
    exposure = re.search(r"Overall exposure level for oxherd.service: ([0-9.]+)", told)
    assert exposure is not None and float(exposure[1]) <= 3.0, told[-300:]


def test_the_settings_are_for_the_masters_alone(machine: Machine):
    found = Path("/etc/oxherd").stat()
    assert stat.S_IMODE(found.st_mode) == 0o750
    assert found.st_uid == 0


# --- start ---------------------------------------------------------------------------------------------


def test_it_starts_after_redis_and_is_ready_when_it_fetches(service: tuple[Service, Queue]):
    run, _ = service
    shown = run.show("ActiveState", "SubState", "Type", "StatusText", "User", "Slice", "After")
    assert (shown["ActiveState"], shown["SubState"], shown["User"]) == ("active", "running", "oxherd")
    assert shown["Slice"] == "oxherd.slice"
    assert {"network-online.target", "redis.service", "redis-server.service"} <= set(shown["After"].split())
    run.wait(lambda: BUSY.fullmatch(run.get("StatusText")), "its line is said")
    assert (
        not run.events("isolation.degraded")
        or {name.partition(" ")[0] for each in run.events("isolation.degraded") for name in each["layers"]}
        <= NEWER_KERNELS
    )


def test_it_is_started_at_boot_and_not_before_redis(service: tuple[Service, Queue]):
    run, _ = service
    command("systemctl", "enable", "--no-reload", run.name)
    assert (UNITS / "multi-user.target.wants" / run.name).is_symlink()
    command("systemctl", "disable", "--no-reload", run.name)
    # Both were asked for together, as at boot, and Redis took its time.
    ready = Service("valkey.service").get("ActiveEnterTimestampMonotonic")
    assert 0 < int(ready) <= int(run.get("ExecMainStartTimestampMonotonic"))


def test_every_layer_of_strict_is_in_force_under_the_unit(service: tuple[Service, Queue]):
    run, queue = service
    assert completed(run, queue, "release") == 1
    layers = [layer for each in run.events("runner.started") for layer in each["layers"]]
    refused = {name: reason for name, in_force, reason in layers if not in_force}
    assert refused.keys() <= NEWER_KERNELS, refused
    in_force = {name for name, in_force, _ in layers if in_force}
    # Without the rights of root there is no other user to become.
    assert (OF_RUNNER | OF_TEMPLATE) - in_force <= {*NEWER_KERNELS, "own_user"}
    kept = run.events("limits.kept")[0]
    assert kept["by"] == "cgroup"


# --- while it runs ---------------------------------------------------------------------------------------


def test_a_runner_that_eats_all_memory_ends_alone(service: tuple[Service, Queue]):
    run, queue = service
    pid = run.pid
    job = queue.add("hog", None, attempts=1)
    run.wait(lambda: queue.state(job.id) == "failed", "the hog fails")
    assert queue.get(job.id).verdicts[-1]["cause"] == "memory_limit"
    assert completed(run, queue, "release") == 1
    shown = run.show("MainPID", "NRestarts", "ActiveState", "Result")
    assert shown == {"MainPID": str(pid), "NRestarts": "0", "ActiveState": "active", "Result": "success"}


# --- reload ----------------------------------------------------------------------------------------------


def test_a_reload_under_load_brings_the_new_code_and_hurts_no_job(
    machine: Machine, service: tuple[Service, Queue]
):
    run, queue = service
    pid = run.pid
    jobs = [queue.add("release", 0.3) for _ in range(12)]
    machine.release(2)
    command("systemctl", "reload", run.name)
    assert completed(run, queue, "release") == 2, "what comes after the reload runs in the new code"
    run.wait(lambda: all(queue.state(job.id) == "completed" for job in jobs), "all are done")
    found = [queue.get(job.id) for job in jobs]
    assert {job.returned for job in found} <= {1, 2}
    assert {job.attempts_made for job in found} == {1}
    assert run.events("reload.done")
    assert run.pid == pid
    run.wait(lambda: run.get("SubState") == "running", "the reload is over for systemd too")


def test_a_release_that_cannot_be_imported_is_refused_and_the_old_one_goes_on(
    machine: Machine, service: tuple[Service, Queue]
):
    run, queue = service
    machine.release(None)
    refused = command("systemctl", "reload", run.name, check=False)
    assert refused.returncode == 1
    assert "not reloaded, generation 2 goes on" in run.journal()
    assert completed(run, queue, "release") == 2
    assert run.show("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "0"}
    machine.release(1)


def test_a_restart_under_load_loses_no_job_and_burns_no_attempt(service: tuple[Service, Queue]):
    run, queue = service
    before = run.pid
    jobs = [queue.add("release", 0.3, attempts=1) for _ in range(12)]
    run.wait(lambda: queue.state(jobs[0].id) == "active", "they have begun")
    command("systemctl", "restart", run.name)
    assert run.pid not in (0, before)
    run.wait(lambda: all(queue.state(job.id) == "completed" for job in jobs), "all are done")
    found = [queue.get(job.id) for job in jobs]
    assert {job.attempts_made for job in found} == {1}
    assert {job.stalled_count for job in found} == {0}
    assert {job.attempts_started for job in found} == {1}, "each ended where it began"


# --- stop ------------------------------------------------------------------------------------------------


def test_a_stop_asks_for_its_time_and_gives_back_who_ignores_it(service: tuple[Service, Queue]):
    """I9. The unit allows 2 s here, the master's own deadline is 6 s."""
    run, queue = service
    job = queue.add("ignores", None, attempts=1)
    run.wait(lambda: queue.logs(job.id) == ["started"], "it does not listen any more")
    command("systemctl", "stop", "--no-block", run.name)
    run.wait(lambda: run.get("StatusText") == "stopping: 1 job still running", "it says whom it waits for")
    run.wait(lambda: run.get("ActiveState") == "inactive", "it has stopped")
    assert run.show("Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}
    assert queue.state(job.id) == "waiting"
    assert queue.get(job.id).attempts_made == 0
    queue.remove(job.id)


# --- the watchdog ----------------------------------------------------------------------------------------


def test_a_master_that_stands_still_is_ended_and_started_again(service: tuple[Service, Queue]):
    run, queue = service
    run.start()
    deaf = PROJECT / "deaf.py"
    deaf.write_text(DEAF)
    run.drop_in(
        "deaf", f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 -P {deaf}\n"
    )  # from the next start
    before = run.pid
    os.kill(before, signal.SIGSTOP)
    run.wait(lambda: run.pid not in (0, before) and run.get("ActiveState") == "active", "there is another")
    assert "Watchdog timeout" in run.journal()
    assert run.get("NRestarts") == "1"
    assert completed(run, queue, "release") == 1


# Fetches nothing any more once this file is there; all else goes on.
DEAF = """
import os
import sys

from supervisor.cli import main
from supervisor.master.exchange import Exchanger
from supervisor.master.fetcher import Fetcher

appetite = Fetcher.appetite
Fetcher.appetite = lambda *args, **more: 0 if os.path.exists("/srv/deaf") else appetite(*args, **more)
Exchanger.stand = lambda *args: None
sys.exit(main(["run", "--config", "/etc/oxherd/oxherd.toml"]))
"""


def test_a_master_that_takes_no_job_though_some_wait_says_so_and_ends_itself(service: tuple[Service, Queue]):
    run, queue = service
    before = run.pid
    Path("/srv/deaf").touch()
    job = queue.add("release", None)
    failed = run.until("proof.failed")
    assert "1 job waiting and a slot is free" in failed["why"]
    run.until("master.stuck")
    Path("/srv/deaf").unlink()
    run.wait(lambda: run.pid not in (0, before), "there is another")
    assert "status=75" in run.journal()
    run.wait(lambda: queue.state(job.id) == "completed", "the job runs")
    assert run.get("NRestarts") == "2"


# --- restart limits ----------------------------------------------------------------------------------------


@pytest.fixture
def mail(machine: Machine):
    run = Service("oxherd@mail.service")
    run.drop_in("tests", "[Service]\nRestartSec=100ms\n")
    yield run
    command("systemctl", "stop", run.name, check=False)
    command("systemctl", "reset-failed", run.name, check=False)


def test_a_mistake_in_the_config_is_said_once_and_not_tried_again(machine: Machine, mail: Service):
    machine.configure("mail", "[redis]\nulr = 'redis://nowhere'\n")
    assert command("systemctl", "start", mail.name, check=False).returncode == 1
    mail.wait(lambda: mail.get("ActiveState") == "failed", "it is given up")
    assert mail.show("NRestarts", "ExecMainStatus") == {"NRestarts": "0", "ExecMainStatus": "2"}
    assert "ulr" in mail.journal()


def test_a_redis_that_is_away_is_tried_again(machine: Machine, mail: Service):
    machine.configure("mail", "[redis]\nurl = 'unix:///run/nobody'\n[queue.work]\ntarget = 'service'\n")
    command("systemctl", "start", "--no-block", mail.name)
    mail.wait(lambda: int(mail.get("NRestarts")) >= 1, "it is tried again")
    assert mail.get("ActiveState") == "activating"
