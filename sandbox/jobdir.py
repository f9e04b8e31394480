"""A runner's directory: made, emptied, removed; for the runner itself and for the master that buries it.

What lies in it is a stranger's: symbolic links, directories without rights, trees deeper than any path may be
long. So nothing is opened by more than one name below an open directory, no link is followed, and a tree is
taken apart by moving its branches to the top, two descriptors at a time however deep it is.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import count

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)  # the tree has such a name itself
MOST_PASSES = 100_000  # who goes on writing while we remove is ended by then, or the directory is left


class Home:
    """A runner's directory as its jobs see it: made when the first of them asks for it, unless `path` is
    there already.
    """

    def __init__(self, jobs_dir: str, path: str = "") -> None:
        self._jobs_dir = jobs_dir or os.environ.get("TMPDIR") or "/tmp"
        self._name = "" if jobs_dir else "oxherd-job-"
        self._path = path

    def directory(self) -> str:
        if not self._path or not os.path.isdir(self._path):
            self._path = make(self._jobs_dir, self._name + own_name())
        return self._path

    def tidy(self) -> None:
        """After a job. Raises OSError when something cannot be removed."""
        if self._path:
            try:
                if not is_empty(self._path):
                    empty(self._path)
            except FileNotFoundError:
                self._path = ""

    def remove(self) -> None:
        if self._path:
            remove(*os.path.split(self._path))


def own_name() -> str:
    """What a runner's directory is called: its pid as its master knows it."""
    return os.readlink("/proc/self")


def make(jobs_dir: str, name: str) -> str:
    """A new directory for one runner, for nobody else to read; its path."""
    path = os.path.join(jobs_dir, name)
    os.mkdir(path, 0o700)
    return path


def is_empty(path: str) -> bool:
    try:
        with os.scandir(path) as found:
            return next(found, None) is None
    except PermissionError:  # it has taken its own rights from itself
        return False


def empty(path: str) -> None:
    """Remove all that is in it. Raises OSError when something cannot be."""
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        top = _opened(parent, os.path.basename(path))
    finally:
        os.close(parent)
    try:
        _empty(top)
    finally:
        os.close(top)


def remove(jobs_dir: str, name: str) -> None:
    """Remove a runner's directory, if there is one."""
    with suppress(FileNotFoundError):
        parent = os.open(jobs_dir, _DIRECTORY)
        try:
            _remove(parent, name)
        finally:
            os.close(parent)


def _remove(parent: int, name: str) -> None:
    try:
        top = _opened(parent, name)
    except NotADirectoryError:  # in its place somebody has put a file, or a link
        os.unlink(name, dir_fd=parent)
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(top: int) -> None:
    numbers = count()
    for _ in range(MOST_PASSES):
        names = os.listdir(top)
        if not names:
            return
        for name in names:
            _take_apart(top, name, numbers)
    raise OSError(0, "the directory is filled faster than it is emptied")


def _take_apart(top: int, name: str, numbers: count[int]) -> None:
    """Remove what is at `name`; what a directory contains besides files moves to the top."""
    try:
        os.unlink(name, dir_fd=top)
        return
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    except PermissionError:  # a directory, on file systems that say so; or a file that is held fast
        pass
    directory = _opened(top, name)
    try:
        for inner in os.listdir(directory):
            _lift(directory, inner, top, numbers)
    finally:
        os.close(directory)
    with suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=top)


def _lift(directory: int, name: str, top: int, numbers: count[int]) -> None:
    try:
        os.unlink(name, dir_fd=directory)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        os.close(_opened(directory, name))  # gives us the right to move it
    while True:
        fresh = f".oxherd-{next(numbers)}"
        try:
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=top)
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise


def _opened(parent: int, name: str) -> int:
    """A directory and no link, open and with the rights its owner needs to empty it."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.fstat(handle).st_mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    finally:
        os.close(handle)
