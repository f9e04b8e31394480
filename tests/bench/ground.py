"""What every measure stands on: a private Redis, the workers as processes, and what is read of them.

Nothing here measures or judges. Times are read from the marks file (see peers/work.py), CPU and memory from
/proc, what Redis has spent from INFO. Whatever was started is ended with its block, by pidfd.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.linux import set_child_subreaper, set_parent_death_signal

HERE: Final = Path(__file__).resolve().parent
PEERS: Final = HERE / "peers"
STATE: Final = HERE.parents[1] / ".state"
QUEUE: Final = "bench"
PATIENCE_S: Final = 120.0
SILENCE_S: Final = 30.0  # of a worker that has jobs to do
ENDING_S: Final = 12.0
READY_S, TRIES = 10.0, 3  # of the server
PRODUCING_S: Final = 180.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1024 * 1024
MARK: Final = struct.Struct("<ddii")


class Mark(NamedTuple):
    """What a job leaves: `end_at` 0 where it only begins."""

    start_at: float
    end_at: float
    pid: int
    number: int


class Failed(Exception):
    """A measure could not be taken; the text says why."""


@dataclass(frozen=True)
class Contender:
    """A system under measurement.

    peer      its producer: produce.py's name for it, or `node`.
    python    the interpreter of that producer.
    command   of one worker.
    copies    workers started.
    guess     jobs a second, so that the first run is of a useful length.
    """

    name: str
    peer: str
    python: str
    command: Sequence[str]
    copies: int = 1
    env: dict[str, str] = field(default_factory=dict)
    guess: int = 1_000


# --- Redis --------------------------------------------------------------------------------------------


class Spent(NamedTuple):
    """What Redis has used since it started, or since `Ground.reset`."""

    cpu_s: float
    script_s: float
    script_calls: int


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

    def spent(self) -> Spent:
        cpu: Any = self.raw.info("cpu")
        stats: Any = self.raw.info("commandstats")
        scripts = [stats[name] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats]
        return Spent(
            cpu["used_cpu_user"] + cpu["used_cpu_sys"],
            sum(each["usec"] for each in scripts) / 1e6,
            sum(each["calls"] for each in scripts),
        )

    def environment(self, more: dict[str, str] | None = None) -> dict[str, str]:
        """Of workers and producers alike."""
        path = os.pathsep.join(filter(None, [str(PEERS), os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "BENCH_PORT": str(self.port), "PYTHONPATH": path, **(more or {})}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # users' Pythons keep what they have compiled
        return env

    def produce(
        self, who: Contender, mode: str, kind: str, count: int, marks: Path | None = None
    ) -> dict[str, Any]:
        """Run the system's own producer; what it says."""
        more = {"BENCH_MARKS_READ": str(marks)} if marks else {}
        head = ["node", "produce.cjs"] if who.peer == "node" else [who.python, "produce.py", who.peer]
        try:
            done = subprocess.run(
                [*head, mode, kind, str(count)],
                cwd=PEERS,
                env=self.environment(more),
                capture_output=True,
                text=True,
                timeout=PRODUCING_S,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{who.name}: {mode} of {count} jobs took over {PRODUCING_S:.0f} s") from None
        if done.returncode:
            raise Failed(f"{who.name}: {mode} failed:\n{done.stderr[-2000:]}")
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said


@contextlib.contextmanager
def standing() -> Iterator[Ground]:
    """A Redis on a loopback port of its own, without persistence; gone with the block."""
    set_child_subreaper(True)  # so that what a worker leaves behind is ours to bury, and its CPU is counted
    binary = shutil.which("redis-server")
    if binary is None:
        raise Failed("redis-server is not installed")
    home = Path(tempfile.mkdtemp(prefix="oxherd-bench-"))
    home.chmod(0o755)  # a job in the profile `strict` writes its marks there
    port, server, raw = _server(binary, home)
    try:
        yield Ground(port, server, raw, home)
    finally:
        raw.close()
        server.kill()  # nothing of it is kept
        server.wait()
        shutil.rmtree(home, ignore_errors=True)


def _server(binary: str, home: Path) -> tuple[int, subprocess.Popen[bytes], redis.Redis]:
    """Started, and it is ours that answers: between our look at a port and its own somebody may take it."""
    for _ in range(TRIES):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        server = subprocess.Popen(
            [binary, *options, "--dir", str(home)], stdout=subprocess.DEVNULL, preexec_fn=_ends_with_us
        )
        raw = redis.Redis("127.0.0.1", port, retry=Retry(NoBackoff(), 0), protocol=2, socket_timeout=120)
        ready_by = time.monotonic() + READY_S
        while server.poll() is None and time.monotonic() < ready_by:
            if _answering(raw) == server.pid:
                return port, server, raw
            time.sleep(0.005)
        server.kill()
        server.wait()
    raise Failed(f"redis-server did not start in {TRIES} tries of {READY_S:.0f} s")


def _ends_with_us() -> None:
    set_parent_death_signal(signal.SIGTERM)


def _answering(raw: redis.Redis) -> int:
    """Whose server it is; 0 while none answers."""
    try:
        said: Any = raw.info("server")
    except redis.RedisError:
        return 0
    return int(said["process_id"])


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
    """The worker or workers of one contender: the processes and their marks."""

    def __init__(self, ground: Ground, who: Contender, more: dict[str, str] | None = None) -> None:
        self.name = who.name
        handle, name = tempfile.mkstemp(prefix="marks-", dir=ground.home)
        os.close(handle)
        self.marks = Path(name)
        self.marks.chmod(0o666)
        self._log = Path(f"{self.marks}.log")
        env = ground.environment({"BENCH_MARKS": str(self.marks), **who.env, **(more or {})})
        with self._log.open("wb") as log:
            self.began_at = time.monotonic()
            self._processes = [
                subprocess.Popen(
                    who.command, cwd=PEERS, env=env, stdout=log, stderr=log, preexec_fn=_ends_with_us
                )
                for _ in range(who.copies)
            ]
        self.pid = self._processes[0].pid

    def done(self) -> int:
        return self.marks.stat().st_size // MARK.size

    def wait_done(self, count: int, patience_s: float = PATIENCE_S) -> None:
        """Until so many marks are there. Silence for long, or an end with an error, is a failure."""
        give_up_at, seen, seen_at = time.monotonic() + patience_s, -1, time.monotonic()
        while (done := self.done()) < count:
            if done != seen:
                seen, seen_at = done, time.monotonic()
            if any(each.poll() not in (None, 0) for each in self._processes):
                raise Failed(f"{self.name} ended:\n{self.last_words()}")
            if time.monotonic() > min(give_up_at, seen_at + SILENCE_S):
                raise Failed(f"{self.name}: {done} of {count} jobs, then nothing:\n{self.last_words()}")
            time.sleep(0.005)

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def records(self) -> list[Mark]:
        """Of the jobs that are done."""
        marks = [Mark(*fields) for fields in MARK.iter_unpack(self.marks.read_bytes())]
        return [mark for mark in marks if mark.end_at]

    def family(self) -> list[Usage]:
        """All its processes, the first worker's main process first."""
        return [usage for each in self._processes for usage in family(each.pid)]

    def end(self) -> None:
        """As an operator would: TERM, and KILL for what is left of the tree after that."""
        tree = [handle for usage in self.family() if (handle := _open_pid(usage.pid)) is not None]
        for each in self._processes:
            if each.poll() is None:
                each.send_signal(signal.SIGTERM)
        ends_at = time.monotonic() + ENDING_S
        for each in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.wait(max(0.1, ends_at - time.monotonic()))
        for handle in tree:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for each in self._processes:
            each.wait()
        for handle in tree:
            _bury(handle)
        self.marks.unlink()


def _bury(handle: int) -> None:
    """Wait for the end of a process that was not our child at first, and may be now."""
    select.select([handle], [], [], ENDING_S)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, handle, os.WEXITED | os.WNOHANG)
    os.close(handle)


def _open_pid(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


@contextlib.contextmanager
def working(ground: Ground, who: Contender, more: dict[str, str] | None = None) -> Iterator[Worker]:
    worker = Worker(ground, who, more)
    try:
        yield worker
    finally:
        worker.end()


def oxherd(ground: Ground, slots: int, *more: str, name: str = "") -> Contender:
    """The whole of `oxherd run` as users have it: the defaults, log line and profile included."""
    command = [sys.executable, "-m", "oxherd", "run", "p_oxherd:job", "--queue", QUEUE]
    return Contender(
        name or f"Oxherd {slots}",
        "oxherd",
        sys.executable,
        [*command, "--concurrency", str(slots), "--redis", ground.url, *more],
        guess=6_000,
    )


# --- what /proc says ----------------------------------------------------------------------------------


class Usage(NamedTuple):
    """One process: the CPU that it and those it has buried have used so far."""

    pid: int
    cpu_s: float


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
            cpu[int(entry.name)] = sum(map(int, fields[11:15])) / TICKS
    found = [pid]
    for known in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == known]
    return [Usage(each, cpu[each]) for each in found if each in cpu]


def pss_mib(pids: Sequence[int]) -> float:
    """What these processes hold, what they share counted once; in units of 1,048,576 bytes."""
    sizes = [_pss_bytes(pid) for pid in pids]
    if None in sizes:
        raise Failed("PSS of the runners may be read by root alone")
    return sum(filter(None, sizes)) / MIB


def _pss_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        return 0  # it has ended
    except OSError:
        return None  # runners are not dumpable, so that only root may look
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
