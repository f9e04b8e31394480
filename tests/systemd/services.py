"""In the guest: the units, installed as a user installs them, and the facts to wait for.

`machine`   everything is installed and nothing runs
`service`   oxherd.service runs; one for all tests, as far as each leaves it running
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import until
from units import Server, redis_server

from supervisor.blocking import Queue

__all__ = ["Machine", "Service", "machine", "redis_server", "service"]

CHECKOUT = Path(__file__).parents[2]
PROJECT = Path("/srv/thumbnails")
SETTINGS = Path("/etc/oxherd")
UNITS = Path("/etc/systemd/system")
PATIENCE_S = 80.0  # a busy host makes everything slow
# Of the watchdog, and of a restart. The stop is longer than the unit allows: the master asks for the time.
FOR_TESTS = "[Service]\nWatchdogSec=6s\nRestartSec=500ms\nTimeoutStopSec=2s\n"
# A unit of this name, for the order of the start alone.
SLOW_REDIS = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 1\n"
# What strict puts in force but for what this kernel (6.1) does not have: it says so itself.
NEWER_KERNELS = {"signals_scoped", "abstract_sockets_scoped", "tcp_denied"}
CONFIG = """
[redis]
url = "{url}"
[policy]
profile = "strict"
pid_namespace = true  # this kernel scopes no signals
[stop]
deadline = "6s"
[log]
level = "debug"
[queue.work]
target = "service"
concurrency = 2
"""


def command(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done


class Service:
    """One unit, as systemd and its journal tell of it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def show(self, *names: str) -> dict[str, str]:
        told = command("systemctl", "show", f"--property={','.join(names)}", self.name).stdout
        return dict(line.split("=", 1) for line in told.splitlines())

    def get(self, name: str) -> str:
        return self.show(name)[name]

    @property
    def pid(self) -> int:
        return int(self.get("MainPID"))

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.journal().splitlines():
            try:
                line = json.loads(line)
            except ValueError:
                continue
            if isinstance(line, dict):
                found.append(line)
        return found

    def journal(self, *options: str) -> str:
        ours = ["journalctl", f"--unit={self.name}", "--no-pager", "--output=cat"]
        return command(*ours, *options).stdout

    def until(self, name: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th event of this name."""
        return self.wait(
            lambda: len(found := self.events(name)) >= count and found[count - 1], f"{count} x {name}"
        )

    def wait(self, fact: Any, what: str) -> Any:
        try:
            return until(fact, what, PATIENCE_S)
        except AssertionError as error:
            said = "\n".join(self.journal().splitlines()[-40:])
            state = self.show("ActiveState", "SubState", "Result", "StatusText", "NRestarts")
            raise AssertionError(f"{error}; {state}\n{said}") from None

    def drop_in(self, name: str, text: str) -> None:
        path = UNITS / f"{self.name}.d" / f"{name}.conf"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        command("systemctl", "daemon-reload")

    def start(self, *others: str) -> None:
        """Returns when it has said that it is ready. `others` are asked for together with it."""
        done = command("systemctl", "start", *others, self.name, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self.journal()}"

    def stop(self) -> None:
        command("systemctl", "stop", self.name)


def completed(run: Service, queue: Queue, name: str, data: object = None) -> object:
    """What a job of this name has returned."""
    job = queue.add(name, data)
    run.wait(lambda: queue.state(job.id) == "completed", f"{name} completes")
    return queue.get(job.id).returned


class Machine:
    """What is installed."""

    def __init__(self, redis_url: str) -> None:
        self.redis_url = redis_url

    def oxherd(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return command(sys.executable, "-P", "-m", "supervisor", *arguments, check=check)

    def release(self, number: int | None) -> None:
        """Put a release in place; None for one that cannot be imported."""
        text = (CHECKOUT / "tests/processors/service.py").read_text()
        text = text.replace("RELEASE = 1\n", f"RELEASE = {number or 'nothing that is defined'}\n")
        (PROJECT / "service.py").write_text(text)

    def configure(self, name: str, text: str) -> None:
        path = SETTINGS / f"{name}.toml"
        path.write_text(text)
        shutil.chown(path, group="oxherd")
        path.chmod(0o640)


@pytest.fixture(scope="session")
def machine(redis_server: Server) -> Machine:
    # As an installed program: whatever the environment, python3 finds it.
    (Path(sysconfig.get_path("purelib")) / "oxherd.pth").write_text(f"{CHECKOUT}\n")
    os.environ.pop("PYTHONPATH", None)
    PROJECT.mkdir(parents=True)
    made = Machine(f"{redis_server.url}?db=2")
    made.release(1)
    made.oxherd("systemd", "install", "--directory", str(PROJECT))
    made.oxherd("systemd", "install", "--directory", str(PROJECT), "mail")
    command("systemd-sysusers", "oxherd.conf")
    command("systemd-tmpfiles", "--create", "oxherd.conf")
    made.configure("oxherd", CONFIG.format(url=made.redis_url))
    (UNITS / "valkey.service").write_text(SLOW_REDIS)
    command("systemctl", "daemon-reload")
    return made


@pytest.fixture(scope="session")
def service(machine: Machine) -> Iterator[tuple[Service, Queue]]:
    found = Service("oxherd.service")
    found.drop_in("tests", FOR_TESTS)
    found.start("valkey.service")
    with Queue("work", url=machine.redis_url) as queue:
        yield found, queue
    found.stop()
