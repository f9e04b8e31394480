"""Profile `strict`: what is in force, what it takes to be in force, and what honest processors can still do.

What it stops is in test_escapes.py.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small_master import AS_ROOT, SYSTEM_PYTHON, UID, Master, Place, Runner, in_force, wait_until

from sandbox import linux
from sandbox.landlock import can
from sandbox.wire import Kind

Confined = Callable[..., Master]
ALL = {
    "oom_score_adj", "batch_scheduling", "no_core", "no_new_privs", "not_dumpable", "file_rules",
    "no_capabilities", "system_calls_denied", "sockets_denied", "own_session", "signals_reset", "stdin_null",
    "descriptors_closed", "subreaper", "parent_death", "own_directory", "own_files",
}  # fmt: skip
NAMESPACES = {"user_namespace", "mount_namespace", "ipc_namespace", "network_namespace"}


def fork(master) -> tuple[Runner, set[str]]:
    runner = master.fork()
    return runner, in_force(runner.go())


# --- what is in force -------------------------------------------------------------------------------------


def test_every_layer_is_reported_and_the_kernel_says_the_same(confined: Confined):
    """I6: by the process itself, from inside."""
    runner, layers = fork(confined())
    seen = runner.run("who")

    assert layers >= ALL
    assert ("own_user" in layers) is AS_ROOT
    assert seen["status"]["Seccomp"] == "2"
    assert seen["status"]["NoNewPrivs"] == "1"
    assert int(seen["status"]["CapEff"], 16) == int(seen["status"]["CapPrm"], 16) == 0
    assert seen["uid"] == [UID or os.getuid()] * 3
    for name, kind in (("user_namespace", "user"), ("ipc_namespace", "ipc"), ("network_namespace", "net")):
        assert (name in layers) == (seen["namespaces"][kind] != os.readlink(f"/proc/self/ns/{kind}"))


def test_what_the_kernel_has_of_landlock_is_used(confined: Confined):
    _, layers = fork(confined())
    assert ("signals_scoped" in layers) is can().scopes
    assert ("tcp_denied" in layers) is can().tcp


def test_layers_that_are_only_wanted_are_no_reason_to_refuse(confined: Confined):
    """A host without namespaces, as in many containers."""
    ready = confined(host_without={"unshare"}).fork().go()
    refused = {name: reason for name, applied, reason in ready["layers"] if not applied}
    assert refused.keys() >= NAMESPACES
    assert not refused.keys() & ALL
    assert "the host forbids it: Operation not permitted" in refused["network_namespace"]


def test_what_an_ipc_namespace_keeps_apart_is_denied_where_there_is_none(confined: Confined):
    """Shared memory and queues of the whole host have no file whose rules would hold."""
    lacking = confined(host_without={"unshare"}).runner()
    assert set(lacking.run("of_the_whole_host").values()) == {"EPERM"}

    runner, layers = fork(confined())
    if "ipc_namespace" in layers:
        assert set(runner.run("of_the_whole_host").values()) == {"ENOENT"}  # allowed, and its own


@pytest.mark.parametrize(
    ("policy", "absent"),
    [({"network": True}, {"tcp_denied", "network_namespace"}), ({"unix_sockets": True}, set())],
)
def test_what_the_policy_allows_is_not_reported_as_denied(confined: Confined, policy, absent):
    _, layers = fork(confined(**policy))
    assert not layers & absent
    assert layers >= ALL


def test_a_pid_namespace_hides_every_other_process(confined: Confined):
    master = confined(pid_namespace=True)
    runner = master.fork()
    ready = runner.go()
    seen = runner.run("who")

    assert "own_pid_namespace" in in_force(ready)
    assert seen["pid"] == 1
    assert runner.pid > 1
    assert int(seen["status"]["CapEff"], 16) == 0
    assert runner.run("pools")[1] == [0, 2, 4, 6]


def test_a_runner_in_a_pid_namespace_dies_with_its_master_too(confined: Confined):
    """I8: its parent has no number in there, and is found all the same."""
    master = confined(pid_namespace=True)
    runner = master.runner()
    assert runner.run("who")["pid"] == 1
    os.kill(runner.pid, signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL


# --- what it takes ----------------------------------------------------------------------------------------


def test_a_layer_that_is_required_and_not_there_is_named_before_the_import(new_master, place: Place):
    """I6, I10: nothing of the module has run."""
    master = new_master()
    answer = master.load("broken_at_import", profile="process", require=("file_rules",))
    assert answer["what"] == "failed"
    assert "file_rules" in answer["cause"]
    assert "broken" not in answer["cause"]


@pytest.mark.parametrize(
    ("call", "layer"),
    [("landlock_create_ruleset", "file_rules (no Landlock"), ("seccomp", "system_calls_denied")],
)
def test_a_host_that_lacks_a_layer_of_strict_is_refused_by_name(confined: Confined, call: str, layer: str):
    """No. 34 of the behaviours: and in `process` the same host is good enough."""
    answer = confined(host_without={call}, expected="failed")
    assert layer in answer["cause"]
    assert "profile strict requires what is not in force here" in answer["cause"]
    _, layers = fork(confined(profile="process", host_without={call}))
    assert "no_new_privs" in layers


@pytest.mark.skipif(not AS_ROOT, reason="only root is root")
def test_strict_does_not_run_as_root(new_master, place: Place):
    answer = new_master().load("simple", profile="strict", jobs_dir=str(place.jobs_dir))
    assert answer["what"] == "failed"
    assert "name a user in [policy] user" in answer["cause"]


def test_strict_without_a_place_for_directories_is_refused_by_the_runner(confined: Confined):
    runner = confined(jobs_dir="").fork()
    assert runner.wait() == 70
    assert "own_directory" in runner.output("stderr")


@pytest.mark.skipif(not AS_ROOT, reason="only root can make others its runners' user")
def test_the_first_thing_that_the_user_cannot_open_is_named(new_master, place: Place):
    master = new_master(python=SYSTEM_PYTHON, cwd=place.processors, home=place.home)
    place.processors.chmod(0o700)
    answer = master.load("simple", profile="process", uid=UID, gid=UID, jobs_dir=str(place.jobs_dir))
    assert answer["what"] == "failed"
    assert f"uid {UID}" in answer["cause"]
    assert str(place.processors) in answer["cause"]
    assert "the directory of the module" in answer["cause"]


@pytest.mark.skipif(not AS_ROOT, reason="only root can make others its runners' user")
def test_an_entry_of_the_path_below_what_the_user_may_not_enter_is_named(new_master, place: Place):
    """As the packages of a virtual environment are whose `lib` is closed. What is not there is no trouble."""
    closed = place.made / "closed"
    (closed / "packages").mkdir(parents=True)
    closed.chmod(0o700)
    for path, answer in ((closed / "packages", "failed"), (place.made / "no-such" / "packages", "ready")):
        master = new_master(
            python=SYSTEM_PYTHON, cwd=place.processors, more_env={"PYTHONPATH": f"{place.home}:{path}"}
        )
        told = master.load("simple", profile="process", uid=UID, gid=UID, jobs_dir=str(place.jobs_dir))
        assert told["what"] == answer, told
        assert answer == "ready" or f"cannot open an entry of sys.path, {path}: Permission" in told["cause"]


@pytest.mark.skipif(not AS_ROOT, reason="only root can make others its runners' user")
def test_an_interpreter_that_the_user_cannot_open_is_named(new_master, place: Place):
    way = Path(sys.executable).resolve().parents
    if all(each.stat().st_mode & stat.S_IXOTH for each in way):
        pytest.skip("this interpreter can be opened by everybody")
    master = new_master(cwd=place.processors, home=place.home)
    answer = master.load("simple", profile="process", uid=UID, gid=UID, jobs_dir=str(place.jobs_dir))
    assert "cannot open the interpreter" in answer["cause"]


@pytest.mark.skipif(not AS_ROOT, reason="only root can make others its runners' user")
def test_the_user_of_the_policy_has_nothing_of_roots(confined: Confined):
    """In `process` too: no group, no capability, and it still dies with the master (I8)."""
    runner, layers = fork(confined("confined", profile="process"))
    seen = runner.run("who")
    assert "own_user" in layers
    assert seen["uid"] == seen["gid"] == [UID] * 3
    assert set(seen["groups"]) <= {UID}
    assert int(seen["status"]["CapEff"], 16) == 0


@pytest.mark.parametrize("profile", ["process", "strict"])
def test_the_template_dies_with_the_master_whoever_it_has_become(confined: Confined, profile: str):
    """I8: a change of user clears the signal, so it is asked for again."""
    seen = confined("look", profile=profile).runner().run("import", queue="look")
    assert seen["parent_death"] == signal.SIGKILL
    assert seen["dumpable"] is False


# --- directories ------------------------------------------------------------------------------------------


def test_a_job_of_strict_works_in_an_empty_directory_of_its_runner(confined: Confined, place: Place):
    master = confined()
    one, other = master.runner(), master.runner()
    for _ in range(2):
        seen = one.run("open_relative")
        assert seen["before"] == []
        assert seen["cwd"] == seen["directory"] == str(place.jobs_dir / str(one.pid))
    assert other.run("open_relative")["cwd"] == str(place.jobs_dir / str(other.pid))
    assert os.listdir(place.jobs_dir / str(one.pid)) == []


def test_a_job_of_process_works_where_the_module_is_and_has_a_directory_on_demand(
    confined: Confined, place: Place
):
    master = confined(profile="process")
    runner = master.runner()
    assert place.jobs() == []
    for _ in range(2):
        seen = runner.run("write_into_directory")
        assert seen["before"] == []
        assert seen["cwd"] == str(place.processors)
        assert seen["directory"] == str(place.jobs_dir / str(runner.pid))
    runner.send(Kind.LEAVE)
    assert runner.wait() == 0
    assert place.jobs() == []


@pytest.mark.parametrize("profile", ["process", "strict"])
def test_what_a_job_leaves_is_removed_and_no_link_is_followed(confined: Confined, place: Place, profile: str):
    safe = place.outside / "safe"
    safe.write_text("untouched")
    runner = confined(profile=profile).runner()

    directory = runner.run("leave", str(safe))

    assert os.listdir(directory) == []
    assert safe.read_text() == "untouched"
    assert sorted(os.listdir(place.outside)) == ["safe"]
    assert runner.run("write_into_directory")["before"] == []


def test_the_environment_says_where_temporary_files_go(confined: Confined, place: Place):
    runner = confined().runner()
    assert runner.run("temporary") == str(place.jobs_dir / str(runner.pid))


# --- what stays possible ----------------------------------------------------------------------------------


def test_honest_processors_do_not_notice(confined: Confined):
    runner = confined().runner()
    assert runner.run("databases_and_certificates") == [17, True]
    assert runner.run("programs") == [42, 0]
    assert runner.run("pools") == [[0, 2, 4, 6]] * 3
    assert runner.run("on_a_loop") == [0, 8, "x"]
    assert runner.run("import_late") == 1


def test_secrets_that_lie_beside_the_module_are_not_there(confined: Confined, place: Place):
    """Issue 4, point 10: a config file with the URL, a .env; the module's own files are."""
    names = ["oxherd.toml", ".env", "data.json"]
    if not AS_ROOT:
        pytest.skip("the processors lie in the checkout, where nothing is written")
    for name in names:
        (place.processors / name).write_text("redis://:secret@host")
        (place.processors / name).chmod(0o644)
    strict, process = confined().runner(), confined(profile="process").runner()
    denied = {"oxherd.toml": "PermissionError", ".env": "PermissionError", "data.json": "read"}
    assert strict.run("read_beside", names) == denied
    assert process.run("read_beside", names) == dict.fromkeys(names, "read")


def test_a_path_of_the_policy_may_be_read_or_written(confined: Confined, place: Place):
    (place.outside / "model").write_text("weights")
    (place.outside / "model").chmod(0o644)
    path = os.path.relpath(place.outside / "model", place.processors)
    closed = confined().runner()
    assert closed.run("read_beside", [path]) == {path: "PermissionError"}
    for policy in ({"readable": (str(place.outside),)}, {"writable": (str(place.outside),)}):
        assert confined(**policy).runner().run("read_beside", [path]) == {path: "read"}


def test_a_master_in_the_root_directory_does_not_open_everything_below(
    new_master: Callable[..., Master], place: Place
):
    """As in a container without a WORKDIR: files that lie there are opened, no directory is."""
    outside = place.outside / "file"
    outside.write_text("x")
    outside.chmod(0o644)
    python = SYSTEM_PYTHON if AS_ROOT else sys.executable
    master = new_master(python=python, cwd=Path("/"), home=f"{place.home}:{place.processors}")
    answer = master.load("confined", profile="strict", uid=UID, gid=UID, jobs_dir=str(place.jobs_dir))
    assert answer["what"] == "ready", answer
    runner, layers = fork(master)
    assert "file_rules" in layers
    read = runner.run("read_beside", ["confined.py", str(outside)])
    assert read == {"confined.py": "read", str(outside): "PermissionError"}


def test_the_master_may_still_signal_its_runners(confined: Confined):
    runner = confined().runner()
    runner.start("burn")
    wait_until(lambda: _cpu_ticks(runner.pid) > 0, "the job to run")
    os.kill(runner.pid, signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL


def _cpu_ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[11])


def test_this_process_is_not_confined_by_its_tests():
    assert linux.try_syscall(39 if os.uname().machine == "x86_64" else 172) == 0
