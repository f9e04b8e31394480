"""The kernel calls that the standard library lacks. The only file with ctypes.

Every function raises OSError when the kernel refuses. It decides nothing: which call is made when, and what a
refusal means, is isolation.py's.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from functools import cache
from signal import SIGCHLD

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_GET_TID_ADDRESS = 40

SECCOMP_MODE_FILTER = 2

CLONE_PARENT = 0x00008000
CLONE_CHILD_CLEARTID = 0x00200000
CLONE_CHILD_SETTID = 0x01000000
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV = 2, 4

LAST_FD = 0xFFFF_FFFF  # there is never one of this number

# These have the same numbers everywhere.
_SYS_CLOSE_RANGE = 436
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_LANDLOCK_RULE_PATH_BENEATH = 1

# By machine: clone, get_robust_list, set_robust_list, and which argument of clone, from 1 on, is the child's
# tid.
_SIBLING_CALLS = {"x86_64": (56, 274, 273, 4), "aarch64": (220, 100, 99, 5)}

_CAPABILITY_VERSION_3 = 0x20080522

_IOLBF = 1  # setvbuf: a stream is flushed at each line


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@cache
def _prctl_call() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).prctl
    call.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
    return call


def _prctl(option: int, argument: int = 0) -> int:
    answer = _prctl_call()(option, argument, 0, 0, 0)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
    return answer


_told = ctypes.c_int(0)  # made once, before any fork
_told_at = ctypes.addressof(_told)


def _prctl_read(option: int) -> int:
    """For the options that answer through a pointer."""
    _prctl(option, _told_at)
    return _told.value


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


def close_range(first: int, last: int) -> None:
    """Close these descriptors, as far as they are open."""
    if _close_range_call()(_SYS_CLOSE_RANGE, first, last, 0) < 0:
        raise _error("close_range")


@cache
def _close_range_call() -> Callable[..., int]:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.argtypes = (ctypes.c_long, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)
    return call


@cache
def has_close_range() -> bool:
    """Tried on a descriptor that cannot be."""
    try:
        close_range(LAST_FD, LAST_FD)
    except OSError:
        return False
    return True


def line_buffer_c_stdout() -> None:
    """Let C's own `stdout` flush at each line. On a pipe it would keep 4 KB back, and `_exit` would lose
    them.
    """
    libc = _libc()
    stream = ctypes.c_void_p.in_dll(libc, "stdout")
    if libc.setvbuf(stream, None, _IOLBF, ctypes.c_size_t(0)) != 0:
        raise OSError(0, "setvbuf(stdout) failed")


def _syscall(name: str, number: int, *arguments: object) -> int:
    answer = _libc().syscall(ctypes.c_long(number), *arguments)
    if answer < 0:
        raise _error(name)
    return int(answer)


def _error(name: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{name}: {os.strerror(number)}")


# --- forking ----------------------------------------------------------------------------------------------


class Siblings:
    """fork(2), but the child's parent is our parent.

    The C library's fork cannot do that, so what it does for the child is done here: its thread id is put
    where the library keeps it, and its list of robust mutexes is registered. What is not done are the
    handlers of pthread_atfork, which nobody but the library can see; who may have any is forks.py's to ask.
    The caller has one thread, so no lock of the library's is held.

    Raises OSError where the kernel, the machine or the C library is not one that we know this of.
    """

    def __init__(self) -> None:
        machine = os.uname().machine
        if machine not in _SIBLING_CALLS:
            raise OSError(0, f"clone on {machine} is not known")
        clone, get_robust_list, set_robust_list, tid_place = _SIBLING_CALLS[machine]
        tid_address = ctypes.c_void_p()
        if _libc().prctl(PR_GET_TID_ADDRESS, ctypes.byref(tid_address), *(ctypes.c_ulong(0),) * 3) < 0:
            raise _error("prctl(PR_GET_TID_ADDRESS)")
        address = tid_address.value
        if not address or ctypes.c_int.from_address(address).value != os.getpid():
            raise OSError(0, "the C library keeps its thread id elsewhere")
        head, size = ctypes.c_void_p(), ctypes.c_size_t()
        _syscall("get_robust_list", get_robust_list, ctypes.c_int(0), ctypes.byref(head), ctypes.byref(size))
        arguments = [clone, CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, 0, 0, 0, 0]
        arguments[tid_place] = address
        self._clone = tuple(map(ctypes.c_long, arguments))
        self._robust = (ctypes.c_long(set_robust_list), head, size)
        # Not CDLL: it would give up the interpreter's lock, which there is twice between the two lines below.
        self._call = ctypes.PyDLL(None, use_errno=True).syscall
        self._before = ctypes.pythonapi.PyOS_BeforeFork
        self._after_in_parent = ctypes.pythonapi.PyOS_AfterFork_Parent
        self._after_in_child = ctypes.pythonapi.PyOS_AfterFork_Child

    def fork(self) -> int:
        """As os.fork. Raises OSError."""
        sys.audit("os.fork")
        self._before()
        pid = self._call(*self._clone)
        if pid == 0:
            self._after_in_child()
            self._call(*self._robust)
            return 0
        self._after_in_parent()
        if pid < 0:
            raise _error("clone")
        return int(pid)


# --- Landlock ---------------------------------------------------------------------------------------------


def landlock_abi() -> int:
    """Which generation of Landlock the kernel has; from 1."""
    return _syscall(
        "landlock_create_ruleset",
        _SYS_LANDLOCK_CREATE_RULESET,
        None,
        ctypes.c_size_t(0),
        ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION),
    )


def landlock_ruleset(files: int, tcp: int, scoped: int, abi: int) -> int:
    """A descriptor for rules: what of files and TCP is denied but for the rules, and what is scoped."""
    members = (files, tcp, scoped)[: 3 if abi >= 6 else 2 if abi >= 4 else 1]
    attributes = struct.pack(f"={len(members)}Q", *members)
    return _syscall(
        "landlock_create_ruleset",
        _SYS_LANDLOCK_CREATE_RULESET,
        attributes,
        ctypes.c_size_t(len(attributes)),
        ctypes.c_uint32(0),
    )


def landlock_allow(ruleset_fd: int, path_fd: int, access: int) -> None:
    """A rule: this access is allowed to what `path_fd` is, and beneath it."""
    _syscall(
        "landlock_add_rule",
        _SYS_LANDLOCK_ADD_RULE,
        ctypes.c_int(ruleset_fd),
        ctypes.c_int(_LANDLOCK_RULE_PATH_BENEATH),
        struct.pack("=Qi", access, path_fd),
        ctypes.c_uint32(0),
    )


def landlock_restrict(ruleset_fd: int) -> None:
    """From now on the rules hold for this process and all it forks. Needs NO_NEW_PRIVS."""
    _syscall(
        "landlock_restrict_self",
        _SYS_LANDLOCK_RESTRICT_SELF,
        ctypes.c_int(ruleset_fd),
        ctypes.c_uint32(0),
    )


# --- seccomp ----------------------------------------------------------------------------------------------


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def set_seccomp_filter(program: bytes) -> None:
    """Have each system call judged by this BPF program. Irreversible, inherited. Needs NO_NEW_PRIVS."""
    told = _FilterProgram(len(program) // 8, program)
    zero = ctypes.c_ulong(0)
    if _libc().prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(told), zero, zero) < 0:
        raise _error("prctl(PR_SET_SECCOMP)")


def try_syscall(number: int, *arguments: int) -> int:
    """Make a system call for the sake of its error: that number, or 0 when it succeeded."""
    if _libc().syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) < 0:
        return ctypes.get_errno()
    return 0


# --- namespaces and capabilities --------------------------------------------------------------------------


def unshare(flags: int) -> None:
    """Leave the namespaces named by `flags` for new ones."""
    if _libc().unshare(ctypes.c_int(flags)) < 0:
        raise _error("unshare")


def mount_tmpfs(path: str, options: str) -> None:
    flags = ctypes.c_ulong(MS_NOSUID | MS_NODEV)
    if _libc().mount(b"tmpfs", os.fsencode(path), b"tmpfs", flags, options.encode()) < 0:
        raise _error(f"mount {path}")


def drop_capabilities() -> None:
    """None is held any more, and none is handed on."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    if _libc().capset(header, bytes(24)) < 0:
        raise _error("capset")
