"""What a delegated cgroup lets its owner do, tried without Oxherd: prints facts as one line of JSON."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

own = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().strip().partition("::/")[2]
MEGABYTE = 1 << 20


def leaf(name: str, limits: dict[str, str] | None = None) -> Path:
    path = own / name
    path.mkdir()
    for key, value in (limits or {}).items():
        (path / key).write_text(value)
    return path


def inside(path: Path, do: Callable[[], object]) -> int:
    """Fork into the leaf, do it, and never come back."""
    pid = os.fork()
    if pid == 0:
        try:
            (path / "cgroup.procs").write_text("0")
            do()
        finally:
            os._exit(7)
    return pid


def hog() -> None:
    held = []
    while True:
        held.append(bytearray(MEGABYTE))


def family_of_hogs() -> None:
    for _ in range(2):
        if os.fork() == 0:
            signal.pause()
    hog()


def bomb() -> None:
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except BlockingIOError:
            time.sleep(0.01)


def facts(path: Path, name: str) -> dict[str, int]:
    rows = (row.split() for row in (path / name).read_text().splitlines())
    return {key: int(value) for key, value in rows}


def until_empty(path: Path) -> None:
    while facts(path, "cgroup.events")["populated"]:
        time.sleep(0.001)


def main() -> None:
    leaf("supervisor")
    (own / "supervisor/cgroup.procs").write_text("0")
    (own / "cgroup.subtree_control").write_text("+memory +pids +cpu")

    group = leaf("hogs", {"memory.max": str(32 * MEGABYTE), "memory.oom.group": "1"})
    status = os.waitpid(inside(group, family_of_hogs), 0)[1]
    until_empty(group)
    told = {"signal": os.WTERMSIG(status), "memory": facts(group, "memory.events")}
    told["peak"] = int((group / "memory.peak").read_text())
    group.rmdir()

    group = leaf("bombs", {"pids.max": "16"})
    pid = inside(group, bomb)
    while not facts(group, "pids.events")["max"]:
        time.sleep(0.01)
    told["pids"] = int((group / "pids.current").read_text())
    (group / "cgroup.kill").write_text("1")
    told["killed_by"] = os.WTERMSIG(os.waitpid(pid, 0)[1])
    until_empty(group)
    group.rmdir()
    print(json.dumps(told))


if __name__ == "__main__":
    signal.alarm(60)
    main()
