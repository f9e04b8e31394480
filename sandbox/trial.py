"""The one job of a trial: a runner looks at itself, and at what of its master it can reach.

For `oxherd doctor` and `oxherd check`, which start a template and a runner as `oxherd run` does and have
this run in it. It judges nothing.
"""

from __future__ import annotations

import os
import time
from typing import Any

from sandbox.job import Job

OUR_PREFIX = "OXHERD_"


def look(job: Job) -> dict[str, Any]:
    """What this process is and sees.

    first_line_at    on the clock that all processes of a host share
    pss_bytes        of this process; private_bytes of it are shared with nobody. None: the kernel did not say
    readable         what of the master's /proc can be opened: environ, mem
    variables        of ours that it has inherited; none is right
    """
    first_line_at = time.monotonic()
    master = job.data["master"]
    return {
        "first_line_at": first_line_at,
        "uid": os.geteuid(),
        "readable": [name for name in ("environ", "mem") if _can_read(f"/proc/{master}/{name}")],
        "variables": sorted(name for name in os.environ if name.startswith(OUR_PREFIX)),
        **_memory(),
    }


def _can_read(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _memory() -> dict[str, int | None]:
    found: dict[str, int] = {}
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                name, value, _ = line.split()
                found[name.rstrip(":")] = int(value) * 1024
    except (OSError, ValueError):
        return {"pss_bytes": None, "private_bytes": None}
    private = found.get("Private_Clean", 0) + found.get("Private_Dirty", 0)
    return {"pss_bytes": found.get("Pss"), "private_bytes": private}
