"""What a job costs Redis beside few and beside many others, in instructions: whatever the host is doing.

A Redis of its own runs under callgrind, which counts from the moment it is told to. The others are put there
first; then a thousand jobs are added, and as many are taken and ended, sixty a call, as a busy master does.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import hiredis
import redis
from ground import QUEUE, Failed, wait_for

from supervisor import lua
from supervisor.blocking import Queue
from supervisor.protocol.commands.work import Completed, FinishAndFetch
from supervisor.protocol.job_options import KEEP_ALL
from supervisor.protocol.keys import QueueKeys
from supervisor.transport.requests import Scripts, pack_script

ADDED: Final = 1_000
AT_ONCE: Final = 100  # jobs of a bulk
A_CALL: Final = 60
CALLS: Final = 18
LOCK_MS: Final = 30_000
FAR_MS: Final = 86_400_000
PATIENCE_S: Final = 300
PLACES: Final[dict[str, Callable[[random.Random], dict[str, int]]]] = {
    "waiting": lambda rng: {},
    "delayed": lambda rng: {"delay_ms": FAR_MS + rng.randrange(FAR_MS)},
    "prioritized": lambda rng: {"priority": rng.randrange(1, 100)},
}


class Counted:
    """A server whose instructions can be counted."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.url = f"unix://{home}/redis.sock"
        settings = ["--port", "0", "--unixsocket", f"{home}/redis.sock", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", "redis-server", *settings],
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.raw = redis.Redis(unix_socket_path=f"{home}/redis.sock", socket_timeout=PATIENCE_S)
        wait_for(self._answers, "a Redis under callgrind", 60)

    def _answers(self) -> bool:
        try:
            return bool(self.raw.ping())
        except redis.ConnectionError:
            return False

    def count(self, what: Callable[[], None]) -> int:
        """Instructions of the server while `what` is done."""
        self._tell("-i", "on")
        self._tell("-z")
        what()
        before = set(self._home.glob("callgrind.out*"))
        self._tell("-d")
        self._tell("-i", "off")
        (dump,) = set(self._home.glob("callgrind.out*")) - before
        return next(
            int(line.split()[1]) for line in dump.read_text().splitlines() if line.startswith("totals:")
        )

    def _tell(self, *what: str) -> None:
        command = ["callgrind_control", *what, str(self._process.pid)]
        subprocess.run(command, cwd=self._home, capture_output=True, check=True)

    def end(self) -> None:
        self.raw.close()
        self._process.terminate()
        self._process.wait()


def cost(place: str, many: int, fill: str) -> dict[str, float]:
    """Thousands of instructions a job. `fill` is the script that puts the others there."""
    if shutil.which("valgrind") is None:
        raise Failed("instructions are counted by valgrind, which is not installed")
    with TemporaryDirectory(prefix="oxherd-bench-") as home:
        server = Counted(Path(home))
        try:
            return _cost(server, place, many, fill)
        finally:
            server.end()


def _cost(server: Counted, place: str, many: int, fill: str) -> dict[str, float]:
    put = server.raw.register_script(fill)
    for first in range(1, many + 1, 1_000):
        last = min(many, first + 999)
        put(args=[f"bull:{QUEUE}", place, first, last, int(time.time() * 1000), "{}"])
    rng = random.Random(many)
    with Queue(QUEUE, url=server.url) as queue:

        def add() -> None:
            queue.add_bulk([("noop", {"i": 1}, PLACES[place](rng)) for _ in range(AT_ONCE)])

        add()  # the script is loaded, the connection there
        to_add = server.count(partial(_repeat, add, ADDED // AT_ONCE))
        if place == "delayed":  # none of those is due: what is done waits
            queue.add_bulk([("noop", {"i": 1}) for _ in range((CALLS + 1) * A_CALL)])
    caller = _Caller(server.raw)
    caller.call()
    to_do = server.count(partial(_repeat, caller.call, CALLS))
    figures = {"to add": to_add / ADDED / 1000, "to do": to_do / CALLS / A_CALL / 1000}
    return {**figures, "both": sum(figures.values())}


def _repeat(what: Callable[[], None], times: int) -> None:
    for _ in range(times):
        what()


class _Caller:
    """Ends what it took and takes as many again."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._script = Scripts(lua.source).get(FinishAndFetch.script)
        self._number = 0
        self._outcomes: list[Completed] = []
        raw.script_load(lua.source(FinishAndFetch.script))

    def call(self) -> None:
        self._number += 1
        keys, now_ms = QueueKeys(QUEUE, "bull"), int(time.time() * 1000)
        command = FinishAndFetch(keys, f"depth:{self._number}", now_ms, LOCK_MS, A_CALL, self._outcomes)
        request = hiredis.Reader()
        request.feed(pack_script(self._script, command))
        taken = command.decode(self._raw.execute_command(*request.gets())).jobs
        if len(taken) != A_CALL:
            raise Failed(f"{len(taken)} jobs were taken instead of {A_CALL}")
        self._outcomes = [Completed(job.id, job.token, b"null", KEEP_ALL) for job in taken]
