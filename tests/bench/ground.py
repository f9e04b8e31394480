"""What every measure stands on: a private Redis, the workers as processes, and what is read of them.

Nothing here measures or judges. Times are read from the marks file (see noop.py), CPU and memory from /proc.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HERE: Final = Path(__file__).resolve().parent
QUEUE: Final = "bench"
PATIENCE_S: Final = 120.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
MARK: Final = struct.Struct("<ddii")


class Mark(NamedTuple):
    """What a job of noop.py or worker.mjs leaves."""

    start_at: float
    end_at: float
    pid: int
    number: int


class Failed(Exception):
    """A measure could not be taken; the text says why."""


# --- Redis --------------------------------------------------------------------------------------------


@dataclass
class Ground:
    """The server and the place for files, of one run of the benchmark."""

    port: int
    server: subprocess.Popen[bytes]
    raw: redis.Redis
    home: Path

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def empty(self) -> None:
        self.raw.flushall()

    def completed(self) -> int:
        count: Any = self.raw.zcard(f"bull:{QUEUE}:completed")
        return int(count)


@contextlib.contextmanager
def standing() -> Iterator[Ground]:
    """A Redis on a loopback port of its own, without persistence; gone with the block."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise Failed("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="oxherd-bench-"))
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen([binary, *options, "--dir", str(home)], stdout=subprocess.DEVNULL)
    raw = redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 0), protocol=2)
    try:
        wait_for(lambda: _answers(raw), "an answer of redis-server", 10)
        yield Ground(port, server, raw, home)
    finally:
        raw.close()
        server.terminate()
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def _answers(raw: redis.Redis) -> bool:
    try:
        return bool(raw.ping())
    except redis.RedisError:
        return False


def wait_for(
    fact: Callable[[], bool], what: str, patience_s: float = PATIENCE_S, every_s: float = 0.005
) -> None:
    give_up_at = time.monotonic() + patience_s
    while not fact():
        if time.monotonic() > give_up_at:
            raise Failed(f"waited {patience_s:.0f} s in vain for {what}")
        time.sleep(every_s)


# --- workers ------------------------------------------------------------------------------------------


class Worker:
    """One worker under measurement: its process and its marks."""

    def __init__(self, ground: Ground, command: Sequence[str]) -> None:
        self.marks = Path(tempfile.mkstemp(prefix="marks-", dir=ground.home)[1])
        self._log = Path(f"{self.marks}.log")
        env = {**os.environ, "BENCH_MARKS": str(self.marks), "PYTHONPATH": str(HERE)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # users' Pythons keep what they have compiled
        with self._log.open("wb") as log:
            self.began_at = time.monotonic()
            self._process = subprocess.Popen(command, cwd=HERE, env=env, stdout=log, stderr=log)
        self.pid = self._process.pid

    def done(self) -> int:
        return self.marks.stat().st_size // MARK.size

    def has_done(self, count: int) -> bool:
        return self.done() >= count

    def wait_done(self, count: int) -> None:
        def fact() -> bool:
            if self._process.poll() not in (None, 0):
                raise Failed(
                    f"the worker ended with {self._process.returncode}:\n{self._log.read_text()[-3000:]}"
                )
            return self.has_done(count)

        wait_for(fact, f"{count} jobs (see {self._log})")

    def records(self) -> list[Mark]:
        return [Mark(*fields) for fields in MARK.iter_unpack(self.marks.read_bytes())]

    def end(self) -> None:
        """As an operator would: TERM, and KILL when that does not help."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def working(ground: Ground, command: Sequence[str]) -> Iterator[Worker]:
    worker = Worker(ground, command)
    try:
        yield worker
    finally:
        worker.end()


def oxherd(ground: Ground, concurrency: int, *more: str) -> list[str]:
    command = [sys.executable, "-m", "oxherd", "run", "noop:noop", "--queue", QUEUE]
    return [*command, "--concurrency", str(concurrency), "--redis", ground.url, *more]


def node(ground: Ground, concurrency: int) -> list[str]:
    return ["node", str(HERE / "worker.mjs"), str(ground.port), QUEUE, str(concurrency)]


# --- what /proc says ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """One process: what it has used so far."""

    pid: int
    cpu_s: float
    pss_bytes: int | None  # None where we may not look


def family(pid: int) -> list[Usage]:
    """A process and all that descend from it, it first."""
    parents: dict[int, int] = {}
    cpu: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            cpu[int(entry.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    found = [pid]
    for known in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == known]
    return [Usage(each, cpu[each], _pss_bytes(each)) for each in found if each in cpu]


def _pss_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None  # runners are not dumpable, so that only root may look
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
