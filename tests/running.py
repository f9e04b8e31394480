"""A whole master, started as users start it, and facts to wait for.

`oxherd` starts `oxherd run` on the test's server and ends it, by pid, when the test is over; what is still
below it then is a failure of the test.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from ordinary_user import User

from supervisor.blocking import Queue

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PATIENCE_S = 30.0


def until(true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Wait for a fact; its (true) value."""
    give_up_at = time.monotonic() + patience_s
    while not (value := true()):
        if time.monotonic() > give_up_at:
            raise AssertionError(f"in {patience_s:g} s it did not happen: {what}")
        time.sleep(0.005)
    return value


class Running:
    """One `oxherd run`. `lines` are its log, one object a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid
        self.lines: list[dict[str, Any]] = []
        self.other: list[str] = []
        self.unread = threading.Lock()  # whoever holds it keeps the log from being read
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            with self.unread:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.other.append(line)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in list(self.lines) if line.get("event") == name]

    def until(self, name: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th line of this event, as soon as it is there."""
        what = f"{count} x {name}"
        try:
            return until(lambda: len(found := self.events(name)) >= count and found[count - 1], what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def story(self) -> str:
        return "\n".join([*map(json.dumps, self.lines[-40:]), *self.other[-40:]])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        status = self.process.wait(patience_s)
        self._reader.join(5)
        return status

    def family(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def runners(self) -> list[psutil.Process]:
        return [each for each in self.family() if "oxherd: runner" in title_of(each)]

    def at_work(self, count: int) -> None:
        """Wait until so many runners have begun a job, which is later than that the job is active."""

        def busy() -> list[str]:
            titles = [title_of(each) for each in self.family()]
            return [each for each in titles if "oxherd: runner" in each and not each.endswith(" idle")]

        until(lambda: len(busy()) == count, f"{count} runners at work")


def title_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).rstrip()
    except psutil.Error:
        return ""


@pytest.fixture
def oxherd(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(
        *flags: str,
        target: str = "deeds",
        queue: str | None = "work",
        env: dict[str, str] | None = None,
        user: User | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """`user`: who it runs as, with what limits; None: who the tests run as."""
        named = os.environ.get("OXHERD_RUNTIME_DIR", str(tmp_path / "run"))
        place = {} if user else {"OXHERD_RUNTIME_DIR": named}  # no other test's masters are found there
        paths = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        ours = [
            "--redis",
            redis_url,
            *(["--queue", queue] if queue else []),
            "--log-format",
            "json",
            "--log-level",
            "debug",
        ]
        process = subprocess.Popen(
            [
                *(user.prefix if user else ()),
                user.python if user else sys.executable,
                *("-m", "supervisor", "run", target, *ours, *flags),
            ],
            cwd=user.home if user else cwd or TESTS / "processors",
            env={**os.environ, "PYTHONPATH": user.paths if user else paths, **place, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        running = Running(process)
        started.append(running)
        return running

    yield start
    left: list[psutil.Process] = []
    for running in started:
        family = running.family()
        if running.process.poll() is None:
            running.signal(signal.SIGQUIT)
            try:
                running.ended(10)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.ended(5)
        left += psutil.wait_procs(family, timeout=3)[1]
        running.process.stderr.close()
    for process in left:
        process.kill()
    assert not left, f"processes were left behind: {left}"


@pytest.fixture
def queue(redis_url: str) -> Iterator[Queue]:
    """The queue `work`, whose jobs do what their data says."""
    with Queue("work", url=redis_url) as queue:
        yield queue


@pytest.fixture
def ask(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command of the same user; what it has printed."""
    place = tmp_path / "run"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(place))

    def run(*words: str, status: int = 0, width: int = 80) -> str:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(width), "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", *words, "--redis", redis_url],
            env=env,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return run
