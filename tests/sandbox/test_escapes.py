"""Who wants out of `strict`, and what stops them: each deed is stopped, and by the layer that is named here.

Each deed is done three times, by the same code: under `strict`; under `process`, where it succeeds or meets
another layer, named too, so that a pass under `strict` is not one of the test's own making; and what stops it
must be among the layers that the runner has reported. As root, runners are a user of their own (`[policy]
user`); as anybody else they are who the master is, the harder case.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from small_master import ROOT, Master, Runner

from sandbox import linux

AS_ROOT = os.geteuid() == 0
USER = 65534 if AS_ROOT else 0  # the policy's uid; 0: nobody else
DONE = "done"

FILES = "file_rules"
SIGNALS = "signals_scoped"
ABSTRACT = "abstract_sockets_scoped"
SOCKETS = "sockets_denied"
CALLS = "system_calls_denied"
MEMORY = "not_dumpable"


@dataclass
class Jail:
    """Two runners of one profile, the layers they reported, and what their deeds aim at."""

    layers: set[str]
    runner: Runner
    sibling: Runner
    place: dict[str, Any]

    def tries(self, deed: str, aim: str | None = None) -> str:
        """What became of it: `done`, or the name of the errno."""
        return self.runner.run(deed, self.place.get(aim, aim))


def _python(reader: int) -> str:
    """An interpreter that this user may run: the default one may lie under root's home."""
    code = "import sys; open(sys.executable).close()"
    for path in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run(
            ["setpriv", f"--reuid={reader}", f"--regid={reader}", "--clear-groups", path, "-c", code],
            capture_output=True,
            cwd="/",
        )
        if done.returncode == 0:
            return path
    pytest.skip("no interpreter that another user may read")


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Our package and the processors, where every user may read them."""
    made = Path(tempfile.mkdtemp(prefix="oxherd-escapes-"))
    made.chmod(0o755)
    shutil.copytree(ROOT / "sandbox", made / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    (made / "work").mkdir()
    (made / "work").chmod(0o777)  # where jobs of `process` work; those of `strict` have a directory each
    shutil.copy(ROOT / "tests" / "processors" / "escapes.py", made / "work")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module")
def outside() -> Iterator[Path]:
    """A directory that anybody may write to, with a file that is anybody's."""
    made = Path(tempfile.mkdtemp(prefix="oxherd-outside-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _as_the_master_is() -> Iterator[None]:
    """The real master is not dumpable, so that no process of its uid reads its memory."""
    before = linux.dumpable()
    linux.set_dumpable(False)
    yield
    linux.set_dumpable(before)


@pytest.fixture(scope="module")
def place(outside: Path) -> Iterator[dict[str, Any]]:
    """What the deeds aim at: files, and listeners that the test keeps open."""
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        name = f"oxherd-escapes-{os.getpid()}"
        addresses = {"a socket file": str(outside / "stream"), "an abstract socket": f"@{name}"}
        for address in addresses.values():
            stream = stack.enter_context(socket.socket(socket.AF_UNIX))
            stream.bind("\0" + address[1:] if address.startswith("@") else address)
            stream.listen(64)
        datagram = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagram.bind(str(outside / "datagram"))
        for path in (outside / "stream", outside / "datagram"):
            path.chmod(0o777)
        yield {
            **addresses,
            "a datagram socket file": str(outside / "datagram"),
            "the TCP port": tcp.getsockname()[1],
            "the UDP port": udp.getsockname()[1],
            "the master": os.getpid(),
            "the master's environment": f"/proc/{os.getpid()}/environ",
            "the master's memory": f"/proc/{os.getpid()}/mem",
            "the directory outside": str(outside),
            "a file outside": str(outside / "file"),
            "a new file outside": str(outside / "new"),
        }


class Jails:
    """One jail for each profile that is asked for, kept for all tests of this module."""

    def __init__(self, home: Path, outside: Path, place: dict[str, Any]) -> None:
        self._home, self._outside, self._place = home, outside, place
        self._masters: list[Master] = []
        self._made: dict[tuple[Any, ...], Jail] = {}
        self._python = _python(USER) if AS_ROOT else sys.executable

    def __call__(self, profile: str, **policy: Any) -> Jail:
        key = (profile, *sorted(policy.items()))
        jail = self._made.get(key) or self._made.setdefault(key, self._make(profile, policy))
        # A file that the runner's own user may do anything with, there again whatever became of it.
        target = self._outside / "file"
        (self._outside / "new").unlink(missing_ok=True)
        target.unlink(missing_ok=True)
        target.write_text("untouched")
        target.chmod(0o666)
        if AS_ROOT:
            os.chown(target, USER, USER)
        self._outside.chmod(0o777)
        return jail

    def _make(self, profile: str, policy: dict[str, Any]) -> Jail:
        jobs_dir = Path(tempfile.mkdtemp(prefix="jobs-", dir=self._home))
        jobs_dir.chmod(0o711)
        if AS_ROOT:
            os.chown(jobs_dir, USER, USER)
        master = Master(self._python, self._home / "work", self._home)
        self._masters.append(master)
        answer = master.load("escapes", profile=profile, uid=USER, gid=USER, jobs_dir=str(jobs_dir), **policy)
        assert answer["what"] == "ready", answer
        runner, sibling = master.fork(1), master.fork(2)
        ready = runner.go()
        sibling.go()
        place = {**self._place, "a sibling": sibling.pid, "the template": master.process.pid}
        layers = {name for name, holds, _ in ready["layers"] if holds}
        return Jail(layers, runner, sibling, place)

    def close(self) -> None:
        for each in self._masters:
            each.close()


@pytest.fixture(scope="module")
def jails(home: Path, outside: Path, place: dict[str, Any]) -> Iterator[Jails]:
    made = Jails(home, outside, place)
    yield made
    made.close()


# What a kernel may not have, or a host may have switched off.
UNKNOWN_HERE = {
    "vsock": ("EAFNOSUPPORT",),
    "io_uring": ("EPERM", "ENOSYS"),
    "unshare_user": ("EPERM", "ENOSPC"),
}


# --- the table --------------------------------------------------------------------------------------------

# deed, what it aims at, what stops it under strict, by which layer, what becomes of it under process
ESCAPES = (
    ("read", "a file outside", "EACCES", FILES, DONE),
    ("read", "/etc/shadow", "EACCES", FILES, "EACCES"),  # under process: the file's own mode
    ("read", "the master's environment", "EACCES", MEMORY, "EACCES"),  # the master's own layer
    ("read", "the master's memory", "EACCES", MEMORY, "EACCES"),
    ("list_directory", "the directory outside", "EACCES", FILES, DONE),
    ("list_directory", "/root", "EACCES", FILES, "EACCES"),
    ("write", "a file outside", "EACCES", FILES, DONE),
    ("write", "a new file outside", "EACCES", FILES, DONE),
    ("write_dotdot", "a file outside", "EACCES", FILES, DONE),
    ("write_through_a_symlink", "a file outside", "EACCES", FILES, DONE),
    ("write_through_a_hardlink", "a file outside", "EXDEV", FILES, DONE),
    ("rename_into", "a new file outside", "EACCES", FILES, DONE),
    ("truncate", "a file outside", "EACCES", FILES, DONE),
    ("unlink", "a file outside", "EACCES", FILES, DONE),
    ("write_by_descriptor", "a file outside", "EACCES", FILES, DONE),
    ("tcp", "the TCP port", "EACCES", SOCKETS, DONE),
    ("listen", None, "EACCES", SOCKETS, DONE),
    ("udp", "the UDP port", "EACCES", SOCKETS, DONE),
    ("unix_stream", "a socket file", "EACCES", SOCKETS, DONE),
    ("unix_stream", "an abstract socket", "EACCES", SOCKETS, DONE),
    ("unix_datagram_of_a_pair", "a datagram socket file", "EACCES", SOCKETS, DONE),
    ("unix_datagram_of_a_raw_pair", "a datagram socket file", "EACCES", SOCKETS, DONE),
    ("netlink", None, "EACCES", SOCKETS, DONE),
    ("packet", None, "EACCES", SOCKETS, "EPERM"),  # under process: no right to it
    ("vsock", None, "EACCES", SOCKETS, DONE),
    ("signal_to", "the master", "EPERM", SIGNALS, "EPERM" if AS_ROOT else DONE),  # as root: another user's
    ("signal_to", "a sibling", "EPERM", SIGNALS, DONE),
    ("signal_to", "the template", "EPERM", SIGNALS, DONE),
    ("signal_by_pidfd", "a sibling", "EPERM", SIGNALS, DONE),
    ("ptrace", "the master", "EPERM", CALLS, "EPERM"),  # under process: not dumpable
    ("ptrace", "a sibling", "EPERM", CALLS, "EPERM"),
    ("read_memory_of", "the master", "EPERM", CALLS, "EPERM"),
    ("read_memory_of", "a sibling", "EPERM", CALLS, "EPERM"),
    ("take_descriptor_of", "the master", "EPERM", CALLS, "EPERM"),
    ("take_descriptor_of", "a sibling", "EPERM", CALLS, "EPERM"),
    ("limit_of", "a sibling", "EPERM", CALLS, DONE),
    ("priority_of", "a sibling", "EPERM", CALLS, DONE),
    ("scheduling_of", "a sibling", "EPERM", CALLS, DONE),
    ("affinity_of", "a sibling", "EPERM", CALLS, DONE),
    ("io_uring", None, "EPERM", CALLS, DONE),
    ("mount", None, "EPERM", CALLS, "EPERM"),  # under process: no right to it
    ("unshare_user", None, "EPERM", CALLS, DONE),
)


@pytest.mark.parametrize(
    ("deed", "aim", "stopped", "layer", "elsewhere"),
    ESCAPES,
    ids=[f"{deed}-{aim}".replace(" ", "_") for deed, aim, *_ in ESCAPES],
)
def test_strict_stops_it_and_by_the_layer_named(
    jails: Jails, outside: Path, deed: str, aim: str | None, stopped: str, layer: str, elsewhere: str
):
    strict = jails("strict")
    became = strict.tries(deed, aim)
    assert became == stopped
    assert (outside / "file").read_text() == "untouched"
    assert not (outside / "new").exists()
    assert layer in strict.layers

    # By the same code and under all layers but those of strict: another fate, or a layer that is known.
    process = jails("process")
    assert process.tries(deed, aim) in (elsewhere, *UNKNOWN_HERE.get(deed, ()))
    if layer is not MEMORY:
        assert layer not in process.layers


# How a copy of our package is made that lacks one layer: file, what stands there, what stands there then.
WITHOUT = {
    FILES: ("landlock.py", "linux.landlock_restrict(ruleset_fd)", "pass"),
    SIGNALS: ("landlock.py", "SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if known.scopes else 0", "0"),
    SOCKETS: ("linux.py", "def set_seccomp_filter(program: bytes) -> None:", "{}\n    return"),
    CALLS: ("linux.py", "def set_seccomp_filter(program: bytes) -> None:", "{}\n    return"),
}
# What Landlock stops too, when nobody else does.
STOPPED_TWICE = {"tcp": "tcp_denied", "listen": "tcp_denied"}


@pytest.mark.parametrize("layer", WITHOUT)
def test_without_that_layer_the_same_deeds_are_not_stopped(
    home: Path, outside: Path, place: dict[str, Any], layer: str
):
    """The layer named is the one: a copy of our package that lacks it, and nothing else, lets them pass."""
    file, there, instead = WITHOUT[layer]
    lacking = home / f"without-{layer}"
    shutil.copytree(home / "sandbox", lacking / "sandbox")
    shutil.copytree(home / "work", lacking / "work")
    (lacking / "work").chmod(0o777)
    _edit(lacking / "sandbox" / file, there, instead.format(there))
    _edit(lacking / "sandbox" / "layers.py", "    lacking = [", "    return None\n    lacking = [")
    jails = Jails(lacking, outside, place)
    try:
        jail = jails("strict")
        assert layer not in jail.layers
        for deed, aim, stopped, by, elsewhere in ESCAPES:
            if by == layer and elsewhere == DONE:
                jails("strict")  # what the deed before it did is undone
                became = jail.tries(deed, aim)
                if deed in STOPPED_TWICE:
                    assert STOPPED_TWICE[deed] in jail.layers
                else:
                    assert became != stopped or became in UNKNOWN_HERE.get(deed, ()), (deed, aim)
    finally:
        jails.close()


def _edit(path: Path, there: str, instead: str) -> None:
    text = path.read_text()
    assert text.count(there) == 1, f"{path.name} has changed; so must this test"
    path.write_text(text.replace(there, instead))


@pytest.mark.skipif(AS_ROOT, reason="who has changed its user is not dumpable anyway")
@pytest.mark.parametrize(
    ("deed", "aim"),
    [
        ("ptrace", "a sibling"),
        ("read_memory_of", "a sibling"),
        ("take_descriptor_of", "a sibling"),
    ],
)
def test_without_any_profile_one_runner_gets_at_another(jails: Jails, deed: str, aim: str):
    """So that it is `not_dumpable` that stops it under `process`, where it is the only difference."""
    assert jails("none").tries(deed, aim) == DONE
    assert MEMORY in jails("process").layers


@pytest.mark.parametrize(
    ("aim", "became"),
    [("the master's environment", DONE), ("the master's memory", "EIO")],  # opened; at 0 there is none
)
def test_a_master_that_could_be_dumped_would_be_read(jails: Jails, aim: str, became: str):
    """So that it is the master's own layer that stops it under `process`; as root, another user's file."""
    linux.set_dumpable(True)
    try:
        assert jails("process").tries("read", aim) == ("EACCES" if AS_ROOT else became)
    finally:
        linux.set_dumpable(False)


def test_what_a_runner_starts_is_held_too(jails: Jails):
    assert jails("process").tries("run_a_copy_of_cat", "a file outside") == DONE
    strict = jails("strict")
    assert strict.tries("run_a_copy_of_cat", "a file outside").startswith("exit 1: ")
    assert "Permission denied" in strict.tries("run_a_copy_of_cat", "a file outside")


def test_system_calls_that_no_processor_needs_are_refused_before_they_are_looked_at(jails: Jails):
    names = ["bpf", "keyctl", "perf_event_open", "userfaultfd", "open_by_handle_at", "setns", "chroot"]
    assert jails("strict").runner.run("refused_calls", names) == dict.fromkeys(names, "EPERM")
    elsewhere = jails("process").runner.run("refused_calls", names)
    assert "EBADF" in elsewhere.values() or "EINVAL" in elsewhere.values()


def test_a_c_library_that_knows_clone3_goes_on_with_clone(jails: Jails):
    """Its flags cannot be looked at by a filter, so the call is not there."""
    assert jails("strict").runner.run("refused_calls", ["clone3"]) == {"clone3": "ENOSYS"}


# --- what stays possible ----------------------------------------------------------------------------------


def test_a_job_of_strict_has_a_directory_of_its_own_and_pairs_of_sockets(jails: Jails):
    strict = jails("strict")
    assert strict.tries("write_here", "a-file") == DONE
    assert strict.tries("pair") == DONE
    assert strict.tries("read", "/etc/passwd") == DONE
    assert strict.tries("read", "/proc/self/status") == DONE


def test_a_program_with_the_set_user_id_bit_gives_nothing(jails: Jails):
    """NoNewPrivs is 1, and no capability is in force."""
    assert jails("strict").tries("gain_rights") == "1 0"
    if not AS_ROOT:
        assert jails("process").tries("gain_rights") == "1 0"


def test_the_user_of_the_policy_is_who_runs_the_job(jails: Jails):
    uid = str(USER or os.getuid())
    for profile in ("process", "strict"):
        assert jails(profile).tries("who").split()[:2] == [uid, uid]


def test_with_unix_sockets_allowed_an_abstract_one_outside_stays_out_of_reach(jails: Jails):
    """By the scope of Landlock; a socket file is closed only by its own mode then."""
    loose = jails("strict", unix_sockets=True)
    assert ABSTRACT in loose.layers
    # EPERM by the scope; in a network namespace of its own the name is not even known.
    in_its_own = "network_namespace" in loose.layers
    assert loose.tries("unix_stream", "an abstract socket") == ("ECONNREFUSED" if in_its_own else "EPERM")
    assert loose.tries("tcp", "the TCP port") == "EACCES"


def test_with_the_network_allowed_it_is_there_and_nothing_else(jails: Jails):
    loose = jails("strict", network=True)
    assert loose.tries("tcp", "the TCP port") == DONE
    assert loose.tries("udp", "the UDP port") == DONE
    assert loose.tries("unix_stream", "a socket file") == "EACCES"
    assert loose.tries("write", "a file outside") == "EACCES"


def test_a_path_that_the_policy_names_is_open_and_its_neighbour_is_not(jails: Jails, outside: Path):
    readable = jails("strict", readable=(str(outside),))
    assert readable.tries("read", "a file outside") == DONE
    assert readable.tries("write", "a file outside") == "EACCES"
    writable = jails("strict", writable=(str(outside),))
    assert writable.tries("write", "a file outside") == DONE
    assert writable.tries("read", "/etc/shadow") == "EACCES"


# --- secrets (issue point 10) -----------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["none", "process", "strict"])
def test_a_runner_has_its_link_and_no_other_descriptor(jails: Jails, profile: str):
    """I1: nothing is inherited; not the control link of the template, not a pipe of a sibling."""
    link, *own = jails(profile).tries("descriptors").splitlines()
    assert "socket:" in link
    assert [each.rpartition("/")[2] for each in own] == ["task", "fd"], "by which it counts what is its own"


@pytest.mark.parametrize("profile", ["none", "process", "strict"])
def test_the_memory_of_a_runner_holds_nothing_that_only_the_master_has(jails: Jails, profile: str):
    """I1: the template was started by exec, so what the master's memory holds was never in it."""
    halves = ["only-the-", f"master-knows-{os.getpid()}"]
    os.environ["OXHERD_TEST"] = "".join(halves)
    try:
        assert jails(profile).runner.run("find_in_memory", halves) == "0 times"
    finally:
        del os.environ["OXHERD_TEST"]
    # The search finds what is there: a variable of the runner's own.
    assert jails(profile).runner.run("find_in_memory", ["PYTHONDONT", "WRITEBYTECODE"]) != "0 times"
