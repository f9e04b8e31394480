"""What `strict` adds to `process`: files by a list, no network, no system call that no processor needs.

Called by `isolation.py`, which says where in the order it stands. What is in force is tried, not believed:
each step does what must fail from now on.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from sandbox import identity, jobdir, landlock, linux, namespaces, paths, seccomp
from sandbox.layers import Applied, Layer, Refused, apply, check
from sandbox.policy import Policy


def enter_namespaces(policy: Policy) -> list[Layer]:
    names = namespaces.wanted(network=policy.network)
    before = {name: namespaces.identity_of(name) for name in names}
    try:
        namespaces.enter(names)
    except OSError as error:
        return [Refused(name, error.strerror or str(error)) for name in names]
    return [
        Applied(name)
        if namespaces.identity_of(name) != before[name]
        else Refused(name, "it is the same as before")
        for name in names
    ]


def confine_template(policy: Policy, here: str, *, own_ipc: bool) -> list[Layer]:
    """The file rules, then the system calls: those forbid what the others are made of.

    own_ipc   it is in an IPC namespace of its own; else what that would keep apart is denied.
    """
    layers = _landlock(policy, here)
    if policy.pid_namespace:
        # It keeps its capabilities for the namespaces of its runners, and each of those gives them up.
        layers += [apply("pid_namespace", namespaces.try_pid), Applied("no_capabilities")]
    else:
        layers.append(apply("no_capabilities", identity.drop_capabilities))
    return [*layers, *_seccomp(policy, own_ipc)]


def _landlock(policy: Policy, here: str) -> list[Layer]:
    names = ["file_rules", "signals_scoped", "abstract_sockets_scoped"]
    names += [] if policy.network else ["tcp_denied"]
    with _somebody_outside() as outsider:
        try:
            known = landlock.can()
            landlock.restrict(paths.template_rules(policy, here), tcp=policy.network, known=known)
        except OSError as error:
            reason = f"no Landlock: {error.strerror or error}"
            return [Refused(name, reason) for name in names]
        layers = [apply("file_rules", lambda: _file_rules_hold(policy, here))]
        if not known.scopes:
            layers += [Refused(name, _too_old(known, "6.12")) for name in names[1:3]]
        else:
            layers.append(apply("signals_scoped", lambda: _signals_are_scoped(outsider)))
            layers.append(Applied("abstract_sockets_scoped"))
    if not policy.network:
        layers.append(
            apply("tcp_denied", _tcp_is_denied)
            if known.tcp
            else Refused("tcp_denied", _too_old(known, "6.7"))
        )
    return layers


def _too_old(known: landlock.Can, since: str) -> str:
    return f"the kernel's Landlock is of generation {known.abi}; Linux {since} has it"


def _file_rules_hold(policy: Policy, here: str) -> None:
    """The root directory may be listed by anybody, but for the rules; a terminal is opened or is none."""
    allowed = {os.path.realpath(path) for path in (*policy.readable, *policy.writable)}
    if "/" in allowed:
        return
    tried = "/dev/tty" if os.path.realpath(here) == "/" else "/"
    try:
        os.close(os.open(tried, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except (PermissionError, FileNotFoundError):
        return
    except OSError:
        pass
    check(False, "the file rules")


@contextmanager
def _somebody_outside() -> Iterator[int]:
    """A process of our own user that the rules to come do not hold for. The master may be another user's."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write_end)
            os.read(read_end, 1)  # until we are done with it, or dead
        finally:
            os._exit(0)
    os.close(read_end)
    try:
        yield pid
    finally:
        os.close(write_end)
        with suppress(ChildProcessError):  # SIGCHLD was inherited as ignored
            os.waitpid(pid, 0)


def _signals_are_scoped(outsider: int) -> None:
    try:
        os.kill(outsider, 0)
    except PermissionError:
        return
    check(False, "the scope of signals")


def _tcp_is_denied() -> None:
    with socket.socket() as tried:
        number = tried.connect_ex(("127.0.0.1", 1))
    check(number == errno.EACCES, "the ban of TCP")


def _seccomp(policy: Policy, own_ipc: bool) -> list[Layer]:
    names = ["system_calls_denied", "sockets_denied"]
    try:
        machine = seccomp.here()
        linux.set_seccomp_filter(
            seccomp.program(
                machine,
                network=policy.network,
                unix_sockets=policy.unix_sockets,
                pid_namespace=policy.pid_namespace,
                own_ipc=own_ipc,
            )
        )
    except OSError as error:
        reason = error.strerror or str(error)
        return [Refused(name, reason) for name in names]
    return [
        apply("system_calls_denied", lambda: _calls_are_denied(machine, own_ipc)),
        apply("sockets_denied", lambda: _sockets_are_denied(policy)),
    ]


def _calls_are_denied(machine: seccomp.Machine, own_ipc: bool) -> None:
    for name in (
        "io_uring_setup",
        "ptrace",
        "keyctl",
        "sched_setaffinity",
        *(() if own_ipc else ("shmget",)),
    ):
        number = linux.try_syscall(machine.numbers[name], -1, 0, 0, 0)
        check(number == errno.EPERM, f"the ban of {name}")


def _sockets_are_denied(policy: Policy) -> None:
    families = [socket.AF_PACKET]
    families += [] if policy.network else [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK]
    families += [] if policy.unix_sockets else [socket.AF_UNIX]
    for family in families:
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except PermissionError:
            continue
        check(False, f"the ban of sockets of family {family}")
    for kind in () if policy.unix_sockets else (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        except PermissionError:
            continue
        ours.close()
        theirs.close()
        check(False, f"the ban of pairs of sockets of type {kind}")


# --- the runner ---------------------------------------------------------------------------------


def confine_runner(policy: Policy, readable: Sequence[paths.Root]) -> tuple[list[Layer], str]:
    """What a runner adds, and its directory: "" when runners have none."""
    layers: list[Layer] = []
    directory = ""
    if policy.jobs_dir:
        directory = os.path.join(os.path.realpath(policy.jobs_dir), jobdir.own_name())
        layers.append(apply("own_directory", lambda: _move_into(policy.jobs_dir, directory)))
    layers.append(apply("own_files", lambda: _own_files(policy, readable, directory)))
    if policy.pid_namespace:
        layers += [_own_pid_namespace(), apply("no_capabilities", identity.drop_capabilities)]
    return layers, directory


def _move_into(jobs_dir: str, directory: str) -> None:
    """A directory of its own, which is also where temporary files go and where a job starts."""
    jobdir.make(jobs_dir, os.path.basename(directory))
    os.chdir(directory)
    os.environ["TMPDIR"] = directory
    tempfile = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile.tempdir = None  # type: ignore[attr-defined]  # it remembers what it found at import
    check(os.getcwd() == directory, "the working directory")


def _own_files(policy: Policy, readable: Sequence[paths.Root], directory: str) -> None:
    """Of the runners' directories this one only; and no signal to the other runners, nor to the template."""
    landlock.restrict(
        paths.runner_rules(policy, readable, directory), tcp=policy.network, known=landlock.can()
    )
    if not directory:
        return
    try:
        os.close(os.open(os.path.dirname(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        return
    check(False, "the rule for the directories of other runners")


def _own_pid_namespace() -> Layer:
    """The middle process has made it; who is the first in it has the number 1."""
    if os.getpid() == 1:
        return Applied("own_pid_namespace")
    return Refused("own_pid_namespace", "the host forbids it")
