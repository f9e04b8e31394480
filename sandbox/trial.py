"""For `oxherd doctor` and `oxherd check`, which start a template and a runner as `oxherd run` does.

`look` is the one job that is run there: a runner looks at itself, and at what of its master it can reach.
`layers_of` is for where there is no runner because a layer that is required cannot be had: it puts in force
what it can, in a process that is thrown away. Neither judges.
"""

from __future__ import annotations

import os
import time
from typing import Any

from sandbox import codec
from sandbox.identity import CannotBecome
from sandbox.isolation import IsolationFailed, isolate_runner, isolate_template
from sandbox.job import Job
from sandbox.policy import Policy

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


def layers_of(policy: Policy, here: str) -> list[tuple[str, bool, str]]:
    """Each layer, whether it is in force, and why not; none when the policy's user cannot be.

    Forks, so only for a process with one thread.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read_end)
            os.write(write_end, codec.encode(_put_in_force(policy, here, write_end)))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as told:
        found = told.read()
    os.waitpid(pid, 0)
    return [(name, in_force, reason) for name, in_force, reason in codec.decode(found or b"[]")]


def _put_in_force(policy: Policy, here: str, kept_fd: int) -> list[list[str | bool]]:
    master_pid = os.getppid()
    try:
        inherited = isolate_template(policy, here, master_pid)
        own = isolate_runner(policy, inherited, master_pid, [kept_fd])
    except (IsolationFailed, CannotBecome):
        return []
    return [each.to_json() for each in (*inherited.layers, *own.layers)]
