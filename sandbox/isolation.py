"""Isolation: ordered steps, each answering Applied or Refused(reason).

Two groups. What is inherited by fork and does not hinder forking is done once, by the template, before it
imports the user's module; what is a process's own is done by each runner before it may speak (I6). A step is
read back from the kernel where the kernel tells, or tried where it does not; a layer is never claimed that
was not looked at. Each mechanism has a module of its own; this one has their order, and the reason for it.

What a policy requires is said in `layers.py`; a template refuses before the import when it is not there, and
a runner before READY. What else is refused goes to the master with READY, and is logged there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C half of signal
import faulthandler
import os
import resource
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sandbox import identity, linux, paths, strict
from sandbox.layers import OF_RUNNER, OF_TEMPLATE, Applied, Layer, applied, apply, check, refusal
from sandbox.policy import Policy

OOM_SCORE_ADJUSTMENT = 500  # the kernel ends a runner before it ends the master
REHEARSALS = 10  # as often as the interpreter wants it before it knows its way through a function
ADOPTION_TIMEOUT_S = 5.0  # how long a runner waits to become the master's child

# Python ignores these two so that a closed pipe is an exception; user code counts on it.
IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
# Not those two that the C library keeps to itself, either.
_RESETTABLE = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, 32, 33}))
_RESETTABLE_BITS = sum(1 << (number - 1) for number in _RESETTABLE)
_IGNORED_BITS = sum(1 << (number - 1) for number in IGNORED_BY_PYTHON)
_SIGUSR1, _SIG_IGN, _SIG_DFL = int(signal.SIGUSR1), int(signal.SIG_IGN), int(signal.SIG_DFL)


class IsolationFailed(Exception):
    """A process without this step must not run."""


class IsolationRefused(Exception):
    """A required layer is not in force; a sentence for people."""


# --- inherited: the template, before user code ----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What the template hands to its runners of its own isolation.

    readable    strict: what may be read, for the runners' own rules
    """

    layers: Sequence[Layer]
    readable: Sequence[paths.Root] = ()


def isolate_template(policy: Policy, here: str, master_pid: int) -> Inherited:
    """Everything that a fork hands on. `here` is the directory of the user's module.

    The order matters. oom_score_adj is not writable when not dumpable, and the change of user makes not
    dumpable and clears the parent-death signal. Namespaces come before the file rules, which forbid mounts;
    the system calls are last, because they forbid what the others are made of.

    Raises `IsolationFailed` when the master has gone, `identity.CannotBecome` with a sentence for people.
    """
    layers: list[Layer] = []
    if policy.profile != "none":
        layers += [
            apply("oom_score_adj", _raise_oom_score),
            apply("batch_scheduling", _batch_scheduling),
            apply("no_core", _no_core),
        ]
    if policy.uid:
        layers.append(_become(policy, master_pid))
        identity.check_paths(here, policy.jobs_dir)
    if policy.profile == "strict":
        layers += strict.enter_namespaces(policy)
    if policy.profile != "none":
        layers += [apply("no_new_privs", _no_new_privs), apply("not_dumpable", _not_dumpable)]
    if policy.profile != "strict":
        return Inherited(layers=layers)
    layers += strict.confine_template(policy, here, own_ipc=Applied("ipc_namespace") in layers)
    return Inherited(layers=layers, readable=paths.roots(policy, here))


def refuse_template(policy: Policy, inherited: Inherited) -> None:
    """Before the first byte of user code. Raises `IsolationRefused` when a required layer is not in force."""
    if policy.profile == "strict" and os.geteuid() == 0:
        raise IsolationRefused(
            "profile strict does not run as root, from whom nothing can be kept: name a user in [policy] user"
        )
    _refuse(refusal(policy, inherited.layers, OF_TEMPLATE))


def refuse_runner(policy: Policy, inherited: Inherited, own: Isolated) -> None:
    _refuse(refusal(policy, [*inherited.layers, *own.layers], OF_TEMPLATE | OF_RUNNER))


def _refuse(sentence: str | None) -> None:
    if sentence is not None:
        raise IsolationRefused(sentence)


def _become(policy: Policy, master_pid: int) -> Layer:
    """Not a step that may be refused: nobody's code is run as another user than the one who was named."""
    try:
        identity.become(policy.uid, policy.gid or policy.uid)
        check(identity.is_now(policy.uid, policy.gid or policy.uid), "the change of user")
    except OSError as error:
        raise identity.CannotBecome(f"cannot become uid {policy.uid}: {error.strerror or error}") from None
    die_with(master_pid)
    return Applied("own_user")


def _raise_oom_score() -> None:
    # Raw descriptors: a buffered file would hide the error until it is closed.
    fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        if int(os.read(fd, 16)) < OOM_SCORE_ADJUSTMENT:
            os.pwrite(fd, b"%d" % OOM_SCORE_ADJUSTMENT, 0)
        check(int(os.pread(fd, 16, 0)) >= OOM_SCORE_ADJUSTMENT, "oom_score_adj")
    finally:
        os.close(fd)


def _batch_scheduling() -> None:
    # A runner that is woken by a frame must not push the master off its core in the middle of its round: what
    # the master does next feeds the other runners. Measured: no-op jobs a second +25 %, and for long jobs
    # renewals come sooner. Needs no right, and costs a job nothing while a core is free.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    check(os.sched_getscheduler(0) == os.SCHED_BATCH, "SCHED_BATCH")


def _no_core() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    check(resource.getrlimit(resource.RLIMIT_CORE) == (0, 0), "RLIMIT_CORE")


def _no_new_privs() -> None:
    linux.set_no_new_privs()
    check(linux.no_new_privs(), "NO_NEW_PRIVS")


def _not_dumpable() -> None:
    linux.set_dumpable(False)
    check(not linux.dumpable(), "DUMPABLE=0")


def die_with(parent_pid: int) -> None:
    """Be killed when the parent ends. For the template, which the master itself has started.

    Raises `IsolationFailed` when the parent is gone already: then the signal would never come.
    """
    linux.set_parent_death_signal(signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise IsolationFailed("the master has gone")


# --- own: the runner, before it may speak ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Isolated:
    """A runner's own layers, and its directory: "" for one that has none yet."""

    layers: Sequence[Layer]
    directory: str = ""


def isolate_runner(
    policy: Policy, inherited: Inherited, master_pid: int, kept_fds: Iterable[int]
) -> Isolated:
    """What a runner does for itself, in this order. Raises `IsolationFailed` when it cannot go on.

    kept_fds    open above 2 and still wanted: the link, and what the user's module opened when it was
                imported (closing those under it would let a new descriptor take their numbers).
    """
    layers = [
        apply("own_session", _own_session),
        apply("signals_reset", _reset_signals),
        apply("stdin_null", _null_stdin),
        apply("descriptors_closed", lambda: _close_all_but(frozenset(kept_fds) | {0, 1, 2})),
    ]
    if policy.profile != "none":
        layers.append(apply("subreaper", _subreaper))
    layers.append(apply("parent_death", lambda: _die_with_master(master_pid)))
    if policy.profile != "strict":
        return Isolated(layers)
    own, directory = strict.confine_runner(policy, inherited.readable)
    return Isolated([*layers, *own], directory)


def rehearse() -> None:
    """By a template, before it forks: what is looked for once, and kept, is kept for all runners."""
    for _ in range(REHEARSALS):
        _signals()
        linux.has_close_range()
        linux.child_subreaper()
        linux.parent_death_signal()
        _parent()


def expected(policy: Policy) -> list[Layer]:
    """What `isolate_runner` answers where nothing is refused: what depends on it is thought of beforehand."""
    names = ["own_session", "signals_reset", "stdin_null", "descriptors_closed"]
    names += ["subreaper"] if policy.profile != "none" else []
    names.append("parent_death")
    if policy.profile == "strict":
        names += ["own_directory"] if policy.jobs_dir else []
        names.append("own_files")
        names += ["own_pid_namespace", "no_capabilities"] if policy.pid_namespace else []
    return [applied(name) for name in names]


def _own_session() -> None:
    os.setsid()
    check(os.getsid(0) == os.getpid(), "setsid")


def _reset_signals() -> None:
    """No handler of the template or of the user's import is left, and nothing is blocked. The kernel says
    what there is: a library in C may have put a handler where Python knows of none.

    SIGINT gets its default action too, not Python's: it would raise KeyboardInterrupt anywhere in our loop.
    faulthandler is off until `faults.py` says where it writes.
    """
    # Before the reset, because enabling it again does nothing while it believes that it is on.
    faulthandler.disable()
    faulthandler.unregister(_SIGUSR1)
    blocked, different = _signals()
    for signum in _RESETTABLE if different else ():
        if different >> (signum - 1) & 1:
            # Past the module that makes an enumeration of each: that would take a third of a millisecond.
            _signal.signal(signum, _SIG_IGN if signum in IGNORED_BY_PYTHON else _SIG_DFL)
    if blocked:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if blocked or different:
        check(not any(_signals()), "the reset of signals")


def _signals() -> tuple[int, int]:
    """As bits: what is blocked, and what is handled in another way than it is to be."""
    fd = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 16 * 1024)
    finally:
        os.close(fd)
    begin = text.index(b"\nSigBlk:\t") + 9
    blocked, ignored, caught = (
        int(line.rpartition(b"\t")[2], 16) for line in text[begin - 8 :].split(b"\n", 3)[:3]
    )
    return blocked & _RESETTABLE_BITS, (caught | ignored ^ _IGNORED_BITS) & _RESETTABLE_BITS


def _null_stdin() -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    if fd != 0:
        os.dup2(fd, 0)
        os.close(fd)


def open_fds() -> set[int]:
    """The descriptors of this process."""
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    # The list contains the descriptor that made it, which is closed again by now.
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _close_all_but(kept: frozenset[int]) -> None:
    """I1: nothing of the template's is left; not the control link, not a sibling's pipe.

    Where a container forbids close_range by the list: the stand-in in the standard library tries two thousand
    million numbers.
    """
    if linux.has_close_range():
        first = 0
        for fd in (*sorted(kept), linux.LAST_FD):
            if fd > first:
                linux.close_range(first, fd - 1)
            first = fd + 1
    else:
        for fd in open_fds() - kept:
            os.close(fd)
    count = os.stat("/proc/self/fd").st_size  # since Linux 6.2
    check(0 < count <= len(kept) or open_fds() <= kept, "closing descriptors")


def _subreaper() -> None:
    linux.set_child_subreaper(True)
    check(linux.child_subreaper(), "CHILD_SUBREAPER")


def _die_with_master(master_pid: int) -> None:
    """I8. Set before the middle process has gone, the signal would come from its end, not from the master's.

    So: wait until the master is the parent, set it, and look again, because the master may have died in
    between.
    """
    give_up_at = time.monotonic() + ADOPTION_TIMEOUT_S
    while _parent() != master_pid:
        if time.monotonic() > give_up_at:
            raise IsolationFailed(f"the parent is {_parent()} and not the master, {master_pid}")
        time.sleep(0.000_1)
    linux.set_parent_death_signal(signal.SIGKILL)
    if _parent() != master_pid:
        raise IsolationFailed("the master has gone")
    check(linux.parent_death_signal() == signal.SIGKILL, "PDEATHSIG")


def _parent() -> int:
    """The parent's pid as the master knows it: in a PID namespace getppid() answers 0."""
    pid = os.getppid()
    if pid:
        return pid
    fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 4096).rpartition(b")")[2].split()[1])
    finally:
        os.close(fd)
