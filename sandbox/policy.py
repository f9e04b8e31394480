"""Policy and limits: what a runner and an attempt may use. Frozen; made by the config, carried as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one attempt may use, its whole tree of processes taken together. 0 is no limit.

    timeout_ms        wall time, kept by the master: the tree is killed.
    soft_timeout_ms   wall time after which `TimeLimit` is raised in the processor.
    silence_ms        time without progress, log row or output after which the tree is killed.
    memory_bytes      memory of its own: what was there when the runner was forked is shared and not counted.
    cpu_ms            CPU time, user and system.
    processes         processes and threads at a time.
    open_files        descriptors of one process.
    file_size_bytes   largest file that it may write.
    output_bytes      what it may print, stdout and stderr together.
    cpus              cores that it may keep busy at a time; kept by a cgroup alone.
    cpu_weight        its share of the CPU when it is short, of 100 for whoever says nothing; the same.
    """

    timeout_ms: int = 0
    soft_timeout_ms: int = 0
    silence_ms: int = 0
    memory_bytes: int = 0
    cpu_ms: int = 0
    processes: int = 0
    open_files: int = 0
    file_size_bytes: int = 0
    output_bytes: int = 0
    cpus: float = 0.0
    cpu_weight: int = 0

    def to_json(self) -> dict[str, float]:
        """Only what is set."""
        return {name: value for name in LIMITS if (value := getattr(self, name))}

    @property
    def watched(self) -> bool:
        """Is any of them kept by the master's looking, and not by one timer or by the kernel?"""
        return bool(
            self.memory_bytes or self.cpu_ms or self.processes or self.silence_ms or self.output_bytes
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Limits:
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})

    def and_smaller(self, other: Limits) -> Limits:
        """Of each limit the smaller one that is set."""
        pairs = ((name, value, getattr(other, name)) for name, value in asdict(self).items())
        return Limits(**{name: min(filter(None, (mine, theirs)), default=0) for name, mine, theirs in pairs})


LIMITS = tuple(field.name for field in fields(Limits))
OF_CGROUP = ("cpus", "cpu_weight")  # of them those that nothing else keeps
LEAST_CPUS = 0.01  # the kernel's least quota, of a period of 100 ms
MOST_WEIGHT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Under what a template and its runners live.

    profile         `none` (debugging), `process` or `strict`.
    result_bytes    largest encoded result or progress value.
    network         strict: sockets of the network families may be made.
    unix_sockets    strict: so may unix sockets.
    pid_namespace   strict: a runner can name no process but its own.
    uid, gid        whom template and runners become, when the master is root; 0 for nobody else.
    readable        strict: paths that may be read besides interpreter, libraries and the user's module.
    writable        strict: paths that may be written besides the runner's own directory.
    require         names of layers without which a runner does not work, whatever the profile.
    jobs_dir        where runners have their directories; empty: none is made.
    """

    profile: str = "process"
    result_bytes: int = 16 * 1024 * 1024
    network: bool = False
    unix_sockets: bool = False
    pid_namespace: bool = False
    uid: int = 0
    gid: int = 0
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    jobs_dir: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Policy:
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {name: value for name, value in values.items() if name in known}
        for name in ("readable", "writable", "require"):
            given[name] = tuple(given.get(name, ()))
        return cls(**given)


def size_text(size: int) -> str:
    """Bytes for a sentence: at most four digits, K = 1024 as in "512M"."""
    for unit, worth in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if size >= worth:
            return f"{size / worth:.3g} {unit}" if size < 100 * worth else f"{size // worth} {unit}"
    return f"{size} bytes"


def time_text(time_ms: int) -> str:
    """Milliseconds for a sentence."""
    return f"{time_ms} ms" if time_ms < 1000 else f"{time_ms / 1000:.4g} s"
