"""Namespaces: a process tree that has network, IPC and mounts of its own.

Additions: what they deny is denied by other layers too, so that containers which forbid them can do without.
The template enters them once, and its runners are born in them at no cost.

Only one with no right needs the user namespace, and gets it; who has been given rights by it gives them up
afterwards (`identity.drop_capabilities`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress

from sandbox import linux
from sandbox.paths import SHARED_MEMORY

NAMES = {
    "user_namespace": (linux.CLONE_NEWUSER, "user"),
    "mount_namespace": (linux.CLONE_NEWNS, "mnt"),
    "ipc_namespace": (linux.CLONE_NEWIPC, "ipc"),
    "network_namespace": (linux.CLONE_NEWNET, "net"),
}


def wanted(*, network: bool) -> tuple[str, ...]:
    return tuple(name for name in NAMES if not (network and name == "network_namespace"))


def enter(names: tuple[str, ...]) -> None:
    """Leave for new namespaces, all of these or none. Raises OSError when the host forbids it.

    Tried in a process that is thrown away first: half done it could not be undone.
    """
    number = _in_a_child(lambda: _enter(names))
    if number:
        raise OSError(number, f"the host forbids it: {os.strerror(number)}")
    _enter(names)


def try_pid() -> None:
    """Whether a process of ours may make a PID namespace. Raises OSError if it may not."""
    number = _in_a_child(lambda: linux.unshare(linux.CLONE_NEWPID))
    if number:
        raise OSError(number, f"the host forbids it: {os.strerror(number)}")


def identity_of(name: str) -> str:
    """Which namespace of this kind this process is in."""
    return os.readlink(f"/proc/self/ns/{NAMES[name][1]}")


def _enter(names: tuple[str, ...]) -> None:
    uid, gid = os.geteuid(), os.getegid()
    flags = 0
    for name in names:
        flags |= NAMES[name][0]
    linux.unshare(flags)
    if "user_namespace" in names:
        _map(uid, gid)
    if "mount_namespace" in names and os.path.isdir(SHARED_MEMORY):
        linux.mount_tmpfs(SHARED_MEMORY, "mode=1777")


def _map(uid: int, gid: int) -> None:
    """Uid and gid are what they were. Who is not dumpable does not own the files in which to say so."""
    was_dumpable = linux.dumpable()
    linux.set_dumpable(True)
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    finally:
        linux.set_dumpable(was_dumpable)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _in_a_child(step: Callable[[], None]) -> int:
    """The errno with which it fails in a process that is thrown away, 0 if it does not."""
    pid = os.fork()
    if pid == 0:
        code = errno.EPERM
        try:
            step()
            code = 0
        except OSError as error:
            code = (error.errno or errno.EPERM) & 0xFF
        finally:
            os._exit(code)
    with suppress(ChildProcessError):  # SIGCHLD was inherited as ignored: nothing is known then
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return errno.ECHILD
