"""The deny list of system calls, as a BPF program. Pure: what applies it is `isolation.py`.

A denied call fails with an error that the job can read; nothing is killed for it. The list is no boundary for
hostile code by itself: it takes away what no processor needs and what the other layers cannot see.

- A program for another architecture (32-bit calls on x86_64 among them) gets EPERM for every call.
- clone3 hides its flags in memory, where a filter cannot look: ENOSYS, upon which C libraries take clone.
- A socketpair of datagrams could be connected to any socket file afterwards (tried), and of the type RAW the
  kernel makes one of datagrams (tried too): so of unix sockets only the pairs of streams and of sequenced
  packets, which cannot be, are allowed. Pairs of another family are nobody's need.
- setting limits is allowed for oneself, not for another process of the same user.
- so is what says when and where a process runs: priority, scheduling, affinity. Else the master, where it is
  the same user, could be made to wait for every job of the host (tried).
- shared memory, semaphores and message queues that have a number or a name for the whole host, and no file
  whose rules would hold, are denied unless the process has an IPC namespace of its own.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits. Little-endian.
_NUMBER, _ARCHITECTURE = 0, 4
_FLAG_X32 = 0x4000_0000

_LOAD, _EQUAL, _SET, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x54, 0x06
_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000

_CLONE_NEW = 0x7E02_0000  # namespaces: mount, cgroup, uts, ipc, user, pid, net
_CLONE_NEWPID = 0x2000_0000
_TYPE_OF_SOCKET = 0xF
_TIOCSTI = 0x5412


@dataclass(frozen=True, slots=True)
class Machine:
    """An architecture: its AUDIT_ARCH number, and the numbers of its calls."""

    audit_arch: int
    numbers: dict[str, int]
    has_x32: bool = False


# Calls that came after 423 have one number everywhere.
_SHARED = {
    "pidfd_getfd": 438, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "clone3": 435, "process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443,
}  # fmt: skip

X86_64 = Machine(
    0xC000_003E,
    {
        **_SHARED,
        "ioctl": 16, "socket": 41, "socketpair": 53, "clone": 56, "ptrace": 101, "syslog": 103,
        "uselib": 134, "vhangup": 153, "modify_ldt": 154, "pivot_root": 155, "adjtimex": 159, "chroot": 161,
        "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168,
        "reboot": 169, "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173,
        "init_module": 175, "delete_module": 176, "quotactl": 179, "lookup_dcookie": 212,
        "clock_settime": 227, "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250,
        "migrate_pages": 256, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
        "fanotify_init": 300, "prlimit64": 302, "open_by_handle_at": 304, "clock_adjtime": 305,
        "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "shmget": 29, "shmat": 30, "shmctl": 31,
        "semget": 64, "semop": 65, "semctl": 66, "semtimedop": 220, "msgget": 68, "msgsnd": 69, "msgrcv": 70,
        "msgctl": 71, "mq_open": 240, "mq_unlink": 241, "setpriority": 141, "sched_setparam": 142,
        "sched_setscheduler": 144, "sched_setaffinity": 203, "ioprio_set": 251, "sched_setattr": 314,
    },
    has_x32=True,
)  # fmt: skip

AARCH64 = Machine(
    0xC000_00B7,
    {
        **_SHARED,
        "lookup_dcookie": 18, "ioctl": 29, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51,
        "vhangup": 58, "quotactl": 60, "acct": 89, "unshare": 97, "kexec_load": 104, "init_module": 105,
        "delete_module": 106, "clock_settime": 112, "syslog": 116, "ptrace": 117, "reboot": 142,
        "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "adjtimex": 171, "socket": 198,
        "socketpair": 199, "add_key": 217, "request_key": 218, "keyctl": 219, "clone": 220, "swapon": 224,
        "swapoff": 225, "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241, "prlimit64": 261,
        "fanotify_init": 262, "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "finit_module": 273, "bpf": 280,
        "userfaultfd": 282, "kexec_file_load": 294, "mq_open": 180, "mq_unlink": 181, "msgget": 186,
        "msgctl": 187, "msgrcv": 188, "msgsnd": 189, "semget": 190, "semctl": 191, "semtimedop": 192,
        "semop": 193, "shmget": 194, "shmctl": 195, "shmat": 196, "ioprio_set": 30, "sched_setparam": 118,
        "sched_setscheduler": 119, "sched_setaffinity": 122, "setpriority": 140, "sched_setattr": 274,
    },
)  # fmt: skip

# Allowed in an IPC namespace of one's own.
IPC = frozenset(
    {
        "shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop",
        "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
    }
)  # fmt: skip

MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}

# For the process that is named first, 0 for oneself; the others for a kind and a number, and here is the kind
# that means all processes of the user.
_OF_A_PROCESS = ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr")
_OF_SOME = {"setpriority": os.PRIO_USER, "ioprio_set": 3}

# Judged by their arguments, or answered in another way than by EPERM.
_SPECIAL = frozenset(
    {"ioctl", "socket", "socketpair", "clone", "clone3", "unshare", "prlimit64", *_OF_A_PROCESS, *_OF_SOME}
)


class NoFilter(OSError):
    """There is no list for this architecture."""


def here() -> Machine:
    """Raises `NoFilter` on an architecture without a list."""
    name = os.uname().machine
    machine = MACHINES.get(name)
    if machine is None:
        raise NoFilter(errno.ENOSYS, f"there is no list of system calls for {name}")
    return machine


def program(
    machine: Machine, *, network: bool, unix_sockets: bool, pid_namespace: bool, own_ipc: bool
) -> bytes:
    """The filter.

    pid_namespace   a new PID namespace may be made, by who has the capability; nothing else of `unshare`.
    own_ipc         the process is in an IPC namespace of its own.
    """
    numbers = machine.numbers
    lines = _Lines()
    lines.add(_LOAD, _ARCHITECTURE)
    lines.when(_EQUAL, machine.audit_arch, otherwise=errno.EPERM)
    lines.add(_LOAD, _NUMBER)
    if machine.has_x32:
        lines.deny_if(_AT_LEAST, _FLAG_X32, errno.EPERM)
    denied = numbers.keys() - _SPECIAL - (IPC if own_ipc else frozenset())
    lines.deny_any_of(sorted(numbers[name] for name in denied), errno.EPERM)
    lines.deny_if(_EQUAL, numbers["clone3"], errno.ENOSYS)
    lines.call(numbers["socket"], _families(network, unix_sockets))
    lines.call(numbers["socketpair"], _pairs(unix_sockets))
    lines.call(numbers["clone"], [*_load(0), (_SET, 0, 1, _CLONE_NEW), _deny(errno.EPERM)])
    lines.call(numbers["ioctl"], [*_load(1), *_deny_if_equal(_TIOCSTI, errno.EPERM)])
    lines.call(numbers["unshare"], _unshare(pid_namespace))
    for name in _OF_A_PROCESS:
        lines.call(numbers[name], [*_load(0), (_EQUAL, 1, 0, 0), _deny(errno.EPERM)])
    for name, of_the_user in _OF_SOME.items():
        body = [*_load(0), *_deny_if_equal(of_the_user, errno.EPERM), *_load(1), (_EQUAL, 1, 0, 0)]
        lines.call(numbers[name], [*body, _deny(errno.EPERM)])
    # Argument 0 is the process, 2 and up the new limits: reading those of another is no harm.
    lines.call(
        numbers["prlimit64"],
        [
            *_load(0), (_EQUAL, 5, 0, 0),
            *_load(2), (_EQUAL, 0, 2, 0),
            *_load(2, high=True), (_EQUAL, 1, 0, 0),
            _deny(errno.EPERM),
        ],
    )  # fmt: skip
    lines.add(_RETURN, _ALLOW)
    return lines.assembled()


_Line = tuple[int, int, int, int]  # code, lines to skip if true, if false, operand


def _load(argument: int, *, high: bool = False) -> list[_Line]:
    return [(_LOAD, 0, 0, 16 + 8 * argument + (4 if high else 0))]


def _deny(number: int) -> _Line:
    return (_RETURN, 0, 0, _ERRNO | number)


def _deny_if_equal(value: int, number: int) -> list[_Line]:
    return [(_EQUAL, 0, 1, value), _deny(number)]


def _families(network: bool, unix_sockets: bool) -> list[_Line]:
    """socket(2): every family but those allowed. There are forty, and some reach further than TCP does."""
    allowed = [socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK] if network else []
    allowed += [socket.AF_UNIX] if unix_sockets else []
    lines = _load(0)
    for place, family in enumerate(allowed):
        lines.append((_EQUAL, len(allowed) - place, 0, family))
    lines.append(_deny(errno.EACCES))
    return lines


def _pairs(unix_sockets: bool) -> list[_Line]:
    lines = [*_load(0), (_EQUAL, 1, 0, int(socket.AF_UNIX)), _deny(errno.EACCES)]
    if unix_sockets:
        return lines
    lines += [*_load(1), (_AND, 0, 0, _TYPE_OF_SOCKET), (_EQUAL, 2, 0, int(socket.SOCK_STREAM))]
    return [*lines, (_EQUAL, 1, 0, int(socket.SOCK_SEQPACKET)), _deny(errno.EACCES)]


def _unshare(pid_namespace: bool) -> list[_Line]:
    if not pid_namespace:
        return [_deny(errno.EPERM)]
    return [*_load(0), (_EQUAL, 1, 0, _CLONE_NEWPID), _deny(errno.EPERM)]


class _Lines:
    """A BPF program under construction. Jumps are counted in lines from the next one."""

    def __init__(self) -> None:
        self._lines: list[_Line] = []

    def add(self, code: int, operand: int) -> None:
        self._lines.append((code, 0, 0, operand))

    def when(self, test: int, operand: int, *, otherwise: int) -> None:
        self._lines += [(test, 1, 0, operand), _deny(otherwise)]

    def deny_if(self, test: int, operand: int, number: int) -> None:
        self._lines += [(test, 0, 1, operand), _deny(number)]

    def deny_any_of(self, calls: Sequence[int], number: int) -> None:
        """One line a call, and one denial for all: at most 256 of them."""
        for after, call in zip(range(len(calls) - 1, -1, -1), calls, strict=True):
            self._lines.append((_EQUAL, after, 0 if after else 1, call))
        self._lines.append(_deny(number))

    def call(self, number: int, body: Sequence[_Line]) -> None:
        """If the call is this one, judge it by `body`; whoever runs through that is allowed."""
        self._lines += [(_EQUAL, 0, len(body) + 1, number), *body, (_RETURN, 0, 0, _ALLOW)]

    def assembled(self) -> bytes:
        return b"".join(struct.pack("=HBBI", *line) for line in self._lines)
