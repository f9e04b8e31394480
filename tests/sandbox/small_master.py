"""A small master for the tests: it spawns a template, asks for runners and speaks frames with them, blocking.

It is the parent of its runners as the real one is, so the test process becomes a sub-reaper. Everything it
started is killed and reaped by pid when the test ends.

No conftest, so that tests may import it whatever other directory is tested in the same run.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from sandbox import linux, wire
from sandbox.policy import Policy
from sandbox.wire import Kind

ROOT = Path(__file__).resolve().parents[2]
PROCESSORS = ROOT / "tests" / "processors"
PATIENCE_S = 20.0


def wait_until(fact: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(0.002)


class Runner:
    """The master's end of one runner."""

    def __init__(self, pid: int, link: socket.socket, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.link = link
        self.outputs = {"stdout": stdout, "stderr": stderr}
        self.pidfd = os.pidfd_open(pid)
        self.status: int | None = None
        self._buffer = bytearray()
        self.used: list[dict[str, Any]] = []
        link.settimeout(PATIENCE_S)
        for fd in (stdout, stderr):
            os.set_blocking(fd, False)

    def send(self, kind: Kind, body: object = None, attempt: int = 0) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.link.sendall(wire.frame(kind, raw, attempt))

    def take(self) -> tuple[Kind, bytes]:
        """The next frame. What a long job has used goes to `used`."""
        while (found := self._take())[0] is Kind.USED:
            self.used.append(json.loads(found[1]))
        return found

    def _take(self) -> tuple[Kind, bytes]:
        while (found := wire.take_frame(self._buffer, wire.FROM_RUNNER)) is None:
            data = self.link.recv(65536)
            assert data, "the runner closed its link"
            self._buffer += data
        return found[:2]

    def silent(self, for_s: float = 0.05) -> bool:
        """Nothing is there to be read, and nothing comes for that long."""
        return not self._buffer and not select.select([self.link], [], [], for_s)[0]

    def go(self, **limits: Any) -> dict[str, Any]:
        self.send(
            Kind.GO, {"slot": 2, "title": "oxherd: runner 2", "master_pid": os.getpid(), "limits": limits}
        )
        kind, body = self.take()
        assert kind is Kind.READY
        return json.loads(body)

    def start(
        self, name: str, data: object = None, *, raw: bytes | None = None, number: int = 0, **meta: Any
    ) -> None:
        described = {
            "id": "17",
            "name": name,
            "queue": "work",
            "attempt": 1,
            "attempts": 3,
            "timestamp": 1_700_000_000_000,
            "priority": 0,
            "parent": None,
            "soft_timeout_ms": 0,
            "started": 1,
            **meta,
        }
        head = json.dumps(described).encode()
        body = json.dumps(data).encode() if raw is None else raw
        self.send(Kind.START, wire.START_META.pack(len(head)) + head + body, number)

    def outcome(self) -> tuple[Kind, Any, list[tuple[Kind, bytes]]]:
        """The outcome of the job and the frames before it."""
        before = []
        while True:
            kind, body = self.take()
            if kind in (Kind.COMPLETED, Kind.FAILED):
                return kind, json.loads(body), before
            before.append((kind, body))

    def run(self, name: str, data: object = None, **meta: Any) -> Any:
        """The result of a job that completes."""
        self.start(name, data, **meta)
        kind, body, _ = self.outcome()
        assert kind is Kind.COMPLETED, body
        return body

    def fail(self, name: str, data: object = None, **meta: Any) -> dict[str, Any]:
        """The failure of a job that fails."""
        self.start(name, data, **meta)
        kind, body, _ = self.outcome()
        assert kind is Kind.FAILED, body
        return body

    def output(self, stream: str) -> str:
        """What is in the pipe now."""
        text = b""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.outputs[stream], 65536):
                text += data
        return text.decode()

    def wait(self) -> int:
        """Its exit code; a signal is negative."""
        if self.status is None:
            assert select.select([self.pidfd], [], [], PATIENCE_S)[0], "the runner did not end"
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def close(self) -> None:
        if self.status is None:
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.wait()
        self.link.close()
        for fd in (self.pidfd, *self.outputs.values()):
            os.close(fd)


class Master:
    """Spawns one template in tests/processors and speaks with it."""

    def __init__(
        self,
        python: str = sys.executable,
        cwd: Path = PROCESSORS,
        home: Path = ROOT,
        more_env: Mapping[str, str] = {},  # never written to
        **popen: Any,
    ) -> None:
        self.runners: list[Runner] = []
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(PATIENCE_S)
        self.errors_read, errors_write = os.pipe()
        self._requests = 0
        with theirs:
            self.process = subprocess.Popen(
                [python, "-P", "-W", "error", "-m", "sandbox", "template", str(theirs.fileno())],
                cwd=cwd,
                env={
                    "PATH": os.environ["PATH"],
                    "PYTHONPATH": str(home),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **more_env,
                },
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=errors_write,
                stderr=errors_write,
                start_new_session=True,
                **popen,
            )
        os.close(errors_write)

    def load(
        self,
        *targets: str,
        queue: str | None = None,
        profile: str = "process",
        bare: bool = False,
        **policy: Any,
    ) -> dict[str, Any]:
        self.control.sendall(
            json.dumps(
                {
                    "what": "load",
                    "targets": targets,
                    "default_queue": queue,
                    "policy": Policy(profile=profile, **policy).to_json(),
                    "master_pid": os.getpid(),
                    "bare": bare,
                    "title": f"oxherd: template {' '.join(targets)}",
                }
            ).encode()
        )
        return self.answer()

    def answer(self) -> dict[str, Any]:
        data = self.control.recv(wire.MAX_CONTROL)
        assert data, f"the template has ended: {self.last_words()}"
        return json.loads(data)

    def last_words(self) -> str:
        os.set_blocking(self.errors_read, False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self.errors_read, 65536).decode()
        return ""

    def ask_for_fork(self, slot: int = 2) -> tuple[dict[str, Any], socket.socket, int, int]:
        ends = self.request_fork(slot)
        return self.answer(), *ends

    def request_fork(self, slot: int) -> tuple[socket.socket, int, int]:
        self._requests += 1
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        packet = json.dumps({"what": "fork", "request": self._requests, "slot": slot}).encode()
        socket.send_fds(self.control, [packet], [theirs.fileno(), out_write, err_write])
        theirs.close()
        os.close(out_write)
        os.close(err_write)
        return ours, out_read, err_read

    def fork(self, slot: int = 2) -> Runner:
        answer, *ends = self.ask_for_fork(slot)
        assert answer["what"] == "forked", answer
        assert answer["request"] == self._requests
        return self.adopt(answer["pid"], *ends)

    def adopt(self, pid: int, link: socket.socket, out_read: int, err_read: int) -> Runner:
        runner = Runner(pid, link, out_read, err_read)
        self.runners.append(runner)
        return runner

    def runner(self, **limits: Any) -> Runner:
        """A runner that is ready."""
        runner = self.fork()
        runner.go(**limits)
        return runner

    def close(self) -> None:
        for runner in self.runners:
            runner.close()
        self.control.close()
        self.process.kill()
        self.process.wait()
        os.close(self.errors_read)


# --- confined runners -------------------------------------------------------------------------------------

AS_ROOT = os.geteuid() == 0
UID = 65534 if AS_ROOT else 0
SYSTEM_PYTHON = "/usr/bin/python3"


class Place:
    """Where confined runners live, for whoever runs the tests. As root they are `nobody`, who must be able to
    read an interpreter and our package: Debian's own, and a copy. As anybody else they are that user, in the
    checkout itself. `home` has our package, `processors` the modules, `jobs_dir` their directories."""

    def __init__(self) -> None:
        self.made = Path(tempfile.mkdtemp(prefix="oxherd-confined-"))
        self.made.chmod(0o755)
        self.jobs_dir = self.made / "jobs"
        self.jobs_dir.mkdir(0o700)
        self.outside = self.made / "outside"
        self.outside.mkdir(0o777)
        self.outside.chmod(0o777)
        self.home, self.processors = ROOT, PROCESSORS
        if AS_ROOT:
            os.chown(self.jobs_dir, UID, UID)
            self.home = self.made / "home"
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "sandbox", self.home / "sandbox", ignore=ignored)
            self.processors = self.home / "processors"
            shutil.copytree(PROCESSORS, self.processors, ignore=ignored)
            for path in [self.home, *self.home.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)

    def jobs(self) -> list[str]:
        return sorted(os.listdir(self.jobs_dir))


# What a host may lack, by numbers for x86_64 and aarch64; prctl and seccomp(2) only as far as filters go.
LACKING = {"unshare": (272, 97), "landlock_create_ruleset": (444, 444), "seccomp": (157, 167)}


def be_without(names: Collection[str]) -> None:
    """As in a container whose own filter denies these calls."""
    place = os.uname().machine == "aarch64"
    lines = [(0x20, 0, 0, 0)]  # load the number
    for name in names:
        first_argument = [(0x20, 0, 0, 16), (0x15, 0, 1, linux.PR_SET_SECCOMP)] if name == "seccomp" else []
        deny = (0x06, 0, 0, 0x0005_0000 | errno.EPERM)
        lines += [(0x15, 0, len(first_argument) + 1, LACKING[name][place]), *first_argument, deny]
    lines.append((0x06, 0, 0, 0x7FFF_0000))
    linux.set_no_new_privs()
    linux.set_seccomp_filter(b"".join(struct.pack("=HBBI", *line) for line in lines))


def in_force(ready: dict[str, Any]) -> set[str]:
    return {name for name, applied, _ in ready["layers"] if applied}
