"""A module whose import starts threads, under a whole master (I5)."""

from __future__ import annotations

import os
import signal

import pytest
from running import until

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


def test_a_module_that_starts_threads_is_imported_by_each_runner_and_never_forked(oxherd, queue):
    """I5: the template has one kernel thread when it forks, or nothing is forked from what it imported."""
    job = queue.add("names", None)
    running = oxherd("--concurrency", "2", target="threaded", queue=None)

    assert "nightly-refresh" in queue.result(job, timeout_ms=20_000)
    told = running.until("template.has_threads")
    assert "1 thread running (nightly-refresh)" in told["why"]
    template = running.until("template.started")
    assert template["processors"] == 1
    assert len(os.listdir(f"/proc/{template['pid']}/task")) == 1


def test_numpy_as_it_comes_is_imported_once_and_has_its_threads_in_each_runner(oxherd, queue):
    """I5: OpenBLAS ends its threads before a fork, and starts them anew where they are needed."""
    running = oxherd("--concurrency", "2", target="numeric", queue=None)
    template = running.until("template.started")
    assert len(os.listdir(f"/proc/{template['pid']}/task")) == 1
    first = [queue.result(queue.add("any", 400), timeout_ms=20_000) for _ in range(6)]
    assert {total for total, _, _ in first} == {400.0**3}
    alone = len(os.sched_getaffinity(0)) == 1
    assert all(tasks > 1 or alone for _, _, tasks in first), "its threads are there again"
    assert len({pid for _, pid, _ in first}) <= 2, "they are no reason to retire a runner"
    assert not running.events("template.has_threads")


def test_a_runner_and_a_template_of_such_a_module_are_replaced(oxherd, queue):
    """I5, I8."""
    running = oxherd("--concurrency", "1", target="threaded", queue=None)
    template = running.until("template.started")
    (first,) = until(running.runners, "a runner")
    first.kill()
    until(lambda: [each for each in running.runners() if each.pid != first.pid], "another runner")
    os.kill(template["pid"], signal.SIGKILL)
    again = running.until("template.started", 2)
    assert again["pid"] != template["pid"]

    assert "nightly-refresh" in queue.result(queue.add("names", None), timeout_ms=20_000)
    assert len(running.events("template.has_threads")) == 1, "it is known by then"


def test_i10_a_runner_whose_import_crashes_in_c_is_told_with_the_line_that_crashed(oxherd, tmp_path):
    once = tmp_path / "imported-once"
    env = {"IMPORTED_ONCE": str(once)}
    running = oxherd("--concurrency", "1", target="crash_in_runner", queue=None, env=env)
    why = running.until("runner.failed")["error"]
    assert (
        why
        == "it ended with signal 11 (SIGSEGV) in <module> (crash_in_runner.py line 13) before it was ready"
    )
