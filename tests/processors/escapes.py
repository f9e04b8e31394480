"""Deeds of who wants out. Each answers what became of it: `done`, or the name of the errno that stopped it.

Standard library only, and nothing is harmed where a deed succeeds: what is signalled gets signal 0, what is
written is a file of the test's own.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.processors import processor

DONE = "done"
_X86 = platform.machine() == "x86_64"
# name -> number here
SYSCALLS = {
    "ptrace": 101 if _X86 else 117,
    "process_vm_readv": 310 if _X86 else 270,
    "mount": 165 if _X86 else 40,
    "unshare": 272 if _X86 else 97,
    "setns": 308 if _X86 else 268,
    "chroot": 161 if _X86 else 51,
    "bpf": 321 if _X86 else 280,
    "keyctl": 250 if _X86 else 219,
    "perf_event_open": 298 if _X86 else 241,
    "userfaultfd": 323 if _X86 else 282,
    "open_by_handle_at": 304 if _X86 else 265,
    "io_uring_setup": 425,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "clone3": 435,
}
PTRACE_SEIZE = 0x4206
CLONE_NEWUSER = 0x1000_0000

_libc = ctypes.CDLL(None, use_errno=True)


def deed(function: Callable[[Any], str | None]) -> Callable[[Any], str]:
    """A processor of the queue `work` that tells the errno instead of raising."""

    def told(job: Any) -> str:
        try:
            return function(job.data) or DONE
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))

    told.__name__ = told.__qualname__ = function.__name__
    return processor("work", name=function.__name__)(told)


def syscall(name: str, *arguments: Any) -> int:
    answer = _libc.syscall(
        ctypes.c_long(SYSCALLS[name]),
        *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments),
    )
    if answer < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(answer)


# --- files --------------------------------------------------------------------------------------------


@deed
def read(path: str) -> None:
    Path(path).read_bytes()


@deed
def list_directory(path: str) -> None:
    os.listdir(path)


@deed
def write(path: str) -> None:
    Path(path).write_text("was here")


@deed
def write_here(name: str) -> None:
    Path(name).write_text("mine")
    assert Path(name).read_text() == "mine"


@deed
def write_dotdot(path: str) -> None:
    """The same file, by a way that begins in our own directory."""
    Path(os.path.relpath(path)).write_text("was here")


@deed
def write_through_a_symlink(path: str) -> None:
    os.symlink(path, "a-symlink")
    try:
        Path("a-symlink").write_text("was here")
    finally:
        os.unlink("a-symlink")


@deed
def write_through_a_hardlink(path: str) -> None:
    os.link(path, "a-hardlink")
    try:
        Path("a-hardlink").write_text("was here")
    finally:
        os.unlink("a-hardlink")


@deed
def rename_into(path: str) -> None:
    Path("mine").write_text("was here")
    os.rename("mine", path)


@deed
def truncate(path: str) -> None:
    os.truncate(path, 0)


@deed
def unlink(path: str) -> None:
    os.unlink(path)


@deed
def write_by_descriptor(path: str) -> None:
    """As a path that is opened first and written by its /proc name."""
    fd = os.open(path, os.O_PATH)
    try:
        Path(f"/proc/self/fd/{fd}").write_text("was here")
    finally:
        os.close(fd)


@deed
def run_a_copy_of_cat(path: str) -> str:
    """What we start is held by what holds us."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(write_end, 1)
            os.dup2(write_end, 2)
            os.execv("/bin/cat", ["cat", path])
        finally:
            os._exit(99)
    os.close(write_end)
    with os.fdopen(read_end) as said:
        text = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return DONE if status == 0 else f"exit {status}: {text.strip()}"


# --- the network --------------------------------------------------------------------------------------


@deed
def tcp(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 5):
        pass


@deed
def listen(_: Any) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()


@deed
def udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.sendto(b"out", ("127.0.0.1", port))


@deed
def unix_stream(address: str) -> None:
    """A socket file, or `@name` for an abstract one."""
    with socket.socket(socket.AF_UNIX) as connecting:
        connecting.settimeout(5)
        connecting.connect("\0" + address[1:] if address.startswith("@") else address)


@deed
def unix_datagram_of_a_pair(address: str) -> None:
    """A datagram socket that socketpair(2) has made may be sent from to any address."""
    _sent_from_a_pair(socket.SOCK_DGRAM, address)


@deed
def unix_datagram_of_a_raw_pair(address: str) -> None:
    """Asked for a raw unix socket the kernel makes one of datagrams."""
    _sent_from_a_pair(socket.SOCK_RAW, address)


def _sent_from_a_pair(kind: int, address: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with ours, theirs:
        ours.sendto(b"out", address)


@deed
def pair(_: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"x")
        assert theirs.recv(1) == b"x"


@deed
def netlink(_: Any) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.bind((0, 0))


@deed
def packet(_: Any) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        pass


@deed
def vsock(_: Any) -> None:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        pass


# --- other processes ----------------------------------------------------------------------------------


@deed
def signal_to(pid: int) -> None:
    os.kill(pid, 0)


@deed
def signal_by_pidfd(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, 0)  # type: ignore[arg-type]
    finally:
        os.close(fd)


@deed
def ptrace(pid: int) -> None:
    syscall("ptrace", PTRACE_SEIZE, pid, 0, 0)


@deed
def read_memory_of(pid: int) -> None:
    """One byte of it, from where our own libc lies: forked processes have it there too."""

    class Piece(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    buffer = ctypes.create_string_buffer(1)
    there = ctypes.cast(_libc.getpid, ctypes.c_void_p).value
    local = Piece(ctypes.addressof(buffer), 1)
    remote = Piece(there, 1)
    syscall("process_vm_readv", pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)


@deed
def take_descriptor_of(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        os.close(syscall("pidfd_getfd", fd, 0, 0))
    finally:
        os.close(fd)


@deed
def limit_of(pid: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.prlimit(pid, resource.RLIMIT_NOFILE))


@deed
def priority_of(pid: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, 1)


@deed
def scheduling_of(pid: int) -> None:
    os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))


@deed
def affinity_of(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))


# --- system calls that are nobody's business ------------------------------------------------------------


@deed
def io_uring(_: Any) -> None:
    parameters = ctypes.create_string_buffer(120)
    os.close(syscall("io_uring_setup", 1, ctypes.byref(parameters)))


@deed
def mount(_: Any) -> None:
    syscall("mount", ctypes.c_char_p(b"none"), ctypes.c_char_p(b"/tmp"), ctypes.c_char_p(b"tmpfs"), 0, None)


@deed
def unshare_user(_: Any) -> None:
    """In a child, so that the runner itself stays where it is."""
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            syscall("unshare", CLONE_NEWUSER)
            status = 0
        except OSError as error:
            status = error.errno or 99
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, "unshare")


@deed
def refused_calls(names: list[str]) -> dict[str, str]:  # type: ignore[misc]
    """What becomes of each when called with nonsense: who filters says EPERM before the nonsense is seen."""
    found = {}
    for name in names:
        try:
            syscall(name, -1, 0, 0, 0, 0)
            found[name] = DONE
        except OSError as error:
            found[name] = errno.errorcode.get(error.errno or 0, "?")
    return found


@deed
def gain_rights(_: Any) -> str:
    """A program with the set-user-id bit gives nothing any more."""
    with open("/proc/self/status") as file:
        found = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return f"{found['NoNewPrivs']} {int(found['CapEff'], 16)}"


# --- what is here ----------------------------------------------------------------------------------------


@deed
def environment(_: Any) -> str:
    return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))


@deed
def descriptors(_: Any) -> str:
    """What each descriptor above 2 is."""
    found = []
    for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
        try:
            found.append(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:
            continue  # the list's own
    return "\n".join(each for each in found if int(each.split()[0]) > 2)


@deed
def find_in_memory(halves: list[str]) -> str:
    """Is this text, given in two halves so that the question is not the answer, anywhere in our memory?"""
    first, second = (half.encode() for half in halves)
    found = 0
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        addresses, rights, _, _, inode, *name = line.split()
        if not rights.startswith("rw") or inode != "0" or name not in ([], ["[heap]"], ["[stack]"]):
            continue  # what was written by nobody, and what lies in a file
        begin, end = (int(part, 16) for part in addresses.split("-"))
        data = ctypes.string_at(begin, end - begin)
        at = data.find(first)
        while at >= 0:
            found += data.startswith(second, at + len(first))
            at = data.find(first, at + 1)
        del data
    return f"{found} times"


@deed
def who(_: Any) -> str:
    return f"{os.getuid()} {os.geteuid()} {os.getcwd()}"
