"""What the kernel's books say of a death; the books are the test's."""

from __future__ import annotations

import signal

import pytest

from sandbox.policy import Limits
from supervisor.master.attempt import Attempt
from supervisor.master.cgroup import LeafEvents
from supervisor.master.kernel_kills import KernelKills
from supervisor.master.runner import Exit
from supervisor.master.verdicts import Cause

MB = 1024 * 1024
KILLED = Exit(None, signal.SIGKILL)


class Host:
    def __init__(self, place) -> None:
        self.file = place / "vmstat"
        self.kills(3)
        self.kernel = KernelKills(str(self.file))

    def kills(self, count):
        self.file.write_text(f"nr_free_pages 12\noom_kill_else 99\noom_kill {count}\nnuma_hit 7\n")


class Runner:
    leaf = None


class Leaf:
    def __init__(self, *events) -> None:
        self._events = LeafEvents(*events)

    def events(self):
        return self._events

    def peak_bytes(self):
        return 60 * MB


def attempt(**limits):
    made = Attempt(None, 0.0)
    made.limits = Limits(**limits)
    return made


def with_leaf(*events):
    runner = Runner()
    runner.leaf = Leaf(*events)
    return runner


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_kill_that_the_host_counts_is_the_hosts(host):
    """I10: also without a limit of its own."""
    host.kills(4)
    verdict = host.kernel.why(attempt(), Runner(), KILLED)
    assert verdict.cause is Cause.HOST_MEMORY
    assert verdict.reason == "the host was out of memory: the kernel ended the runner"


def test_what_it_used_is_told_when_it_was_seen(host):
    host.kills(4)
    seen = attempt()
    seen.peak_bytes = 5 * MB
    assert host.kernel.why(seen, Runner(), KILLED).reason.endswith("the runner, which used 5 MB")


def test_all_attempts_of_one_runner_die_of_the_same(host):
    host.kills(4)
    runner = Runner()
    causes = [host.kernel.why(attempt(), runner, KILLED).cause for _ in range(3)]
    assert causes == [Cause.HOST_MEMORY] * 3
    assert host.kernel.why(attempt(), Runner(), KILLED) is None, "that one kill is explained"


def test_a_kill_that_nobody_counts_is_not_explained(host):
    assert host.kernel.why(attempt(), Runner(), KILLED) is None
    host.kills(5)
    host.kernel.look()
    assert host.kernel.why(attempt(), Runner(), KILLED) is None, "those were before its birth"


def test_other_deaths_are_not_the_kernels(host):
    host.kills(4)
    for how in (Exit(0, None), Exit(None, signal.SIGSEGV), Exit(None, signal.SIGXCPU)):
        assert host.kernel.why(attempt(), Runner(), how) is None


def test_a_leaf_over_its_own_limit_tells_limit_and_peak(host):
    """I10."""
    verdict = host.kernel.why(attempt(memory_bytes=60 * MB), with_leaf(1, 2, 0), KILLED)
    assert verdict.cause is Cause.MEMORY_LIMIT
    assert verdict.reason == "memory limit of 60 MB exceeded: the kernel ended it at 60 MB"


def test_a_leaf_that_was_not_at_its_limit_met_the_hosts(host):
    verdict = host.kernel.why(attempt(memory_bytes=600 * MB), with_leaf(0, 1, 0), KILLED)
    assert verdict.cause is Cause.HOST_MEMORY and verdict.reason.endswith("which used 60 MB")


def test_a_leaf_is_believed_before_the_host(host):
    """Another group's death is no explanation of ours."""
    host.kills(9)
    assert host.kernel.why(attempt(), with_leaf(0, 0, 0), KILLED) is None


def test_the_kernels_own_limit_on_cpu_time_is_one(host):
    verdict = host.kernel.why(attempt(cpu_ms=2_000), Runner(), Exit(None, signal.SIGXCPU))
    assert (verdict.cause, verdict.reason) == (
        Cause.CPU_TIME,
        "CPU time limit of 2 s exceeded: the kernel ended it",
    )


def test_a_host_that_does_not_count_explains_nothing(tmp_path):
    kernel = KernelKills(str(tmp_path / "missing"))
    assert not kernel.look() and kernel.why(attempt(), Runner(), KILLED) is None
