"""cgroup v2: a leaf for each runner, when the master has been given a subtree of its own (Delegate=yes).

Decides whether there is such a subtree and says why not; makes leaves, sets their limits, reads what the
kernel did in them. What a limit is, and what an end means, is watch.py's.

No group may have both processes and groups with limits, so the master moves itself, with whatever it has
started, into a leaf `supervisor`. systemd from 254 on does that for it (DelegateSubgroup=supervisor): then
the group above is the one that was delegated. A runner is put into its leaf before it may speak; what it was
forked with stays charged where it was made, so a leaf begins near nothing.

Every file here may refuse, because the group is somebody else's to take away: the master then goes on without
it for that runner, and looks at /proc instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from sandbox.policy import Limits
from supervisor.master.killing import descendants_of
from supervisor.master.meter import Usage
from supervisor.observe.log import get

log = get("cgroup")

OURS: Final = "supervisor"
LEAF: Final = "runner-"
NEEDED: Final = ("memory", "pids")
WELCOME: Final = ("cpu",)
NO_LIMIT: Final = "max"
PERIOD_US: Final = 100_000  # of a quota: the kernel's own
WEIGHT: Final = 100  # the same
OUR_WEIGHT: Final = 1_000  # against 100 of each runner: who renews locks does not wait for who computes


class Delegated(msgspec.Struct, frozen=True):
    """The group below which we may make others; changed by nobody yet."""

    root: Path
    controllers: frozenset[str]


def delegated(proc: Path = Path("/proc")) -> Delegated | str:
    """The group that was given to this process, or why there is none. Only looks: for `oxherd doctor` too."""
    own = _own_group(proc)
    if isinstance(own, str):
        return own
    root = own.parent if own.name == OURS else own
    try:
        controllers = frozenset((root / "cgroup.controllers").read_text().split())
    except OSError as error:
        return f"{root} cannot be read: {error.strerror}"
    missing = [name for name in NEEDED if name not in controllers]
    if missing:
        return f"{root} has no controller for {' and '.join(missing)}"
    if not (root / "memory.max").exists():
        return f"{root} is the root of all groups, which nobody can be given"
    for path in (root, root / "cgroup.procs", root / "cgroup.subtree_control"):
        if not os.access(path, os.W_OK):
            return f"{root} was not delegated: {path.name} is not writable"
    return Delegated(root, controllers)


def lacks_cpu(found: Delegated | str) -> str:
    """Why the CPU cannot be shared among runners there; empty when it can."""
    if isinstance(found, str):
        return found
    if "cpu" not in found.controllers:
        return f"{found.root} has no controller for cpu"
    if not (found.root / "cpu.max").exists():
        return "this kernel keeps no quotas of CPU time (CONFIG_CFS_BANDWIDTH)"
    return ""


def _own_group(proc: Path) -> Path | str:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
        mounts = (proc / "self/mountinfo").read_text().splitlines()
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    paths = [line.removeprefix("0::") for line in lines if line.startswith("0::")]
    if not paths:
        return "this kernel has no cgroup v2"
    for line in mounts:
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            inner, place = before.split()[3:5]
            if Path(paths[0]).is_relative_to(inner):
                return Path(place) / Path(paths[0]).relative_to(inner)
            return f"{paths[0]} is not below {inner}, all of cgroup v2 that is mounted here"
    return "cgroup v2 is not mounted here"


class LeafEvents(msgspec.Struct, frozen=True):
    """What the kernel did in a leaf since it was made.

    over_memory     how often it met its own limit and nothing could be freed.
    memory_kills    processes that were killed for want of memory, its own limit's or the host's.
    refused_forks   how often the limit on processes refused one.
    """

    over_memory: int = 0
    memory_kills: int = 0
    refused_forks: int = 0


class Leaf:
    """The group of one runner. Also its meter (meter.py): exact, and it counts who has ended already."""

    def __init__(self, path: Path, *, shares_cpu: bool = False) -> None:
        """`shares_cpu`: the CPU too is limited here."""
        self.path = path
        self._shares_cpu = shares_cpu
        self._limits: Limits | None = None  # those that are set
        self._memory_before = 0  # what it used with no job in it
        self._refused_before = 0
        self._last: tuple[LeafEvents, int] | None = None  # events and peak, at its end

    def attach(self, pid: int) -> None:
        """Move a process here; its children to come are born here. Raises OSError."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def ready(self) -> None:
        """The runner has come up: what it uses now is not its jobs'."""
        self._memory_before = self._number("memory.current")

    def set(self, limits: Limits) -> None:
        """Have the kernel keep these from now on. Raises OSError."""
        if self._limits is None or self._limits.processes or limits.processes:
            self._refused_before = self.events().refused_forks
        known = self._limits or Limits()
        if limits.memory_bytes != known.memory_bytes:
            allowed = limits.memory_bytes and self._memory_before + limits.memory_bytes
            self._write("memory.max", allowed)
        if limits.processes != known.processes:
            self._write("pids.max", limits.processes)
        if self._shares_cpu:
            self._share_cpu(limits, known)
        self._limits = limits

    def _share_cpu(self, limits: Limits, known: Limits) -> None:
        if limits.cpus != known.cpus:
            quota_us = f"{round(limits.cpus * PERIOD_US)} {PERIOD_US}" if limits.cpus else NO_LIMIT
            (self.path / "cpu.max").write_text(quota_us)
        if limits.cpu_weight != known.cpu_weight:
            (self.path / "cpu.weight").write_text(str(limits.cpu_weight or WEIGHT))

    def hurry(self) -> None:
        """It is about to be ended: it does not wait for its turn to say its last words, and to die."""
        if self._shares_cpu and self._limits is not None and self._limits.cpus:
            with suppress(OSError):
                (self.path / "cpu.max").write_text(NO_LIMIT)
            self._limits = replace(self._limits, cpus=0.0)

    def _write(self, name: str, value: int) -> None:
        (self.path / name).write_text(str(value or NO_LIMIT))

    def kill(self) -> bool:
        """SIGKILL to all that are in it, at one stroke; False where the kernel cannot (before 5.14)."""
        try:
            (self.path / "cgroup.kill").write_text("1")
        except OSError:
            return False
        return True

    def peak_bytes(self) -> int:
        """The most memory that its jobs used at a time; 0 where the kernel does not say (before 5.19)."""
        if self._last is not None:
            return self._last[1]
        return max(0, self._number("memory.peak") - self._memory_before)

    def events(self) -> LeafEvents:
        if self._last is not None:
            return self._last[0]
        memory, pids = self._table("memory.events"), self._table("pids.events")
        return LeafEvents(memory.get("oom", 0), memory.get("oom_kill", 0), pids.get("max", 0))

    def pids(self) -> list[int]:
        return [int(line) for line in self._text("cgroup.procs").split()]

    def read(self) -> Usage | None:
        """Who was refused a fork counts as if it were there, so that it is seen to be over the limit."""
        used = self._table("cpu.stat").get("usage_usec")
        if used is None or not self._text("memory.current"):
            return None  # gone, or the controllers were taken away from us
        refused = self.events().refused_forks - self._refused_before
        return Usage(
            max(0, self._number("memory.current") - self._memory_before),
            used // 1000,
            self._number("pids.current") + refused,
            len(self.pids()),
        )

    def cpu_ms(self) -> int:
        return self._table("cpu.stat").get("usage_usec", 0) // 1000

    def remove(self) -> bool:
        """Take it away, once all in it are dead; False while one is not. What it told last it tells again."""
        if self._last is None:
            self._last = self.events(), self.peak_bytes()
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _text(self, name: str) -> str:
        try:
            return (self.path / name).read_text()
        except OSError:
            return ""

    def _number(self, name: str) -> int:
        text = self._text(name).strip()
        return int(text) if text.isdigit() else 0

    def _table(self, name: str) -> dict[str, int]:
        pairs = (line.split() for line in self._text(name).splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


class Groups:
    """The delegated subtree, with the master in its leaf and the controllers switched on."""

    def __init__(self, found: Delegated) -> None:
        self.root = found.root
        self.no_cpu = ""  # why the CPU is not shared among runners; empty when it is
        self._dying: list[Leaf] = []  # given up, and not empty yet

    @classmethod
    def find(cls, proc: Path = Path("/proc"), below: Iterable[int] | None = None) -> Groups | str:
        """Take possession of what was delegated; a sentence when there is nothing, or it cannot be had.

        below   all processes that we have started so far, which are moved along.
        """
        found = delegated(proc)
        if isinstance(found, str):
            return found
        ours = {os.getpid(), *(descendants_of(os.getpid()) if below is None else below)}
        groups = cls(found)
        try:
            groups._settle(ours, found.controllers)
        except OSError as error:
            return f"{error.filename or found.root}: {error.strerror or error}"
        return groups

    def _settle(self, ours: set[int], controllers: frozenset[str]) -> None:
        here = {int(line) for line in (self.root / "cgroup.procs").read_text().split()}
        strangers = here - ours
        if strangers:
            raise OSError(0, f"others are in it too, such as process {min(strangers)}", str(self.root))
        home = self.root / OURS
        home.mkdir(exist_ok=True)
        for pid in sorted(here):
            with suppress(ProcessLookupError):
                (home / "cgroup.procs").write_text(str(pid))
        for name in (*NEEDED, *WELCOME):
            if name in controllers:
                (self.root / "cgroup.subtree_control").write_text(f"+{name}")
        weight = home / "cpu.weight"
        if weight.exists():
            weight.write_text(str(OUR_WEIGHT))
        self.no_cpu = lacks_cpu(Delegated(self.root, controllers))
        for left in self.root.glob(f"{LEAF}*"):  # of a master before us, which was killed
            Leaf(left).remove()

    def leaf_for(self, pid: int) -> Leaf | None:
        """A leaf with this process in it; None when the kernel refuses, which the log says."""
        leaf = None
        self.sweep()
        try:
            leaf = self.leaf(str(pid))
            leaf.attach(pid)
        except OSError as error:
            log.warning("cgroup.refused", runner=pid, error=f"{error.filename}: {error.strerror}")
            if leaf is not None:
                self.give_up(leaf)
            return None
        return leaf

    def give_up(self, leaf: Leaf) -> None:
        """Its runner is dead: whatever is left in it is killed, and it is taken away when that has ended."""
        self.sweep()
        if not leaf.remove():
            leaf.kill()
            self._dying.append(leaf)

    def sweep(self) -> bool:
        """Who was killed takes a moment to die: try again; True when nothing is left to be taken away."""
        self._dying = [each for each in self._dying if not each.remove()]
        return not self._dying

    def leaf(self, name: str) -> Leaf:
        """A new, empty group. Raises OSError."""
        path = self.root / f"{LEAF}{name}"
        path.mkdir()
        leaf = Leaf(path, shares_cpu=not self.no_cpu)
        (path / "memory.oom.group").write_text("1")  # a tree that lost one of its processes is no tree
        swap = path / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")  # else a limit on memory would be one on memory that is not swapped out
        return leaf
