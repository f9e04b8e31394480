"""Ending a tree: all of it, and nobody else whatever numbers come back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from running import ROOT, until

from supervisor.master import killing
from supervisor.master.killing import end_tree, kill_tree

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


class Runner:
    """What is to be ended."""

    def __init__(self, pid, leaf=None):
        self.pid = pid
        self.leaf = leaf


class Group:
    """A cgroup that cannot kill, or one whose members have moved out."""

    def __init__(self):
        self.asked = 0

    def kill(self):
        self.asked += 1
        return False


def test_a_group_is_ended_first_and_who_has_left_it_all_the_same(family):
    parent, child = family
    group = Group()
    end_tree(Runner(parent.pid, group))
    assert group.asked == 1
    assert parent.wait(5) == -signal.SIGKILL
    assert gone(child)


NAMESPACE = f"""
import os, subprocess, sys, time
sys.path.insert(0, {str(ROOT)!r})
from sandbox import linux, namespaces
uid = os.getuid()
try:
    linux.unshare(namespaces.linux.CLONE_NEWUSER | linux.CLONE_NEWPID)
except OSError as error:
    print("forbidden:", error, flush=True)
    sys.exit()
pid = os.fork()
if pid == 0:
    try:
        child = subprocess.Popen({SLEEP!r}, start_new_session=True)
        time.sleep(60)
    finally:
        os._exit(0)
print(pid, flush=True)
time.sleep(60)
"""


def test_a_namespace_is_ended_with_its_first_process():
    outer = subprocess.Popen([sys.executable, "-I", "-S", "-c", NAMESPACE], stdout=subprocess.PIPE, text=True)
    try:
        answer = outer.stdout.readline()
        if answer.startswith("forbidden"):
            pytest.skip(f"no PID namespace to be had: {answer.strip()}")
        first = psutil.Process(int(answer))
        until(lambda: first.children(), "the child in the namespace")
        (inner,) = first.children()
        assert killing.is_first_of_namespace(first.pid)
        assert not killing.is_first_of_namespace(inner.pid)
        assert not killing.is_first_of_namespace(outer.pid)

        end_tree(Runner(first.pid))
        assert gone(first) and gone(inner)
    finally:
        outer.kill()
        outer.wait()
        outer.stdout.close()


def test_who_sleeps_where_signals_reach_is_not_stuck(family):
    parent, child = family
    assert killing.stuck_below(parent.pid) == []
    assert killing.stuck_below(child.pid) == []
