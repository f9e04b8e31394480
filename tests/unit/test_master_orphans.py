"""Orphans of a dead master are ended by the next one; nobody else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from supervisor.master.orphans import MARK, end_orphans, mark


@pytest.fixture
def process():
    """A process with this in its environment."""
    made = []

    def start(value):
        made.append(subprocess.Popen(["sleep", "60"], env={} if value is None else {MARK: value}))
        return made[-1]

    yield start
    for each in made:
        each.kill()
        each.wait()


def parts():
    return mark()[MARK].split(".")


def test_who_was_started_below_a_dead_master_is_ended(process):
    pid, started, namespace = parts()
    dead = process(f"{2**22 + 1}.{started}.{namespace}")  # above any pid
    reborn = process(f"{pid}.{int(started) - 1}.{namespace}")  # its number has been given to another
    assert set(end_orphans()) >= {dead.pid, reborn.pid}
    assert dead.wait(5) == reborn.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("what", ["alive", "no mark", "another namespace", "not a mark", "empty"])
def test_nobody_else_is_touched(process, what):
    _, started, namespace = parts()
    value = {
        "alive": mark()[MARK],
        "no mark": None,
        "another namespace": f"{2**22 + 1}.{started}.{int(namespace) + 1}",
        "not a mark": "by hand",
        "empty": "",
    }[what]
    spared = process(value)
    assert spared.pid not in end_orphans()
    assert spared.poll() is None and psutil.Process(spared.pid).status() != psutil.STATUS_STOPPED


def test_a_master_that_was_started_by_such_a_job_spares_itself_and_those_above_it(process):
    _, started, namespace = parts()
    code = (
        "import sys; sys.path.insert(0, '.'); "
        "from supervisor.master.orphans import end_orphans; print(end_orphans())"
    )
    value = f"{2**22 + 1}.{started}.{namespace}"
    shell = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -c \"{code}\"; echo done"],
        env={**os.environ, MARK: value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.splitlines() == ["[]", "done"], shell.stderr
