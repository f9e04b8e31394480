"""Limits of a job's whole tree, kept by a real master: each end has its verdict, and the next job is run."""

from __future__ import annotations

import os
import signal

import pytest
from running import until

from supervisor.blocking import fixed

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

HOGS = {"target": "hogs", "queue": None}
ONE = ("--concurrency", "1")


@pytest.fixture(autouse=True)
def _redis_for_every_user(redis_server):
    """Who takes memory does it as a user without rights, under limits of its own (ordinary_user.py)."""
    os.chmod(os.path.dirname(redis_server.socket), 0o711)
    os.chmod(redis_server.socket, 0o777)


def failed(queue, job):
    """Its reason, when it has failed for good."""
    until(lambda: queue.state(job.id) in ("completed", "failed"), f"job {job.id} is finished")
    record = queue.get(job.id)
    assert queue.state(job.id) == "failed", record.returned
    return record.failed_reason


def works_on(queue, run):
    """The queue goes on, and nothing of the job is left."""
    after = queue.add("nothing", None)
    until(lambda: queue.state(after.id) == "completed", "the next job is run")
    until(lambda: len(run.family()) == 2, "there are the template and a runner")


@pytest.mark.parametrize("name", ["own", "program", "daemon"])
def test_memory_counts_wherever_in_the_tree_it_is(oxherd, unprivileged, queue, name):
    """I10. Also where it was taken by a daemon that has left its parent and its session."""
    job = queue.add(name, {"mb": 90})
    run = oxherd(*ONE, user=unprivileged, **HOGS)
    reason = failed(queue, job)
    assert reason.startswith("memory limit of 60 MB exceeded: ")
    used = float(reason.split(": ")[1].split(" MB")[0])
    assert 60 < used < 150
    line = run.until("job.failed")
    assert line["peak_bytes"] > 60 * 1024 * 1024
    works_on(queue, run)


def test_a_job_within_its_memory_completes(oxherd, unprivileged, queue):
    job = queue.add("own", {"mb": 40, "s": 0.6})
    oxherd("--burst", user=unprivileged, **HOGS)
    until(lambda: queue.state(job.id) == "completed", "it completes")


def test_memory_that_forked_children_share_is_counted_once(oxherd, unprivileged, queue):
    job = queue.add("shared", None)
    oxherd("--burst", user=unprivileged, **HOGS).ended()
    assert queue.get(job.id).returned == 40


def test_a_memory_error_of_a_limited_job_is_its_limit(oxherd, queue):
    """More at one stroke than there is: the kernel refuses before anybody can look."""
    limited, free = queue.add("at_once", None), queue.add("no_limit", None)
    run = oxherd(*ONE, **HOGS)
    assert failed(queue, limited).startswith("memory limit of 20 MB exceeded: an allocation was refused at ")
    assert "out of memory" in failed(queue, free)
    assert "MemoryError" in queue.get(limited.id).stacktrace[0]
    works_on(queue, run)


@pytest.mark.parametrize("name", ["busy", "busy_child", "busy_many"])
def test_cpu_time_is_that_of_the_whole_tree(oxherd, queue, name):
    """I10. In the runner, in a program of the job's, and in many that have ended."""
    job = queue.add(name, {})
    run = oxherd(*ONE, **HOGS)
    reason = failed(queue, job)
    assert reason.startswith("CPU time limit of 1 s exceeded: ") and reason.endswith(" s used")
    assert run.until("job.failed")["ran_ms"] > 900
    works_on(queue, run)


def test_cpu_time_is_each_jobs_own(oxherd, queue):
    """A runner that serves many jobs is not ended for their sum; who sleeps uses none."""
    job = queue.add("busy", {"idle": 1.5})
    oxherd("--burst", **HOGS).ended()
    assert queue.get(job.id).returned == "slept"


def test_processes_and_threads_are_counted_together(oxherd, queue):
    """I10."""
    job = queue.add("many", None)
    run = oxherd(*ONE, **HOGS)
    assert failed(queue, job) == "limit of 8 processes and threads exceeded: 12 in 7 processes"
    works_on(queue, run)


def test_a_silent_job_is_ended(oxherd, queue):
    """I10."""
    job = queue.add("silent", None)
    run = oxherd(*ONE, **HOGS)
    assert failed(queue, job).startswith(
        "silence limit of 500 ms exceeded: no progress, log row or output for 5"
    )
    works_on(queue, run)


def test_progress_log_and_output_break_the_silence(oxherd, queue):
    job = queue.add("talkative", None)
    oxherd("--burst", **HOGS).ended()
    assert queue.get(job.id).returned == "said all"


@pytest.mark.parametrize("stay", [True, False])
def test_who_prints_more_than_it_may_is_ended(oxherd, queue, stay):
    """I10. Also when it returns before anybody can have read that it did: what is printed is read first."""
    job = queue.add("loud", {"kb": 101, "stay": stay})
    run = oxherd(*ONE, **HOGS)
    assert failed(queue, job).startswith("output limit of 100 KB exceeded: ")
    works_on(queue, run)


def test_what_a_job_prints_does_not_count_for_the_next(oxherd, queue):
    jobs = [queue.add("loud", {"kb": 99}) for _ in range(3)]
    oxherd("--burst", **HOGS).ended()
    assert [queue.get(job.id).returned for job in jobs] == ["printed"] * 3


def test_open_files_and_sizes_of_files_are_ordinary_failures_that_name_their_limit(oxherd, queue, tmp_path):
    tmp_path.chmod(0o777)
    many = queue.add("files", {"count": 60})
    large = queue.add("writer", {"kb": 1100, "path": str(tmp_path / "large")})
    few = queue.add("files", {"count": 5})
    run = oxherd(*ONE, **HOGS)
    assert failed(queue, many) == "[Errno 24] Too many open files: '/dev/null' (its limit: 40 open files)"
    assert failed(queue, large) == "[Errno 27] File too large (its limit: files of 1 MB)"
    until(lambda: queue.state(few.id) == "completed", "the limit is each job's own")
    works_on(queue, run)


def test_a_job_over_a_limit_is_tried_again_as_any_that_failed(oxherd, unprivileged, queue):
    job = queue.add("own", {"mb": 90}, attempts=2, backoff=fixed(10))
    run = oxherd(*ONE, user=unprivileged, **HOGS)
    assert failed(queue, job).startswith("memory limit")
    run.until("job.retried")
    assert len(run.events("job.retried")) == 1


def test_the_log_says_at_the_start_how_limits_are_kept(oxherd, queue):
    run = oxherd()
    line = run.until("limits.kept")
    assert line["by"] == "cgroup" or line["why"]


def test_shares_of_the_cpu_that_nobody_keeps_are_told_and_can_be_required(oxherd, queue, ask, tmp_path):
    """Only a cgroup keeps them; with one the first master says nothing, and the second one starts."""
    run = oxherd("--cpus", "0.5", "--cpu-weight", "50")
    run.until("master.started")
    why = run.until("limits.kept").get("why")
    required = tmp_path / "required.toml"
    required.write_text('[policy]\nrequire = ["cgroup_cpu"]\n')
    second = oxherd("--burst", "--config", str(required))
    if why is None:
        assert not run.events("limits.unkept") and second.ended() == 0
        return
    told = run.until("limits.unkept")
    assert (told["queue"], told["limits"], told["why"]) == ("work", ["cpus", "cpu_weight"], why)
    assert "nobody keeps cpus and cpu_weight" in ask("ps", "--pid", str(run.pid))
    assert second.ended() == 2
    assert f"requires what is not in force here: cgroup_cpu ({why})" in " ".join(second.other)


# --- on_memory = "bigger" -----------------------------------------------------------------------------------


def test_who_met_its_memory_limit_runs_once_more_alone_with_twice_as_much(oxherd, unprivileged, queue, raw):
    """No attempt is burnt: this job has one only. Nothing of the master runs beside it."""
    job = queue.add("grows", {"mb": 90})
    naps = [queue.add("naps", {"s": 0.2}) for _ in range(20)]
    run = oxherd("--burst", "--concurrency", "3", user=unprivileged, **HOGS)
    assert run.ended() == 0, run.story()
    record = queue.get(job.id)
    began, ended, held = record.returned
    assert (held, record.attempts_made) == (90, 1)
    assert raw.hget(f"bull:work:{job.id}", "ats") == b"1"
    for nap in (queue.get(each.id).returned for each in naps):
        assert nap[1] <= began or nap[0] >= ended, "it ran beside the job that runs alone"
    rows = queue.logs(job.id)
    assert "memory limit of 60 MB exceeded" in rows[0]
    assert rows[-1] == "run once more, alone, with twice the memory"


def test_twice_as_much_is_a_limit_too_and_then_the_job_fails(oxherd, unprivileged, queue):
    """Once more, not for ever."""
    job = queue.add("grows", {"mb": 140})
    after = queue.add("naps", {"s": 0})
    run = oxherd("--concurrency", "2", user=unprivileged, **HOGS)
    assert failed(queue, job).startswith("memory limit of 120 MB exceeded: ")
    run.until("job.handed_back")
    assert len(run.events("job.handed_back")) == 1
    until(lambda: queue.state(after.id) == "completed", "the queue goes on")


def test_a_stop_hands_back_who_waits_to_run_alone(oxherd, unprivileged, queue, raw):
    """I9. It keeps its mark, so the next master runs it with twice as much."""
    nap = queue.add("naps", {"s": 25})
    job = queue.add("grows", {"mb": 90})
    run = oxherd("--concurrency", "2", user=unprivileged, **HOGS)
    run.until("job.handed_back")
    until(lambda: queue.state(job.id) == "active", "it is fetched again")
    assert queue.state(nap.id) == "active"
    run.signal(signal.SIGQUIT)
    assert run.ended() == 0, run.story()
    assert (queue.state(nap.id), queue.state(job.id)) == ("waiting", "waiting")
    assert raw.hget(f"bull:work:{job.id}", "ox:bigger") == b"1"
