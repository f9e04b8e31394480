"""The list of denied system calls, run through an interpreter of its own, for every architecture.

What the kernel makes of it on this one is in tests/sandbox/test_escapes.py.
"""

from __future__ import annotations

import errno
import socket
import struct

import pytest

from sandbox import seccomp
from sandbox.seccomp import AARCH64, X86_64, Machine

ALLOWED = 0
MACHINES = pytest.mark.parametrize("machine", [X86_64, AARCH64], ids=["x86_64", "aarch64"])
# What nobody may take away from a processor, with its numbers on x86_64 and aarch64.
NEEDED = {
    "read": (0, 63), "write": (1, 64), "mmap": (9, 222), "rt_sigaction": (13, 134), "pipe2": (293, 59),
    "clone": (56, 220), "execve": (59, 221), "wait4": (61, 260), "kill": (62, 129), "futex": (202, 98),
    "openat": (257, 56), "getrandom": (318, 278), "memfd_create": (319, 279), "prctl": (157, 167),
    "seccomp": (317, 277), "landlock_restrict_self": (446, 446), "close_range": (436, 436),
}  # fmt: skip

# By their arguments.
JUDGED = {
    "ioctl", "socketpair", "clone", "prlimit64", "setpriority", "ioprio_set",
    "sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr",
}  # fmt: skip


def verdict(program: bytes, machine: Machine, number: int, *arguments: int, arch: int | None = None) -> int:
    """The errno that the filter answers a call with; 0 if it lets it pass."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    arch = machine.audit_arch if arch is None else arch
    data = struct.pack("<IIQ6Q", number, arch, 0, *(each & (1 << 64) - 1 for each in padded))
    lines = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        code, if_true, if_false, operand = lines[at]
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x06:
            return operand & 0xFFFF if operand & 0x7FFF_0000 == 0x0005_0000 else ALLOWED
        else:
            holds = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: accumulator & operand}
            at += if_true if holds[code] else if_false


def filter_of(machine: Machine, **allowed: bool) -> bytes:
    closed = {"network": False, "unix_sockets": False, "pid_namespace": False, "own_ipc": False}
    return seccomp.program(machine, **(closed | allowed))


@MACHINES
def test_what_processors_live_on_passes(machine: Machine):
    for name, numbers in NEEDED.items():
        assert verdict(filter_of(machine), machine, numbers[machine is AARCH64], 17) == ALLOWED, name


@MACHINES
def test_every_name_on_the_list_is_denied(machine: Machine):
    for name, number in machine.numbers.items():
        if name not in JUDGED:
            assert verdict(filter_of(machine), machine, number) != ALLOWED, name
    assert verdict(filter_of(machine), machine, machine.numbers["clone3"]) == errno.ENOSYS


@MACHINES
def test_what_has_a_number_for_the_whole_host_passes_only_in_an_ipc_namespace(machine: Machine):
    """Nothing else of the list does."""
    opened = filter_of(machine, own_ipc=True)
    for name in machine.numbers.keys() - JUDGED:
        passes = verdict(opened, machine, machine.numbers[name], 0) == ALLOWED
        assert passes == (name in seccomp.IPC), name


@MACHINES
def test_another_architecture_is_denied_whatever_it_calls(machine: Machine):
    i386 = 0x4000_0003
    assert verdict(filter_of(machine), machine, 20, arch=i386) == errno.EPERM


def test_the_second_set_of_numbers_of_x86_64_is_denied():
    for number in (0, 1, 41, 101, 520):
        assert verdict(filter_of(X86_64), X86_64, 0x4000_0000 | number) == errno.EPERM


@MACHINES
@pytest.mark.parametrize(
    ("allowed", "families"),
    [
        ({}, set()),
        ({"network": True}, {socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}),
        ({"unix_sockets": True}, {socket.AF_UNIX}),
        (
            {"network": True, "unix_sockets": True},
            {socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_UNIX},
        ),
    ],
)
def test_of_the_families_of_sockets_only_those_allowed_pass(machine: Machine, allowed, families):
    program = filter_of(machine, **allowed)
    passed = {
        family for family in range(64) if verdict(program, machine, machine.numbers["socket"], family) == 0
    }
    assert passed == families
    # The upper half of the register is none of the kernel's business, so it is no way around.
    for family in families ^ {socket.AF_INET, socket.AF_PACKET}:
        assert (verdict(program, machine, machine.numbers["socket"], family | 1 << 32) == 0) == (
            family in families
        )


@MACHINES
def test_of_pairs_only_those_pass_that_cannot_be_sent_from_to_an_address(machine: Machine):
    """RAW is one of datagrams: the kernel makes it so."""
    number, program = machine.numbers["socketpair"], filter_of(machine)
    for flags in (0, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK):
        passing = {
            kind for kind in range(16) if verdict(program, machine, number, socket.AF_UNIX, kind | flags) == 0
        }
        assert passing == {socket.SOCK_STREAM, socket.SOCK_SEQPACKET}


@MACHINES
@pytest.mark.parametrize("unix_sockets", [False, True])
def test_pairs_are_of_unix_sockets_alone(machine: Machine, unix_sockets: bool):
    number, program = machine.numbers["socketpair"], filter_of(machine, unix_sockets=unix_sockets)
    for family in range(64):
        answer = verdict(program, machine, number, family, socket.SOCK_STREAM)
        assert answer == (ALLOWED if family == socket.AF_UNIX else errno.EACCES)
    answers = {verdict(program, machine, number, socket.AF_UNIX, kind) for kind in range(1, 6)}
    assert answers == ({ALLOWED} if unix_sockets else {ALLOWED, errno.EACCES})


@MACHINES
def test_a_new_process_passes_and_a_new_namespace_does_not(machine: Machine):
    clone, program = machine.numbers["clone"], filter_of(machine)
    thread = 0x3D0F00
    assert verdict(program, machine, clone, 17) == verdict(program, machine, clone, thread) == ALLOWED
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(program, machine, clone, 17 | bit) == errno.EPERM


@MACHINES
def test_a_pid_namespace_alone_can_be_made_if_the_policy_has_it(machine: Machine):
    unshare, newpid, newuser = machine.numbers["unshare"], 0x20000000, 0x10000000
    with_it = filter_of(machine, pid_namespace=True)
    assert verdict(with_it, machine, unshare, newpid) == ALLOWED
    assert verdict(with_it, machine, unshare, newpid | newuser) == errno.EPERM
    assert verdict(filter_of(machine), machine, unshare, newpid) == errno.EPERM


@MACHINES
def test_a_process_sets_its_own_limits_and_nobody_elses(machine: Machine):
    number, program = machine.numbers["prlimit64"], filter_of(machine)
    own, other, pointer = 0, 4711, 0x7FFF_0000_1000
    assert verdict(program, machine, number, own, 7, pointer, 0) == ALLOWED
    assert verdict(program, machine, number, other, 7, 0, pointer) == ALLOWED  # asks
    assert verdict(program, machine, number, other, 7, pointer, 0) == errno.EPERM
    assert verdict(program, machine, number, other, 7, 1 << 40, 0) == errno.EPERM  # low half of it is 0


@MACHINES
def test_a_process_says_when_and_where_it_runs_itself_and_of_nobody_else(machine: Machine):
    program = filter_of(machine)
    for name in ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr"):
        assert verdict(program, machine, machine.numbers[name], 0, 8) == ALLOWED, name
        assert verdict(program, machine, machine.numbers[name], 4711, 8) == errno.EPERM, name
    for name, process, group, user in (("setpriority", 0, 1, 2), ("ioprio_set", 1, 2, 3)):
        number = machine.numbers[name]
        assert verdict(program, machine, number, process, 0, 19) == ALLOWED, name
        assert verdict(program, machine, number, group, 0, 19) == ALLOWED, name
        assert verdict(program, machine, number, process, 4711, 19) == errno.EPERM, name
        assert verdict(program, machine, number, group, 4711, 19) == errno.EPERM, name
        assert verdict(program, machine, number, user, 0, 19) == errno.EPERM, f"{name} for all of its user"


@MACHINES
def test_input_is_not_typed_into_a_terminal(machine: Machine):
    number, program = machine.numbers["ioctl"], filter_of(machine)
    assert verdict(program, machine, number, 0, 0x5412) == errno.EPERM
    assert verdict(program, machine, number, 0, 0x5413) == ALLOWED


@MACHINES
def test_the_filter_is_short_enough_to_be_run_at_every_call(machine: Machine):
    assert len(filter_of(machine)) // 8 <= 150


def test_an_architecture_without_a_list_is_told(monkeypatch):
    class Uname:
        machine = "riscv64"

    monkeypatch.setattr(seccomp.os, "uname", Uname)
    with pytest.raises(OSError, match="riscv64"):
        seccomp.here()
