"""The kernel's limits of an attempt: in force while it runs, gone when it is over.

What the master limits itself (memory, CPU time, processes of a tree) is in its own tests; here only that
the kernel's limit stands above. What harms has a limit in force before it begins, as anybody but root.
"""

from __future__ import annotations

import json
import resource
import signal

import pytest
from small_master import AS_ROOT, Runner

from sandbox.policy import Limits
from sandbox.rlimits import CPU_GRACE_S, MEMORY_FACTOR, MEMORY_GRACE_BYTES, PROCESSES_GRACE, Shared
from sandbox.wire import Kind

MB = 1 << 20


@pytest.fixture
def runner(confined) -> Runner:
    return confined(profile="process").runner()


def test_a_job_without_limits_has_those_of_its_runner(runner: Runner):
    seen = runner.run("limits")
    assert seen["NOFILE"] == list(resource.getrlimit(resource.RLIMIT_NOFILE))
    assert seen["FSIZE"] == list(resource.getrlimit(resource.RLIMIT_FSIZE))


def test_limits_are_set_for_the_job_that_has_them_and_for_no_other(runner: Runner):
    before = runner.run("limits")
    limits = {"open_files": 77, "file_size_bytes": 3 * MB, "cpu_ms": 1500, "memory_bytes": 64 * MB}

    seen = runner.run("limits", limits=limits)

    assert seen["NOFILE"] == [77, before["NOFILE"][1]]
    assert seen["FSIZE"] == [3 * MB, before["FSIZE"][1]]
    used_s = 2  # the runner has done next to nothing before
    assert 2 + CPU_GRACE_S <= seen["CPU"][0] <= 2 + CPU_GRACE_S + used_s
    least = MEMORY_FACTOR * 64 * MB + MEMORY_GRACE_BYTES
    assert least < seen["DATA"][0] < least + 200 * MB
    assert runner.run("limits") == before


def test_several_jobs_of_a_process_have_each_what_it_may_at_least():
    def now():
        return [resource.getrlimit(which)[0] for which in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]

    before, shared = now(), Shared()
    try:
        shared.begin(1, Limits(open_files=200, file_size_bytes=3 << 30))
        assert now() == [200, 3 << 30]
        shared.begin(2, Limits(open_files=150))
        assert now() == [200, before[1]], "one may write what it likes"
        shared.end(1)
        assert now() == [150, before[1]]
        shared.begin(3, Limits())
        assert now() == before
        shared.end(2)
        shared.begin(4, Limits(open_files=100, memory_bytes=1, cpu_ms=1))
    finally:
        for attempt in (3, 4):
            shared.end(attempt)
    assert now() == before


def test_more_descriptors_than_the_host_gives_unasked_are_given(runner: Runner):
    soft, hard = runner.run("limits")["NOFILE"]
    if soft == hard:
        pytest.skip("the host gives all it has unasked")
    assert runner.run("limits", limits={"open_files": soft + 1})["NOFILE"] == [soft + 1, hard]
    assert runner.run("limits", limits={"open_files": hard + 1})["NOFILE"] == [hard, hard]


def test_processes_are_counted_by_the_kernel_only_for_a_user_of_their_own(confined):
    """RLIMIT_NPROC counts all of a user's processes: of the master's user they are not the runner's alone."""
    runner = confined(profile="process").runner()
    before = runner.run("limits")["NPROC"]
    seen = runner.run("limits", limits={"processes": 5})["NPROC"]
    if AS_ROOT and before[0] > 5000:
        assert 5 + PROCESSES_GRACE < seen[0] < 5 + PROCESSES_GRACE + 1000
    else:
        assert seen == before


def test_a_file_that_grows_too_large_is_an_error_of_the_job(runner: Runner):
    failure = runner.fail("fill", limits={"file_size_bytes": MB})
    assert "File too large" in failure["reason"]
    assert runner.run("limits")["FSIZE"][0] == resource.getrlimit(resource.RLIMIT_FSIZE)[0]


def test_too_many_descriptors_are_an_error_of_the_job(runner: Runner):
    failure = runner.fail("many_files", limits={"open_files": 50})
    assert "Too many open files" in failure["reason"]
    runner.run("limits")


@pytest.mark.parametrize("profile", ["process", "strict"])
def test_memory_far_above_the_limit_is_never_given(confined, profile: str):
    """What a processor takes between two looks of the master."""
    runner = confined(profile=profile).runner()
    failure = runner.fail("hog", limits={"memory_bytes": 16 * MB})
    assert "MemoryError" in failure["reason"] + failure["stack"]
    assert runner.run("limits")["DATA"][0] == resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_cpu_time_above_the_limit_ends_the_runner_if_the_master_does_not(runner: Runner):
    runner.start("burn", limits={"cpu_ms": 1})
    assert runner.wait() == -signal.SIGXCPU


def test_cpu_time_that_earlier_jobs_have_used_is_not_counted(runner: Runner):
    for _ in range(3):
        seen = runner.run("limits", limits={"cpu_ms": 1000})
    assert seen["CPU"][0] <= 1 + CPU_GRACE_S + 2


def test_a_job_that_lowers_a_hard_limit_costs_its_runner(runner: Runner):
    runner.start("lower_hard", limits={"file_size_bytes": MB})
    kind, _, before = runner.outcome()
    assert kind is Kind.COMPLETED
    told = next(json.loads(body) for kind, body in before if kind is Kind.LEFT)
    assert told["retire"] is True
    assert any("RLIMIT_FSIZE" in line for line in told["left"])
