"""What defaults depend on of this host: the CPUs we may use and where state belongs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path


def usable_cpus(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The CPUs this process may use: its affinity, and the quota of its control group where one is set.

    A container with two CPUs' worth of quota on a host of 64 has 64 in its affinity.
    """
    # macOS has no affinity.
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return count
    group = cgroups / path.strip("/")
    for directory in (group, *group.parents):
        if not directory.is_relative_to(cgroups):
            break
        try:
            quota, period = (directory / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue  # the root has no such file
        if quota != "max":
            count = min(count, max(1, math.ceil(int(quota) / int(period))))
    return count


def default_state_dir(env: Mapping[str, str]) -> Path:
    """`$XDG_STATE_HOME/oxherd`, else `~/.local/state/oxherd`."""
    named = env.get("XDG_STATE_HOME", "")
    if named.startswith("/"):  # the specification says to ignore a relative one
        return Path(named) / "oxherd"
    home = env.get("HOME", "")
    return (Path(home) if home else Path("~").expanduser()) / ".local" / "state" / "oxherd"
