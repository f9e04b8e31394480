"""Ending a tree: all of it, and nobody else whatever numbers come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from supervisor.master import killing
from supervisor.master.killing import kill_tree

SLEEP = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
PARENT = f"""
import subprocess, time
child = subprocess.Popen({SLEEP!r}, start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family():
    """A process and its child in a session of its own."""
    parent = subprocess.Popen([sys.executable, "-I", "-S", "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(parent.stdout.readline()))
    yield parent, child
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if child.is_running():
        child.kill()


def gone(process):
    give_up_at = time.monotonic() + 5
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < give_up_at, f"{process} lives"
        time.sleep(0.002)
    return True


def test_the_whole_tree_is_killed(family):
    parent, child = family
    assert kill_tree(parent.pid) == 1
    assert parent.wait(5) == -signal.SIGKILL
    assert gone(child)


def test_a_number_that_went_to_a_stranger_is_not_signalled(family, monkeypatch):
    """It was a descendant's when the tree was read, and has been given to another since."""
    parent, child = family
    stranger = subprocess.Popen(SLEEP)
    real = killing.descendants_of
    monkeypatch.setattr(killing, "descendants_of", lambda pid: [*real(pid), stranger.pid])
    try:
        kill_tree(parent.pid)
        assert parent.wait(5) == -signal.SIGKILL
        assert gone(child)
        assert stranger.poll() is None and psutil.Process(stranger.pid).status() != psutil.STATUS_STOPPED
    finally:
        stranger.kill()
        stranger.wait()


def test_who_has_ended_already_is_no_error(family):
    parent, child = family
    parent.kill()
    os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
    assert kill_tree(parent.pid) == 0
    child.kill()
