"""`oxherd top` in a real terminal: tmux is the terminal, its keys and its screen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import ROOT, until

PAGE = ROOT / "docs/how-to/top.md"
IMAGE = ROOT / "docs" / "images" / "top.txt"


class Tmux:
    """One terminal of `columns` x `lines`."""

    def __init__(self, place: Path, columns: int = 80, lines: int = 24) -> None:
        self._socket = str(place / "tmux")
        self._size = str(columns), str(lines)

    def _do(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, command: str) -> None:
        columns, lines = self._size
        self._do("new-session", "-d", "-x", columns, "-y", lines, command)

    def press(self, *keys: str) -> None:
        self._do("send-keys", *keys)

    def screen(self) -> str:
        return self._do("capture-pane", "-p")

    def shows(self, text: str) -> str:
        """The screen, once it shows this."""
        try:
            until(lambda: text in self.screen(), f"the screen shows {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None
        return self.screen()

    def resize(self, columns: int, lines: int) -> None:
        self._do("resize-window", "-x", str(columns), "-y", str(lines))

    def server_pid(self) -> int:
        return int(self._do("display-message", "-p", "#{pid}"))

    def pane_pid(self) -> int:
        return int(self._do("display-message", "-p", "#{pane_pid}"))


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        text = "no tmux is installed, so nobody has looked at top"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    place = Path("/tmp") / f"oxherd-tmux-{os.getpid()}"
    place.mkdir(mode=0o700)
    made = Tmux(place)
    try:
        yield made
    finally:
        subprocess.run(["tmux", "-S", str(place / "tmux"), "kill-server"], capture_output=True, timeout=20)
        shutil.rmtree(place, ignore_errors=True)


def command(*words: str) -> str:
    """`top`, and afterwards whether the terminal is as it was."""
    runtime = os.environ["OXHERD_RUNTIME_DIR"]
    line = " ".join([sys.executable, "-m", "supervisor", "top", *words])
    return (
        f"export PYTHONPATH={ROOT} OXHERD_RUNTIME_DIR={runtime} LANG=C.UTF-8; before=$(stty -g); {line}; "
        'echo "status $?"; [ "$before" = "$(stty -g)" ] && echo "as it was"; exec sleep 600'
    )


@pytest.fixture
def work(oxherd, queue, ask):
    """A master with a job that tells its progress, one with a child, and one slot that is free."""
    running = oxherd("--concurrency", "3", target="appetites", queue=None)
    running.until("control.opened")
    jobs = [queue.add("resize", {"steps": 60, "step_s": 0.5}), queue.add("encode", {"child_s": 60})]
    for job in jobs:
        until(lambda job=job: queue.state(job.id) == "active", "it runs")
    return running, jobs


def test_top_shows_the_slots_acts_by_keys_and_leaves_the_terminal_as_it_was(work, queue, terminal):
    running, (progressing, burning) = work
    terminal.start(command())
    screen = terminal.shows("resize")
    assert f"oxherd {running.pid} on " in screen
    assert all(len(line) <= 80 for line in screen.splitlines())
    assert "JOBS/S" in screen
    until(lambda: re.search(r"█░{9} \d+%", terminal.screen()), "the bar of progress moves")

    terminal.press("t")
    screen = terminal.shows("python: CPU")  # the child, below its runner
    for title in ("QUEUE SLOTS", "SLOT QUEUE", "q end"):
        line = next(line for line in screen.splitlines() if line.startswith(title))
        assert line in PAGE.read_text(encoding="utf-8") or line in IMAGE.read_text(encoding="utf-8")
    if os.environ.get("KEEP_IMAGES"):
        IMAGE.write_text(re.sub(r" on \S+,", " on web1,", screen.rstrip()) + "\n")

    terminal.press("s")
    terminal.shows("sorted by cpu")
    until(lambda: re.search(r"PROGRESS\n.* encode\n", terminal.screen()), "who uses most stands first")
    terminal.press("x")
    assert "in runner" in terminal.shows("in work")
    terminal.press("Escape")
    terminal.shows("PROGRESS")

    terminal.press("Down", "Up", "Down", "Up", "x")  # all at once, as a slow line brings them
    terminal.shows("in runner")
    terminal.press("Escape")
    terminal.shows("PROGRESS")

    terminal.press("+")
    terminal.shows("work has 4 slots")
    terminal.press("p")
    terminal.shows("quiet, locks renewed")
    terminal.press("c")
    terminal.shows(f"cancel the job work/{burning.id}? y or n")
    terminal.press("n")
    terminal.shows("nothing was done")
    assert queue.state(burning.id) == "active"
    terminal.press("c")
    terminal.shows("y or n")
    terminal.press("y")
    until(lambda: queue.state(burning.id) == "failed", "it is cancelled")

    terminal.press("q")
    assert "status 0" in terminal.shows("as it was")
    assert queue.state(progressing.id) == "active"  # nobody is harmed by who looks
    assert running.process.poll() is None


def test_top_follows_the_size_and_ends_cleanly_by_ctrl_c_and_by_a_signal(work, terminal):
    terminal.start(command())
    terminal.shows("resize")
    terminal.resize(130, 12)
    assert "FILES" in terminal.shows("PSS")
    terminal.resize(60, 8)
    until(lambda: "PSS" not in terminal.screen(), "the columns that do not fit are gone")
    assert all(len(line) <= 60 for line in terminal.screen().splitlines())
    terminal.press("C-c")
    assert "status 0" in terminal.shows("as it was")


def test_a_terminated_top_gives_the_terminal_back(work, terminal):
    terminal.start(command())
    terminal.shows("resize")
    shell = terminal.pane_pid()
    (pid,) = (int(each) for each in Path(f"/proc/{shell}/task/{shell}/children").read_text().split())
    os.kill(pid, signal.SIGTERM)
    assert "status 143" in terminal.shows("as it was")


def test_top_goes_on_when_its_master_has_gone_and_says_so(work, terminal):
    running, _ = work
    terminal.start(command())
    terminal.shows("resize")
    running.process.send_signal(signal.SIGQUIT)
    running.ended()
    terminal.shows("m looks for another")
    terminal.press("q")
    terminal.shows("as it was")


@pytest.mark.parametrize("redis_server", ["redis"], indirect=True)
def test_top_can_be_left_when_its_master_stands_still(work, terminal):
    running, _ = work
    terminal.start(command())
    terminal.shows("resize")
    running.signal(signal.SIGSTOP)
    try:
        terminal.shows(f"the master {running.pid} did not answer look within 2 s")
        terminal.press("q")
        assert "status 0" in terminal.shows("as it was")
    finally:
        running.signal(signal.SIGCONT)
