"""Who a process is: it becomes the user of the policy, and gives up every right.

Also what that user must be able to open before anything is started: a sentence names the first thing that
it cannot.
"""

from __future__ import annotations

import os
import sys

from sandbox import linux


class CannotBecome(Exception):
    """A sentence for people: what stands in the way of being that user."""


def become(uid: int, gid: int) -> None:
    """All ids, the saved ones too, and no other group. Cannot be undone. Clears the parent-death signal."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def is_now(uid: int, gid: int) -> bool:
    return os.getresuid() == (uid,) * 3 and os.getresgid() == (gid,) * 3 and set(os.getgroups()) <= {gid}


def check_paths(here: str, jobs_dir: str) -> None:
    """Open what a template needs, as who we are now. Raises `CannotBecome`."""
    _open("the interpreter", os.path.realpath(sys.executable))
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix)):
        _open("the Python installation" if prefix == sys.base_prefix else "the virtual environment", prefix)
    for path in sys.path:
        if path and path != here and not _is_missing(path):
            _open("an entry of sys.path", path)
    _open("the directory of the module", here)
    if jobs_dir:
        _open("the directory of the jobs", jobs_dir)
        if not os.access(jobs_dir, os.W_OK | os.X_OK):
            raise CannotBecome(f"uid {os.getuid()} may not write to {jobs_dir}, the directory of the jobs")


def _is_missing(path: str) -> bool:
    """Not so when it lies where we may not go: that it is there or not cannot be told then."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _open(what: str, path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotBecome(
            f"uid {os.getuid()}, the user named by the policy, cannot open {what}, {path}: {reason}. "
            "Install Python and the project where that user may read them, as below /opt or /usr"
        ) from None


def drop_capabilities() -> None:
    linux.drop_capabilities()
    left = capabilities()
    if left:
        raise OSError(0, f"capabilities are left: {left:x}")


def capabilities() -> int:
    """What is in force, as bits."""
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 16 * 1024)
    finally:
        os.close(fd)
    for line in text.splitlines():
        if line.startswith(b"CapEff:"):
            return int(line.split()[1], 16)
    return 0
