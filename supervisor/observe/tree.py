"""A snapshot of a process and all below it: who uses how much.

A moment's picture for people, taken once in a while; nothing is decided by it. Whether a process still
lives is told by its pidfd, never by this.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Process:
    """cpu_s is user and system time so far; rss_bytes counts pages shared with others in full."""

    pid: int
    parent: int
    title: str
    state: str
    cpu_s: float
    rss_bytes: int


def processes(pid: int) -> list[Process]:
    """`pid` and its descendants by pid, without those that end while we look. Empty when `pid` is gone."""
    # At the top it would cost every command 30 ms.
    import psutil

    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    found = []
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                found.append(
                    Process(
                        pid=process.pid,
                        parent=process.ppid(),
                        title=" ".join(process.cmdline()) or process.name(),
                        state=process.status(),
                        cpu_s=times.user + times.system,
                        rss_bytes=process.memory_info().rss,
                    )
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return sorted(found, key=lambda process: process.pid)


def pss_bytes(pid: int) -> int | None:
    """Memory of one process with shared pages counted by share; None where the kernel does not tell.

    Costs the kernel half a millisecond a process and more: for benchmarks and one look, not for sampling.
    """
    import psutil  # as above

    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return None
