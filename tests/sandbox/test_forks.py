"""How a template forks: as a sibling, or twice."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_master import ROOT, wait_until

from sandbox import forks


@pytest.mark.parametrize("twice", ["", "1"])
def test_the_master_is_the_parent_and_the_process_is_whole(new_master, twice):
    """I8. What the C library's fork does for the child is done, whichever way it was made."""
    master = new_master(more_env={"FORK_TWICE": twice})
    master.load("forked", profile="none")
    runner = master.runner()

    assert runner.run("any") == {
        "tid": runner.pid,
        "another thread": True,
        "parent": os.getpid(),
        "said": "17\n",
    }
    wait_until(lambda: not children_of(master.process.pid), "the end of the middle process")


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read()


def test_here_a_runner_is_forked_once():
    """Else the middle process would be paid for without anybody noticing. Asked in a process that has loaded
    nothing but what a template does: the tests' own libraries may have handlers.
    """
    asking = "from sandbox import forks, template; print(type(forks._siblings()).__name__)"
    ours = subprocess.run(
        [sys.executable, "-S", "-c", asking], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ours.stdout == "Siblings\n"


def test_who_has_handlers_of_forks_has_the_c_library_call_them(monkeypatch):
    """The C library itself names the call; so does whoever registers a handler."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    libraries = {path for line in lines if (path := line.split()[-1]).endswith("libc.so.6")}
    if not libraries:
        pytest.skip("the C library is not glibc here")
    monkeypatch.setattr(forks, "_loaded_files", lambda: libraries)

    assert forks._siblings() is None


def test_a_library_that_cannot_be_read_may_have_handlers(tmp_path):
    (tmp_path / "short.so").write_bytes(b"\x7fELF")

    assert forks._wants_to_know_of_forks(str(tmp_path / "short.so"))
    assert forks._wants_to_know_of_forks(str(tmp_path / "none.so"))


@pytest.mark.parametrize("fails", [OSError(errno.EAGAIN, "Resource temporarily unavailable"), None])
def test_a_body_never_unwinds_into_the_template(fails):
    """What is raised between the fork and the body ends the process that it is raised in."""
    forker = forks.Forker(own_pid_namespaces=False)
    here = os.getpid()

    class Siblings:
        def fork(self):
            if fails:
                raise fails
            return os.fork()

    def body():
        raise KeyboardInterrupt

    forker._siblings = Siblings()
    (born,) = forker.fork([body])

    assert os.getpid() == here
    if fails:
        assert isinstance(born, OSError) and "Resource temporarily unavailable" in born.strerror
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(born, 0)[1]) == 70
