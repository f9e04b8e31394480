"""What the kernel keeps in a delegated cgroup: memory, processes, and that a whole tree ends at one stroke.

Numbers are of the behaviours in isolation.md, section 7. Each harm is followed by what must hold after all of
them: the next job of the queue succeeds, no process of the job is left, and each runner alive has one leaf.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running import until
from units import CGROUPS, Unit, pids_in

from supervisor.blocking import Queue

MEGABYTE = 1 << 20
MASTER_AND_TEMPLATE = 2
PATIENCE_S = 80.0  # a master takes 5 s to start here, and 30 s when the host has other work


@pytest.fixture
def fails(herd: tuple[Unit, Queue]) -> Callable[[str], Any]:
    """Run a job that fails, and look at what must hold whatever it did."""
    run, queue = herd

    def fail(name: str) -> Any:
        wait(run, lambda: run.events("template.started"), "the template starts")
        template = run.events("template.started")[0]["pid"]
        neighbour = queue.add("echo", "neighbour")
        job = queue.add(name, {})
        wait(run, lambda: queue.state(job.id) == "failed", f"{name} fails")
        after = [queue.add("echo", number) for number in range(4)]
        for each in (neighbour, *after):
            wait(run, lambda each=each: queue.state(each.id) == "completed", "the next job runs")
        wait(run, lambda: len(run.leaves()) == 2, f"two runners, two leaves; but: {run.leaves()}")
        wait(run, lambda: len(run.processes()) == MASTER_AND_TEMPLATE + 2, "nobody else is left")
        assert {run.pid, template} < set(run.processes()), "both are those of the beginning"
        return queue.get(job.id)

    return fail


@pytest.fixture
def tidy(herd: tuple[Unit, Queue]) -> Iterator[None]:
    """The disk is as it was, afterwards."""
    yield
    run, queue = herd
    job = queue.add("tidies", {})
    wait(run, lambda: queue.state(job.id) == "completed", "the file is removed")


def wait(run: Unit, fact: Callable[[], Any], what: str) -> None:
    try:
        until(fact, what, PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}; in its unit are {run.processes()}\n{run.story()}") from None


def verdict(job: Any) -> dict[str, Any]:
    assert job.verdicts, job
    return job.verdicts[-1]


# --- leaves --------------------------------------------------------------------------------------------


def test_each_runner_has_a_leaf_of_its_own_and_the_log_says_so(herd):
    run, _ = herd
    wait(run, lambda: run.events("limits.kept"), "how limits are kept is said")
    kept = run.events("limits.kept")[0]
    assert (kept["by"], kept["group"]) == ("cgroup", str(run.cgroup))
    assert (run.cgroup / "supervisor" / "cpu.weight").read_text() == "1000\n"
    wait(run, lambda: [len(pids_in(leaf)) for leaf in run.leaves()] == [1, 1], "two runners, each in a leaf")
    assert not pids_in(run.cgroup)
    assert run.pid in pids_in(run.cgroup / "supervisor")


def test_limits_of_a_job_are_in_its_leaf_while_it_runs_and_not_in_the_next(herd):
    run, queue = herd

    def kernel_says(name: str) -> dict[str, str]:
        job = queue.add(name, {})
        wait(run, lambda: queue.state(job.id) == "completed", f"{name} runs")
        return queue.get(job.id).returned

    limited = kernel_says("limited_where")
    assert limited["memory.oom.group"] == "1"
    assert 64 * MEGABYTE <= int(limited["memory.max"]) <= 128 * MEGABYTE, "what the runner had comes on top"
    assert limited["pids.max"] == "16"
    next_in_it = until(
        lambda: (found := kernel_says("where"))["group"] == limited["group"] and found,
        "the same runner again",
    )
    assert (next_in_it["memory.max"], next_in_it["pids.max"]) == ("max", "max")


# --- shares of the CPU ---------------------------------------------------------------------------------


def test_a_quota_is_in_the_leaf_of_its_job_and_keeps_it_waiting_and_is_gone_with_it(herd):
    run, queue = herd

    def kernel_says(name: str) -> dict[str, str]:
        job = queue.add(name, {})
        wait(run, lambda: queue.state(job.id) == "completed", f"{name} runs")
        return queue.get(job.id).returned

    found = kernel_says("throttled")
    assert (found["cpu.max"], found["cpu.weight"]) == ("20000 100000", "50")
    assert statistics_of(found)["nr_throttled"] > 0, found["cpu.stat"]
    assert statistics_of(found)["throttled_usec"] > 0
    next_in_it = until(
        lambda: (after := kernel_says("where"))["group"] == found["group"] and after,
        "the same runner again",
    )
    assert (next_in_it["cpu.max"], next_in_it["cpu.weight"]) == ("max 100000", "100")
    assert not run.events("limits.unkept")

    os.kill(int(found["pid"]), signal.SIGKILL)
    leaf = CGROUPS / found["group"].lstrip("/")
    wait(run, lambda: not leaf.exists(), "its leaf is taken away")
    wait(run, lambda: len(run.leaves()) == 2, "another runner has one")


def statistics_of(found: dict[str, str]) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in found["cpu.stat"].splitlines())}


# --- memory --------------------------------------------------------------------------------------------


def test_2_a_hog_is_ended_at_its_memory_limit_and_the_verdict_has_limit_and_peak(fails):
    job = fails("hog")
    assert job.failed_reason.startswith("memory limit of 64 MB exceeded: ")
    assert verdict(job)["cause"] == "memory_limit"
    assert 60 * MEGABYTE <= verdict(job)["peak_bytes"] <= 72 * MEGABYTE
    assert verdict(job)["peak_of"] == "attempt"


def test_2_the_memory_of_a_whole_family_is_counted_and_all_of_it_is_ended(fails):
    job = fails("family_of_hogs")
    assert job.failed_reason.startswith("memory limit of 64 MB exceeded: ")
    assert verdict(job)["cause"] == "memory_limit"
    assert 60 * MEGABYTE <= verdict(job)["peak_bytes"] <= 72 * MEGABYTE


def test_23_a_recursion_without_end_is_ended_at_the_memory_limit(fails):
    job = fails("deep")
    assert verdict(job)["cause"] == "memory_limit", job.failed_reason


def test_a_job_below_its_limit_is_left_alone_however_often_it_comes(herd):
    run, queue = herd
    jobs = [queue.add("eater", {"megabytes": 48}) for _ in range(4)]
    wait(run, lambda: all(queue.state(job.id) == "completed" for job in jobs), "they stay below")


def test_a_unit_that_has_no_memory_left_loses_a_runner_and_no_master(oxherd, queue):
    """The limit of the whole unit, which systemd set: nobody's fault, and said so."""
    run = oxherd("--concurrency", "1", properties=("MemoryMax=160M", "MemorySwapMax=0"))
    job, after = queue.add("unlimited_hog", {}), queue.add("echo", "after")
    wait(run, lambda: queue.state(after.id) == "completed", "the next job runs")
    job = queue.get(job.id)
    assert verdict(job)["cause"] == "host_out_of_memory", job.failed_reason
    assert verdict(job)["peak_bytes"] > 60 * MEGABYTE
    assert run.process.poll() is None


# --- processes -----------------------------------------------------------------------------------------


def test_1_a_fork_bomb_is_refused_by_the_kernel_and_ended(fails):
    job = fails("bomb")
    assert job.failed_reason.startswith("limit of 16 processes and threads exceeded: ")
    assert verdict(job)["cause"] == "processes"


def test_14_who_is_in_another_process_every_5_ms_is_ended_all_the_same(fails):
    job = fails("flees")
    assert verdict(job)["cause"] == "wall_time", job.failed_reason


def test_daemons_that_refuse_to_die_are_ended_with_their_job(fails):
    job = fails("daemons")
    assert verdict(job)["cause"] == "wall_time", job.failed_reason


# --- disk ----------------------------------------------------------------------------------------------


def test_4_a_full_disk_fails_the_job_that_filled_it_and_no_other(fails, tidy):
    job = fails("fills")
    assert job.failed_reason == f"[Errno {errno.ENOSPC}] {os.strerror(errno.ENOSPC)}"
    assert job.data["written"] > 8 * MEGABYTE


def test_4_a_file_grows_to_its_limit_and_no_further(fails, tidy):
    job = fails("fills_by_limit")
    assert job.data["written"] == 4 * MEGABYTE
    assert "file" in job.failed_reason and "4 MB" in job.failed_reason
