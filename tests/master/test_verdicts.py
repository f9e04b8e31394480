"""Every abnormal end is told: one sentence, a cause, what was measured, what it was doing (I10)."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import pytest
from running import title_of, until

from supervisor.blocking import Queue

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

FAULT = "File .*crashing.py.*in segfault"


def ended(queue, job):
    until(lambda: queue.state(job.id) in ("failed", "completed"), f"job {job.id} to end")
    return queue.get(job.id)


def verdict_on(queue, do, **data):
    """The job when it has failed, and the newest of its verdicts."""
    job = ended(queue, queue.add("any", {"do": do, **data}))
    assert job.failed_reason
    return job, job.verdicts[-1]


@pytest.fixture
def run(oxherd):
    return oxherd(target="crashing", queue="work")


# --- who dies by itself ---------------------------------------------------------------------------


def test_a_segfault_is_told_with_the_line_that_caused_it(run, queue):
    """I10, and where every dashboard looks: failedReason, stacktrace, the job's log."""
    job, verdict = verdict_on(queue, "segfault")

    assert re.fullmatch(
        r"the runner died of signal 11 \(SIGSEGV\) in segfault \(crashing.py line \d+\)", job.failed_reason
    )
    assert job.stacktrace[0].startswith(job.failed_reason)
    assert "Fatal Python error: Segmentation fault" in job.stacktrace[0]
    assert re.search(FAULT, job.stacktrace[0])
    assert "sandbox/runner.py" not in job.stacktrace[0]
    assert verdict["cause"] == "signal"
    assert verdict["ended"] == "signal 11 (SIGSEGV)"
    assert "killed_by" not in verdict
    assert verdict["output"].splitlines()[0] == "about to crash"
    assert verdict["progress"] == "40"
    logs = queue.logs(job.id)
    assert f"verdict: {job.failed_reason}" in logs
    assert "verdict: last progress: 40" in logs
    assert "verdict: last output: about to crash" in logs


def test_its_stack_is_told_also_when_its_stderr_is_elsewhere(run, queue):
    job, verdict = verdict_on(queue, "segfault_without_stderr")
    assert re.search("File .*crashing.py.*in segfault_without_stderr", verdict["python_stack"])
    assert "segfault_without_stderr (crashing.py line" in job.failed_reason


@pytest.mark.parametrize("name", ["SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_every_fault_in_c_is_named(run, queue, name):
    job, verdict = verdict_on(queue, "die", signal=name)
    assert job.failed_reason.startswith(f"the runner died of signal {getattr(signal, name)} ({name}) in die ")
    assert "Fatal Python error" in verdict["python_stack"]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGXCPU"])
def test_a_signal_that_nobody_of_us_sent_is_said_to_be_so(run, queue, name):
    job, verdict = verdict_on(queue, "die", signal=name)
    number = getattr(signal, name)
    assert job.failed_reason == f"the runner died of signal {number} ({name}), sent by nobody of ours"
    assert verdict["killed_by"] == "nobody of ours"
    assert verdict["no_stack"] == "it ended before it could be asked"
    assert job.stacktrace == (job.failed_reason,)


@pytest.mark.parametrize("status", [0, 3])
def test_who_exits_without_a_result_never_succeeds(run, queue, status):
    job, verdict = verdict_on(queue, "leave", status=status)
    assert verdict["cause"] == "exit"
    assert verdict["ended"] == f"exit status {status}"
    assert "there is no result" in job.failed_reason


# --- who is killed --------------------------------------------------------------------------------


def test_who_is_too_slow_is_asked_what_it_does_before_it_is_killed(run, queue):
    job, verdict = verdict_on(queue, "sleep")
    assert verdict["cause"] == "wall_time"
    assert "600 ms" in job.failed_reason
    assert verdict["killed_by"] == "oxherd"
    assert re.search("File .*crashing.py.*in sleep", verdict["python_stack"])
    assert verdict["output"].endswith("line 2999")
    assert 7_000 < len(verdict["output"]) <= 8192
    assert 600 <= verdict["ran_ms"] < 5_000
    assert job.crashes == 0, "to be slow is no crash: the attempts decide"


def test_a_loop_that_never_lets_go_tells_the_stacks_of_all_its_threads(run, queue):
    _, verdict = verdict_on(queue, "spin")
    assert "in spin" in verdict["python_stack"]
    assert "in wait_in_a_thread" in verdict["python_stack"]
    assert verdict["cpu_ms"] > 30  # of 600, on a host that may be busy


@pytest.mark.parametrize(
    ("name", "cause", "sentence", "frame", "crashes"),
    [
        ("greedy", "cpu_time", r"CPU time limit of 300 ms exceeded: .* used", "in spin", 1),
        ("silent", "no_progress", r"silence limit of 300 ms exceeded: .* for \d+", "in sleep", 0),
    ],
)
def test_every_limit_tells_its_cause_what_was_measured_and_where_it_was(
    oxherd, redis_url, name, cause, sentence, frame, crashes
):
    with Queue(name, url=redis_url) as queue:
        oxherd(target="crashing", queue=name)
        job = ended(queue, queue.add("any", {}))
        (verdict,) = job.verdicts
        assert verdict["cause"] == cause
        assert re.match(sentence, job.failed_reason)
        assert frame in verdict["python_stack"]
        assert verdict["killed_by"] == "oxherd"
        assert job.crashes == crashes


@pytest.mark.parametrize(
    ("do", "why"),
    [
        ("stop_itself", "it was stopped (state T)"),
        ("take_the_handler", "its handler of SIGUSR1 was removed"),
        ("close_everything", "it did not answer within 150 ms"),
    ],
)
def test_who_cannot_be_asked_is_killed_all_the_same_and_it_is_said_why(run, queue, do, why):
    job, verdict = verdict_on(queue, do, link=True)
    assert verdict["cause"] == "wall_time"
    assert verdict["no_stack"] == why
    assert f"verdict: no Python stack: {why}" in queue.logs(job.id)


def test_who_writes_where_only_faulthandler_writes_harms_nobody(run, queue):
    _, verdict = verdict_on(queue, "flood_the_faults")
    assert verdict["cause"] == "wall_time"
    assert len(json.dumps(verdict)) < 32_768
    assert ended(queue, queue.add("any", {"do": "nothing"})).failed_reason is None


def test_who_speaks_nonsense_is_told_with_the_line_that_did(run, queue):
    """I7."""
    job, verdict = verdict_on(queue, "garbage")
    assert verdict["cause"] == "bad_frame"
    assert "bad frame" in job.failed_reason
    assert "in garbage" in verdict["python_stack"]


def test_a_result_that_cannot_be_said_has_a_cause_and_its_runner_lives(run, queue):
    _, verdict = verdict_on(queue, "unserialisable")
    assert verdict["cause"] == "bad_result"
    assert verdict["output"] == "one line"
    assert verdict["peak_of"] == "runner" and verdict["peak_bytes"] > 2**20  # too short to be looked at
    assert verdict.keys() >= {"cpu_ms", "ran_ms", "runner", "runner_age_ms"}
    assert "ended" not in verdict
    assert ended(queue, queue.add("any", {"do": "nothing"})).failed_reason is None
    assert run.events("runner.died") == []


def test_a_lost_lock_is_in_the_log_with_its_cause_and_nothing_is_written(oxherd, redis_url, raw):
    """I3."""
    with Queue("patient", url=redis_url) as queue:
        run = oxherd("--lock-duration", "1s", target="crashing", queue="patient")
        job = queue.add("any", {"do": "sleep"})
        until(lambda: queue.state(job.id) == "active", "the job to run")
        raw.set(f"bull:patient:{job.id}:lock", "someone-else")
        dropped = run.until("job.outcome_dropped")
        assert dropped["cause"] == "lost_lock"
        assert dropped["cpu_ms"] >= 0 and dropped["runner"]
        assert queue.get(job.id).verdicts == ()


def test_a_crash_of_a_process_below_is_told_as_output_and_is_no_crash_of_the_job(run, queue):
    job = ended(queue, queue.add("any", {"do": "crash_below"}))
    assert job.returned == 11
    assert (job.crashes, job.verdicts) == (0, ())
    until(
        lambda: [line for line in run.events("job.output") if "in segfault_without_stderr" in line["line"]],
        "the stack of the child",
    )


def test_whoever_asks_the_master_sees_what_a_job_does_and_the_job_goes_on(oxherd, redis_url):
    with Queue("patient", url=redis_url) as queue:
        run = oxherd(target="crashing", queue="patient")
        job = queue.add("any", {"do": "spin"})
        # Redis calls it active before the runner has it: asked in between, there is nothing to be seen.
        until(lambda: any(" patient/" in title_of(each) for each in run.runners()), "the job to run")
        run.signal(signal.SIGUSR1)
        until(
            lambda: [line for line in run.events("job.output") if "in spin" in line["line"]],
            "its stack in the log",
        )
        assert queue.state(job.id) == "active"
        (runner,) = [line["runner"] for line in run.events("job.output") if "in spin" in line["line"]]
        os.kill(runner, signal.SIGSEGV)
        verdict = ended(queue, job).verdicts[0]
        assert verdict["python_stack"].startswith("Fatal Python error: Segmentation fault")


# --- what was measured ----------------------------------------------------------------------------


def test_cpu_time_age_and_jobs_served_are_those_of_this_attempt(run, queue):
    for _ in range(3):
        ended(queue, queue.add("any", {"do": "nothing"}))
    before = time.monotonic()
    _, verdict = verdict_on(queue, "burn")
    assert 200 <= verdict["cpu_ms"] < 1_000
    assert verdict["runner_age_ms"] >= verdict["ran_ms"]
    assert verdict["runner_age_ms"] < (time.monotonic() - before + 30) * 1000
    assert verdict["peak_bytes"] > 1_000_000
    assert verdict["attempt"] == 1


def test_the_line_of_the_log_has_cause_and_figures(run, queue):
    verdict_on(queue, "segfault")
    line = run.until("job.failed")
    assert line["cause"] == "signal"
    assert line["cpu_ms"] >= 0 and line["peak_bytes"] > 0 and line["runner"]


def test_a_failure_of_the_processors_own_has_no_verdict(run, queue):
    job = ended(queue, queue.add("any", {"do": "raises"}))
    assert (job.failed_reason, job.verdicts, job.crashes) == ("its own word", (), 0)
    assert queue.logs(job.id) == []


# --- budgets --------------------------------------------------------------------------------------


def test_a_job_that_crashed_twice_is_quarantined_with_its_verdicts(run, queue):
    job = ended(queue, queue.add("any", {"do": "leave", "status": 1}, attempts=5))
    assert job.failed_reason.startswith("quarantined after 2 crashes: the runner's process ended with ")
    assert (job.attempts_made, job.attempts_started, job.crashes) == (2, 2, 2)
    assert [each["crashes"] for each in job.verdicts] == [1, 2]
    assert [each["final"] for each in job.verdicts] == [False, True]
    assert len(job.stacktrace) == 2


def test_attempts_end_a_job_before_its_crashes_do(run, queue):
    job = ended(queue, queue.add("any", {"do": "leave", "status": 1}, attempts=1))
    assert "quarantined" not in job.failed_reason
    assert job.attempts_made == 1


def test_crashes_and_failures_of_its_own_are_counted_apart(run, queue):
    job = ended(queue, queue.add("any", {"do": "crash_then_raise"}, attempts=4))
    assert (job.failed_reason, job.attempts_made, job.crashes) == ("its own word", 4, 1)
    assert len(job.verdicts) == 1


def test_the_decorator_says_how_many_crashes_are_too_many(oxherd, redis_url):
    with Queue("patient", url=redis_url) as queue:
        oxherd(target="crashing", queue="patient")
        job = ended(queue, queue.add("any", {"do": "leave", "status": 1}, attempts=5))
        assert (job.attempts_made, job.crashes) == (3, 3)


def test_a_job_that_is_retried_by_hand_may_crash_as_often_again(run, queue):
    job = ended(queue, queue.add("any", {"do": "leave", "status": 1}, attempts=5))
    queue.retry(job.id, reset_attempts=True)
    until(lambda: queue.get(job.id).attempts_made == 2 and queue.state(job.id) == "failed", "its second end")
    assert queue.get(job.id).crashes == 2
    assert len(queue.get(job.id).verdicts) == 4


def test_a_stop_burns_no_attempt_and_counts_no_crash(oxherd, redis_url):
    """I9."""
    with Queue("patient", url=redis_url) as queue:
        run = oxherd("--stop-deadline", "1s", target="crashing", queue="patient")
        job = queue.add("any", {"do": "sleep"})
        until(lambda: queue.state(job.id) == "active", "the job to run")
        run.signal(signal.SIGQUIT)
        run.ended()
        assert run.events("job.handed_back")[0]["cause"] == "stopped"
        found = queue.get(job.id)
        assert (found.attempts_made, found.attempts_started, found.crashes) == (0, 0, 0)
        assert [each["cause"] for each in found.verdicts] == ["stopped"], "and yet it is told"
        why = r"verdict: handed back after [\d.]+ m?s: the worker was stopped; no attempt is counted"
        assert re.fullmatch(why, queue.logs(job.id)[-1])
