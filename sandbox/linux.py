"""The kernel calls that the standard library lacks. The only file with ctypes.

Every function raises OSError when the kernel refuses. It decides nothing: which call is made when, and what a
refusal means, is isolation.py's.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

_IOLBF = 1  # setvbuf: a stream is flushed at each line


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: int = 0) -> int:
    answer = _libc().prctl(option, ctypes.c_ulong(argument), *(ctypes.c_ulong(0),) * 3)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
    return int(answer)


def _prctl_read(option: int) -> int:
    """For the options that answer through a pointer."""
    value = ctypes.c_int(0)
    if _libc().prctl(option, ctypes.byref(value), *(ctypes.c_ulong(0),) * 3) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
    return value.value


def set_parent_death_signal(signum: int) -> None:
    """Be sent `signum` when the thread that is our parent ends. Cleared by fork and by a change of uid."""
    _prctl(PR_SET_PDEATHSIG, signum)


def parent_death_signal() -> int:
    return _prctl_read(PR_GET_PDEATHSIG)


def set_dumpable(value: bool) -> None:
    """Not dumpable: no core file, and no other process of the same uid reads our memory. Reset by exec."""
    _prctl(PR_SET_DUMPABLE, int(value))


def dumpable() -> bool:
    return _prctl(PR_GET_DUMPABLE) != 0


def set_child_subreaper(value: bool) -> None:
    """Become the parent of every orphan below us. Not inherited by fork."""
    _prctl(PR_SET_CHILD_SUBREAPER, int(value))


def child_subreaper() -> bool:
    return _prctl_read(PR_GET_CHILD_SUBREAPER) != 0


def set_no_new_privs() -> None:
    """No exec gains rights any more. Irreversible, inherited."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def no_new_privs() -> bool:
    return _prctl(PR_GET_NO_NEW_PRIVS) != 0


def line_buffer_c_stdout() -> None:
    """Let C's own `stdout` flush at each line. On a pipe it would keep 4 KB back, and `_exit` would lose
    them.
    """
    libc = _libc()
    stream = ctypes.c_void_p.in_dll(libc, "stdout")
    if libc.setvbuf(stream, None, _IOLBF, ctypes.c_size_t(0)) != 0:
        raise OSError(0, "setvbuf(stdout) failed")
