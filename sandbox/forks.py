"""How a template forks its runners, so that the master is their parent (I8).

Once, with clone(2), which can make a child a sibling of who makes it; or twice, so that the middle process
ends and its child comes to the nearest sub-reaper, which is the master. Twice costs one more process a
runner, about 0.8 ms, but is always possible. Which it is, is decided once, when everything is imported: twice
where a loaded library may have handlers of pthread_atfork, which only the C library's own fork calls, where
the kernel or the C library is not known well enough, and where each runner has a PID namespace of its own,
which is made by the process above it.

Decides nothing about runners. The caller has one kernel thread (I5).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from typing import NoReturn

from sandbox import linux
from sandbox.attempt import EXIT_INTERNAL

FORKS_AT_ONCE = 16  # by one middle process: its own fork costs as much as that of a runner

Body = Callable[[], NoReturn]  # what a runner does with its life
Born = int | OSError  # its pid, or why there is none

_BIRTH_NOTE = struct.Struct("!i")  # from the middle process: the runner's pid, or an errno below zero
_ELF = struct.Struct("=4sB35xQ10xHHH")  # magic, class, offset of the sections, their size, number, names
_SECTION = struct.Struct("=4xI16xQQI20x")  # type, offset, size, linked section
_DYNAMIC_SYMBOLS = 11
_C_LIBRARY = ("libc.so", "libc-", "ld-linux", "ld-")


class Forker:
    """One template's way to fork."""

    def __init__(self, *, own_pid_namespaces: bool) -> None:
        """`own_pid_namespaces`: each runner is the first of one, made by a middle process of its own."""
        self._own_pid_namespaces = own_pid_namespaces
        self._pid = os.getpid()
        self._siblings = None if own_pid_namespaces else _siblings()
        self.at_once = 1 if own_pid_namespaces else FORKS_AT_ONCE

    def fork(self, bodies: Sequence[Body]) -> Iterator[Born]:
        """For each body what became of its birth, as soon as it is known."""
        if self._siblings is not None:
            return map(self._sibling, repeat(self._siblings), bodies)
        return iter(self._twice(bodies))

    def _sibling(self, siblings: linux.Siblings, body: Body) -> Born:
        try:
            pid = siblings.fork()
            if pid == 0:
                body()
            return pid
        except OSError as error:
            return OSError(error.errno, f"fork: {error.strerror}")
        finally:
            # Whatever happens, a forked body never unwinds into the template's own stack.
            if os.getpid() != self._pid:
                os._exit(EXIT_INTERNAL)

    def _twice(self, bodies: Sequence[Body]) -> Sequence[Born]:
        """The pids of the runners, the master's children once the middle process has ended."""
        note_read, note_write = os.pipe()
        try:
            middle = os.fork()
            if middle == 0:
                self._be_middle(bodies, note_write)
            os.close(note_write)
            note_write = -1
            notes = _read_all(note_read, len(bodies) * _BIRTH_NOTE.size)
            with suppress(ChildProcessError):  # the user's module has SIGCHLD ignored, or reaps everybody
                os.waitpid(middle, 0)
        except OSError as error:
            return [OSError(error.errno, str(error))] * len(bodies)
        finally:
            os.close(note_read)
            if note_write >= 0:
                os.close(note_write)
        whole = len(notes) // _BIRTH_NOTE.size * _BIRTH_NOTE.size
        told = [number for (number,) in _BIRTH_NOTE.iter_unpack(notes[:whole])]
        silent = OSError(0, "the middle process ended before it had forked")
        born = [pid if pid > 0 else OSError(-pid, f"fork: {os.strerror(-pid)}") for pid in told]
        return [*born, *[silent] * (len(bodies) - len(born))]

    def _be_middle(self, bodies: Iterable[Body], note_write: int) -> NoReturn:
        try:
            if self._own_pid_namespaces:
                with suppress(OSError):  # the runner sees whether it came to be
                    linux.unshare(linux.CLONE_NEWPID)
            for body in bodies:
                try:
                    pid = os.fork()
                except OSError as error:
                    pid = -(error.errno or 1)
                if pid == 0:
                    body()
                os.write(note_write, _BIRTH_NOTE.pack(pid))
            os._exit(0)
        finally:
            os._exit(EXIT_INTERNAL)


def _read_all(fd: int, size: int) -> bytes:
    """So many bytes, or what there is before its end."""
    found = b""
    while len(found) < size and (more := os.read(fd, size - len(found))):
        found += more
    return found


# --- which way ----------------------------------------------------------------------------------------


def _siblings() -> linux.Siblings | None:
    """None when it must be the C library's own fork."""
    try:
        if any(map(_wants_to_know_of_forks, _loaded_files())):
            return None
        return linux.Siblings()
    except OSError:
        return None


def _loaded_files() -> set[str]:
    """The programs and libraries in this process, but for the C library itself."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(None, 5) for line in file]
    paths = {words[5] for words in lines if len(words) == 6 and "x" in words[1] and words[5][0] == "/"}
    return {path for path in paths if not os.path.basename(path).startswith(_C_LIBRARY)}


def _wants_to_know_of_forks(path: str) -> bool:
    """It names pthread_atfork, or what stands behind that; or it cannot be read."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            return any(image.find(b"_atfork\0", begin, end) >= 0 for begin, end in _names_in(image))
    except (OSError, ValueError, struct.error):
        return True


def _names_in(image: mmap.mmap) -> list[tuple[int, int]]:
    """Where the names of its dynamic symbols are; the whole file when it does not say."""
    magic, bits, offset, size, number, _ = _ELF.unpack_from(image)
    if (magic, bits, size) != (b"\x7fELF", 2, 64):
        raise ValueError("not a library of 64 bits")
    sections = [_SECTION.unpack_from(image, offset + place * size) for place in range(number)]
    links = [link for kind, _, _, link in sections if kind == _DYNAMIC_SYMBOLS]
    return [(sections[link][1], sum(sections[link][1:3])) for link in links] or [(0, len(image))]
