"""Where runners have their directories: one directory a master, for nobody else to read.

Decides where it is: in the temporary directory (TMPDIR). Each runner makes its own below it, called by its
pid, and removes it when it leaves; the master looks once more when it is buried, because most ends are no
leaving.

What a dead master has left is removed by the next one: each holds a lock on its directory while it lives.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox import jobdir
from supervisor.errors import SandboxError

PREFIX: Final = "oxherd-jobs-"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class JobsDir:
    """One directory, made when a template first needs it. Raises `SandboxError` when it cannot be made."""

    def __init__(self, uid: int = 0, gid: int = 0) -> None:
        """`uid`, `gid`: whose runners are; 0 for the master's own."""
        self.path = self._make(uid, gid)

    def _make(self, uid: int, gid: int) -> str:
        try:
            path, self._lock_fd = _new_and_locked()
            if uid:
                os.chown(path, uid, gid)
        except OSError as error:
            raise SandboxError(f"no directory for jobs can be made: {error.strerror or error}") from None
        return path

    def removed(self, pid: int) -> bool:
        """Remove the directory of a runner that is buried, if that is quickly done: there is none, or it is
        empty. False: there is more, for `remove`.
        """
        try:
            os.rmdir(os.path.join(self.path, str(pid)))
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def remove(self, pid: int) -> None:
        """Remove it with all that is in it. May take long: for another thread."""
        with suppress(OSError):
            jobdir.remove(self.path, str(pid))

    def close(self) -> None:
        """Remove it all. No runner lives any more."""
        _remove(self.path)
        os.close(self._lock_fd)


def _new_and_locked() -> tuple[str, int]:
    """Another master that looks for abandoned ones may find it before it is locked: then one more is made."""
    while True:
        path = tempfile.mkdtemp(prefix=PREFIX)
        with suppress(FileNotFoundError, BlockingIOError):
            fd = os.open(path, _DIRECTORY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.stat(path)
            except OSError:
                os.close(fd)
                raise
            return path, fd


def remove_abandoned(uid: int = 0) -> None:
    """Remove the directories of masters that are dead. May take long: for another thread.

    Only what is ours or our runners', and only what nobody has locked.
    """
    for path in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with suppress(OSError):
            fd = os.open(path, _DIRECTORY)
            try:
                if os.fstat(fd).st_uid in (os.geteuid(), uid):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _remove(str(path))
            finally:
                os.close(fd)


def _remove(path: str) -> None:
    with suppress(OSError):
        jobdir.remove(*os.path.split(path))
