"""In the guest: `oxherd run` as a unit of systemd with a delegated cgroup, as root and as an ordinary user.

`who`           "root" and the user: each test of a master runs as both
`redis_server`  Debian's Redis, on a socket that every user may use
`herd`          one master for all tests of a file that do not need one of their own, with its queue: whatever
                a job did, it must be as good as before
`oxherd`        starts a master of the test's own; what is left of its unit after it is a failure of the test
`queue`         the queue `work`
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from image import USER
from running import Running, queue, until

from supervisor.blocking import Queue

__all__ = ["Unit", "herd", "oxherd", "pids_in", "queue", "redis_server", "systemd_run", "who"]

CGROUPS = Path("/sys/fs/cgroup")
PROCESSORS = Path(__file__).parents[1] / "processors"
DELEGATED = ("Delegate=cpu memory pids", "KillMode=mixed", "OOMPolicy=continue", "TimeoutStopSec=20")


@dataclass(frozen=True)
class Server:
    """As that of tests/conftest.py."""

    kind: str
    socket: str
    pid: int

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"


def systemd_run(name: str, who: str, command: list[str], *properties: str) -> list[str]:
    """The command that runs this one as a service with a delegated cgroup, its output passed on."""
    given = [f"--property={each}" for each in (*DELEGATED, f"User={who}", "Type=exec", *properties)]
    paths = f"--setenv=PYTHONPATH={os.environ['PYTHONPATH']}"
    ours = ["--pipe", "--wait", "--collect", "--quiet", f"--unit={name}", f"--working-directory={PROCESSORS}"]
    return ["systemd-run", *ours, paths, *given, "--", *command]


def shown(unit: str, what: str) -> str:
    command = ["systemctl", "show", "--value", f"--property={what}", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Unit(Running):
    """A master that systemd has started. `cgroup` is the directory that was delegated to it."""

    def __init__(self, process: subprocess.Popen[str], unit: str) -> None:
        super().__init__(process)
        self.unit = unit
        self.pid = until(lambda: int(shown(unit, "MainPID")), "systemd starts it")
        self.cgroup = CGROUPS / shown(unit, "ControlGroup").lstrip("/")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def leaves(self) -> list[Path]:
        """The groups of runners, which is all below the unit's but the master's own."""
        return [group for group in groups_below(self.cgroup) if group.name != "supervisor"]

    def processes(self) -> list[int]:
        """Every process that systemd counts as this unit's."""
        return [pid for group in (self.cgroup, *groups_below(self.cgroup)) for pid in pids_in(group)]


def groups_below(group: Path) -> list[Path]:
    """All of them; not `rglob`, which fails when one goes away under its eyes."""
    return [Path(path) for path, _, _ in os.walk(group)][1:]


def pids_in(group: Path) -> list[int]:
    """Nobody is in a group that is being taken away."""
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENOENT):
            raise
        return []


@pytest.fixture(scope="module", params=["root", USER])
def who(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    socket = "/run/oxherd-tests.redis"
    options = ["--port", "0", "--unixsocket", socket, "--unixsocketperm", "777", "--save", ""]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, cwd="/tmp")
    until(lambda: os.path.exists(socket), "Redis is up")
    yield Server("redis", socket, process.pid)
    process.kill()
    process.wait()


class Units:
    """Starts units, and ends them."""

    def __init__(self, name: str, who: str, redis_url: str) -> None:
        self._name = name
        self._who = who
        self._redis_url = redis_url
        self.started: list[Unit] = []

    def start(
        self, *flags: str, queue: str = "work", target: str = "harms", properties: tuple[str, ...] = ()
    ) -> Unit:
        ours = ["--redis", self._redis_url, "--queue", queue, "--log-format", "json", "--log-level", "debug"]
        command = [sys.executable, "-m", "supervisor", "run", target, *ours, *flags]
        name = f"oxherd-{self._name}-{len(self.started)}.service"
        process = subprocess.Popen(
            systemd_run(name, self._who, command, *properties),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(Unit(process, name))
        return self.started[-1]

    def end(self) -> None:
        left = []
        for each in self.started:
            if each.process.poll() is None:
                each.signal(signal.SIGTERM)
                each.ended()
            left += each.processes() if each.cgroup.exists() else []
            each.process.stderr.close()
        assert not left, f"processes were left behind: {left}"


@pytest.fixture
def oxherd(redis_url: str, who: str) -> Iterator[Callable[..., Unit]]:
    units = Units("test", who, redis_url)
    yield units.start
    units.end()


@pytest.fixture(scope="module")
def herd(redis_server: Server, who: str) -> Iterator[tuple[Unit, Queue]]:
    """A master of two runners. Its disk for what jobs write is small."""
    # A database of its own: the other tests empty theirs.
    url = f"{redis_server.url}?db=1"
    units = Units("herd", who, url)
    run = units.start("--concurrency", "2", properties=("TemporaryFileSystem=/tmp:size=16M,mode=1777",))
    with Queue("work", url=url) as queue:
        yield run, queue
    units.end()
