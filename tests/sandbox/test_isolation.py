"""What is in force in the template and in a runner, read back by user code."""

from __future__ import annotations

import os
import signal

import pytest

from sandbox import linux
from sandbox.isolation import _close_all_but, expected, open_fds
from sandbox.policy import Policy
from sandbox.wire import Kind


@pytest.fixture
def ready(master):
    packet = master.load("look")
    assert packet["what"] == "ready", packet
    return packet


@pytest.fixture
def runner(master, ready):
    return master.runner()


def test_isolation_is_complete_before_the_import(master, runner):
    """I6: the module's own import sees what is inherited."""
    seen = runner.run("import", queue="look")

    assert seen["pid"] == master.process.pid
    assert seen["no_new_privs"] is True
    assert seen["dumpable"] is False
    assert seen["core"] == [0, 0]
    assert seen["oom_score_adj"] >= 500
    assert seen["scheduler"] == os.SCHED_BATCH
    assert seen["sid"] == master.process.pid
    assert seen["parent_death"] == signal.SIGKILL


def test_the_template_is_no_sub_reaper(runner):
    """I8: it would keep the runners for itself."""
    assert runner.run("import", queue="look")["subreaper"] is False


def test_a_runner_is_isolated_on_its_own(runner):
    """I6, I8: session, signals, sub-reaper, and a parent whose death it does not survive."""
    seen = runner.run("job", queue="look")

    assert seen["pid"] == runner.pid
    assert seen["ppid"] == os.getpid()
    assert seen["sid"] == runner.pid
    assert seen["subreaper"] is True
    assert seen["parent_death"] == signal.SIGKILL
    assert seen["no_new_privs"] is True
    assert seen["dumpable"] is False
    assert seen["core"] == [0, 0]
    assert seen["blocked"] == []
    assert seen["sigint"] == seen["sigterm"] == "0" or "SIG_DFL" in seen["sigterm"]
    assert "SIG_IGN" in seen["sigpipe"] or seen["sigpipe"] == "1"


def test_a_runner_holds_no_descriptor_but_its_own(master, runner):
    """I1: no control link, no other runner's pipe; what the module opened at import stays open."""
    other = master.runner()

    for each in (runner, other):
        seen = each.run("job", queue="look")
        assert seen["fds"].pop("0") == os.devnull
        assert seen["fds"].pop("1") == _pipe_of(each.outputs["stdout"])
        assert seen["fds"].pop("2") == _pipe_of(each.outputs["stderr"])
        own = {f"/proc/{each.pid}/{what}" for what in ("fd", "task")}
        assert own < set(seen["fds"].values())
        module, link = sorted(set(seen["fds"].values()) - own, key=lambda named: named.startswith("socket:"))
        assert module.endswith("look.py")
        assert link.startswith("socket:")
        assert len(seen["fds"]) == 4
    assert runner.run("read_own_file", queue="look") > 0


def _pipe_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


def test_the_environment_is_what_the_master_gave(runner):
    """I1: nothing is added; what the master leaves out is not there."""
    seen = runner.run("job", queue="look")["environment"]

    assert set(seen) <= {"PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "LC_CTYPE"}


def test_every_layer_is_reported(master, ready):
    fork = master.fork()
    layers = {name: applied for name, applied, _ in fork.go()["layers"]}

    template = {name: applied for name, applied, _ in ready["layers"]}
    assert template == dict.fromkeys(
        ["oom_score_adj", "batch_scheduling", "no_core", "no_new_privs", "not_dumpable"], True
    )
    own = ["own_session", "signals_reset", "stdin_null", "descriptors_closed", "subreaper", "parent_death"]
    assert layers == template | dict.fromkeys(own, True)


def test_the_profile_none_isolates_nothing_but_says_so(master):
    packet = master.load("look", profile="none")
    runner = master.fork()
    layers = [name for name, applied, _ in runner.go()["layers"] if applied]

    assert packet["layers"] == []
    assert layers == ["own_session", "signals_reset", "stdin_null", "descriptors_closed", "parent_death"]
    seen = runner.run("job", queue="look")
    assert seen["no_new_privs"] is False
    assert seen["dumpable"] is True
    assert seen["subreaper"] is False
    assert seen["sid"] == runner.pid
    assert seen["parent_death"] == signal.SIGKILL


def test_a_runner_tells_its_stack_when_it_is_asked(master):
    master.load("simple")
    runner = master.runner()
    runner.start("until_cancelled")
    runner.take()

    os.kill(runner.pid, signal.SIGUSR1)
    runner.send(Kind.CANCEL, {})
    runner.outcome()

    assert "in until_cancelled" in runner.output("stderr")


def test_it_all_holds_for_a_user_without_rights(new_master):
    """As `nobody`, with the system's own Python and nothing installed beside it."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    python = "/usr/bin/python3"
    if not os.path.exists(python):
        pytest.skip("no system Python")
    master = new_master(python=python, user=65534, group=65534, extra_groups=[])
    packet = master.load("look")
    assert packet["what"] == "ready", packet
    assert all(applied for _, applied, _ in packet["layers"]), packet["layers"]
    runner = master.fork()
    assert all(applied for _, applied, _ in runner.go()["layers"])

    seen = runner.run("job", queue="look")
    assert seen["ppid"] == os.getpid()
    assert seen["dumpable"] is False
    assert seen["no_new_privs"] is True


@pytest.mark.parametrize("profile", ["none", "process"])
def test_what_a_runner_has_is_what_its_template_has_thought_of(master, profile):
    """Else each runner would work out anew what READY says, and whether it is enough."""
    ready = master.load("simple", profile=profile)
    told = master.fork().go()["layers"]

    own = [each.to_json() for each in expected(Policy(profile=profile))]
    assert told == [*ready["layers"], *own]


HANDLER_OF_C = """
import ctypes, os, signal
from oxherd import processor
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: None)
ctypes.CDLL(None).signal(signal.SIGTERM, handler)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

@processor("work")
def work(job):
    with open("/proc/self/status") as file:
        status = file.read()
    return [line for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt"))]
"""


def test_a_handler_that_python_knows_nothing_of_is_reset_too(new_master, tmp_path):
    (tmp_path / "signals_of_c.py").write_text(HANDLER_OF_C)
    master = new_master(cwd=tmp_path)
    assert master.load("signals_of_c")["what"] == "ready"
    lines = dict(line.split(":\t") for line in master.runner().run("any"))

    assert int(lines["SigBlk"], 16) == 0
    assert not int(lines["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1


def test_where_close_range_is_forbidden_descriptors_are_closed_all_the_same(monkeypatch):
    monkeypatch.setattr(linux, "has_close_range", lambda: False)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kept = os.dup(0)
            _close_all_but(frozenset({0, 1, 2, kept}))
            code = 0 if open_fds() == {0, 1, 2, kept} else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
