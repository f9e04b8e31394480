"""What a tree of processes uses, read from trees of files that look like /proc."""

from __future__ import annotations

import mmap
import os

import pytest

from supervisor.master.meter import TICK_MS, TreeMeter, Usage

MB = 1024 * 1024


class Proc:
    """A /proc with the processes that the test puts there; `below` is what descendants_of would find."""

    def __init__(self, root) -> None:
        self.root = root
        self.below: list[int] = []

    def put(self, pid, *, mb=0.0, swap_mb=0.0, ticks=(0, 0, 0, 0), tasks=1, parent=1, forked=True):
        place = self.root / str(pid)
        place.mkdir(exist_ok=True)
        flags = 0x40 if forked else 0
        ticks = " ".join(map(str, ticks))
        # The name of a process may contain anything.
        (place / "stat").write_text(
            f"{pid} (a ) 7 b) S {parent} 1 1 0 -1 {flags} 1 2 3 4 {ticks} 20 0 {tasks} 0 5\n"
        )
        (place / "status").write_text(
            f"Name:\tRssAnon: 9 kB\nVmRSS:\t 99999 kB\nRssAnon:\t {int(mb * 1024)} kB\n"
            f"VmSwap:\t {int(swap_mb * 1024)} kB\nThreads:\t{tasks}\n"
        )
        if pid != 10 and pid not in self.below:
            self.below.append(pid)

    def end(self, pid):
        for file in (self.root / str(pid)).iterdir():
            file.unlink()
        (self.root / str(pid)).rmdir()
        if pid in self.below:
            self.below.remove(pid)

    def meter(self):
        return TreeMeter(10, proc=str(self.root), below=lambda pid: list(self.below))


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


def test_what_a_runner_was_forked_with_is_not_counted(proc):
    proc.put(10, mb=100)
    meter = proc.meter()
    assert meter.read() == Usage(0, 0, 1, 1)
    proc.put(10, mb=130, swap_mb=5)
    assert meter.read().memory_bytes == 35 * MB


def test_a_child_that_was_forked_shares_what_its_parent_has(proc):
    """Else four workers of a job that holds 100 MB would count as five times that."""
    proc.put(10, mb=20)
    meter = proc.meter()
    proc.put(10, mb=120)
    for pid in (11, 12, 13, 14):
        proc.put(pid, mb=120, parent=10)
    assert meter.read() == Usage(100 * MB, 0, 5, 5)
    proc.put(12, mb=150, parent=10)
    assert meter.read().memory_bytes == 130 * MB


def test_what_its_parent_has_given_up_is_a_childs_own(proc):
    proc.put(10, mb=20)
    meter = proc.meter()
    proc.put(10, mb=120)
    proc.put(11, mb=120, parent=10)
    meter.read()
    proc.put(10, mb=30)
    assert meter.read().memory_bytes == (10 + 90) * MB


def test_a_daemon_whose_parent_has_ended_keeps_what_it_took_along(proc):
    proc.put(10, mb=20)
    meter = proc.meter()
    proc.put(11, mb=120, parent=10)
    proc.put(12, mb=120, parent=11)
    assert meter.read().memory_bytes == 100 * MB
    proc.end(11)
    proc.put(12, mb=120, parent=10)
    assert meter.read().memory_bytes == 100 * MB


def test_a_process_that_called_exec_shares_nothing(proc):
    proc.put(10, mb=100)
    meter = proc.meter()
    proc.put(11, mb=40, parent=10, forked=False)
    assert meter.read().memory_bytes == 40 * MB


def test_cpu_time_is_that_of_all_and_of_the_children_they_have_reaped(proc):
    proc.put(10, ticks=(1, 2, 3, 4))
    meter = proc.meter()
    proc.put(11, ticks=(10, 0, 0, 20))
    assert meter.read().cpu_ms == 40 * TICK_MS
    assert meter.cpu_ms() == 10 * TICK_MS, "its own and of those it has reaped"
    proc.end(10)
    assert meter.cpu_ms() == 0


def test_threads_count_beside_processes(proc):
    proc.put(10, tasks=3)
    meter = proc.meter()
    proc.put(11, tasks=4)
    usage = meter.read()
    assert (usage.tasks, usage.processes) == (7, 2)


def test_who_ends_while_it_is_read_is_left_out_and_a_dead_runner_has_no_usage(proc):
    proc.put(10, mb=10)
    meter = proc.meter()
    proc.put(11, mb=10)
    proc.below.append(12)
    assert meter.read().processes == 2
    proc.end(10)
    assert meter.read() is None


def test_our_own_process_can_be_read():
    meter = TreeMeter(os.getpid(), below=lambda pid: [])
    # malloc may have so much left of an earlier test
    with mmap.mmap(-1, 30 * MB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ballast:
        for _ in range(30):
            ballast.write(b"x" * MB)
        usage = meter.read()
    assert 29 * MB < usage.memory_bytes < 40 * MB
    assert usage.tasks >= 1 and usage.cpu_ms > 0
