"""What a run was measured on, and what else the machine did meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path
from typing import Any

from contenders import said, versions
from ground import HERE, TICKS, Ground

from supervisor import __version__


def facts() -> dict[str, Any]:
    """The first line of the kept rows, in parts."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(": ")[2] for line in cpuinfo if "model name" in line), platform.machine())
    redis = said("sh", "-c", "redis-server --version | sed 's/ server v=/ /; s/ sha.*//'")
    return {
        "machine": f"{os.cpu_count()} cores ({model}), Linux {platform.release()}, "
        f"Python {platform.python_version()}, {redis}; load {os.getloadavg()[0]:.1f} at the begin",
        "versions": {"Oxherd": __version__, **versions()},
        "commit": said("git", "-C", str(HERE), "describe", "--always", "--dirty"),
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def line() -> str:
    known = facts()
    return f"{known['machine']}, Oxherd {__version__} at {known['commit']}, {known['date']}"


class Others:
    """How many cores processes outside of the benchmark keep busy, from the making to `cores()`."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._before = self._read()

    def _read(self) -> tuple[float, float, float]:
        fields = [int(text) for text in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
        busy_s = (sum(fields[:3]) + sum(fields[5:8])) / TICKS  # all but idle and waiting for disks
        ours = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        own_s = sum(each.ru_utime + each.ru_stime for each in ours)
        return time.monotonic(), busy_s, own_s + self._ground.spent().cpu_s

    def cores(self) -> float:
        """Children count when they have ended, so this is asked after a worker's end."""
        took_s, busy_s, own_s = (
            after - before for before, after in zip(self._before, self._read(), strict=True)
        )
        return round(max(0.0, busy_s - own_s) / took_s, 2)
