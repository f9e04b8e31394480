"""`strict` and required layers in a whole master: in force before anything is fetched, or nothing is run.

As root there is no strict without a user of its own, and the interpreter of the tests may lie where such a
user cannot read it: what a strict runner does is tried as anybody else.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from ordinary_user import UID

from supervisor.blocking import Queue

AS_ROOT = os.geteuid() == 0


@pytest.mark.skipif(AS_ROOT, reason="as root: the next test")
def test_every_job_of_strict_has_a_runner_and_a_directory_of_its_own(oxherd, queue):
    """`strict` implies fresh; and every layer it requires is told by the runner."""
    jobs = queue.add_bulk([("open_relative", None)] * 4)
    run = oxherd("--burst", "--profile", "strict", target="confined")
    assert run.ended() == 0, run.story()
    seen = [queue.result(job, timeout_ms=20_000) for job in jobs]
    assert len({each["cwd"] for each in seen}) == 4
    assert all(each["before"] == [] and each["cwd"] == each["directory"] for each in seen)
    layers = {name for name, applied, _ in run.events("runner.started")[-1]["layers"] if applied}
    assert {"file_rules", "own_files", "system_calls_denied", "sockets_denied", "own_directory"} <= layers


@pytest.mark.skipif(AS_ROOT, reason="as root: the next test")
def test_a_runner_of_strict_serves_on_if_the_user_says_so(oxherd, queue):
    jobs = queue.add_bulk([("open_relative", None)] * 4)
    run = oxherd("--burst", "--profile", "strict", "--fresh", "off", "--concurrency", "1", target="confined")
    assert run.ended() == 0, run.story()
    seen = [queue.result(job, timeout_ms=20_000) for job in jobs]
    assert len({each["cwd"] for each in seen}) == 1
    assert all(each["before"] == [] for each in seen)


WALLED = """
import os, socket
from sandbox.processors import processor

def tried(deed):
    try:
        deed()
    except OSError as refused:
        return type(refused).__name__
    return "done"

@processor("walled")
def look(job):
    return {
        "uid": os.getuid(),
        "at home": os.getcwd() == job.directory,
        "shadow": tried(lambda: open("/etc/shadow").read()),
        "network": tried(socket.socket),
        "outside": tried(lambda: open("/var/tmp/oxherd-was-here", "w")),
        "inside": tried(lambda: open("here", "w").close()),
    }
"""


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
def test_under_a_master_that_is_root_strict_runs_as_the_user_that_is_named(redis_url, unprivileged):
    (unprivileged.home / "walled.py").write_text(WALLED)
    with Queue("walled", url=redis_url) as queue:
        job = queue.add("any", None)
        flags = [
            "--redis",
            redis_url,
            "--burst",
            "--profile",
            "strict",
            "--user",
            str(UID),
            "--concurrency",
            "1",
        ]
        done = subprocess.run(
            [unprivileged.python, "-m", "supervisor", "run", "walled", *flags],
            cwd=unprivileged.home,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": unprivileged.paths},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert queue.result(job, timeout_ms=1_000) == {
            "uid": UID,
            "at home": True,
            "shadow": "PermissionError",
            "network": "PermissionError",
            "outside": "PermissionError",
            "inside": "done",
        }


@pytest.mark.skipif(not AS_ROOT, reason="only root is root")
def test_strict_as_root_wants_a_user(oxherd, queue):
    queue.add("open_relative", None)
    run = oxherd("--profile", "strict", target="confined")
    assert run.ended() == 2
    assert any("name a user in [policy] user" in line for line in run.other), run.story()
    assert queue.counts()["waiting"] == 1


def test_a_required_layer_that_is_not_there_is_named_and_no_job_is_taken(oxherd, queue):
    """I6, I10: in any profile."""
    queue.add("open_relative", None)
    run = oxherd("--require", "file_rules", target="confined")
    assert run.ended() == 2
    told = " ".join(run.other)
    assert "requires what is not in force here: file_rules (not part of process)" in told, run.story()
    assert "No job was taken" in told
    assert queue.counts()["waiting"] == 1


def test_a_layer_that_there_is_not_is_a_mistake(oxherd):
    run = oxherd("--require", "moat", target="confined")
    assert run.ended() == 2
    assert any("there is no layer 'moat'" in line for line in run.other), run.story()
