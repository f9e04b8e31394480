"""`oxherd ps` and `oxherd stack`: what runs, what it uses and what it is doing, while it does it."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from running import until

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)

MB = 1024 * 1024


def busy(oxherd, queue, *wishes: dict, name: str = "look"):
    """A master at work on these jobs."""
    running = oxherd("--concurrency", str(len(wishes)), target="appetites", queue=None)
    running.until("master.started")
    jobs = [queue.add(name, wish) for wish in wishes]
    for job in jobs:
        until(lambda job=job: queue.state(job.id) == "active", "it runs")
    return running, jobs


def test_ps_tells_every_process_of_a_slot_and_what_its_job_is_at(oxherd, queue, ask):
    running, (job,) = busy(oxherd, queue, {"steps": 60, "step_s": 0.5, "threads": 2})
    until(lambda: queue.get(job.id).progress, "it has told some progress")
    told = json.loads(ask("ps", "--json"))
    assert told["pid"] == running.pid
    slot = next(each for each in told["slots"] if each["jobs"])
    assert slot["runner"] in {process.pid for process in running.runners()}
    assert slot["phase"] == "busy"
    (seen,) = slot["jobs"]
    assert (seen["id"], seen["name"], seen["attempt"]) == (job.id, "look", 1)
    assert 0 < seen["lock_margin_ms"] <= 27_000
    assert 0 < seen["progress"] < 100
    assert slot["tree"]["threads"] == 3
    assert slot["tree"]["anon_bytes"] > MB
    assert slot["tree"]["cpu_share"] is None  # nothing to compare with yet, and so not 0


def test_ps_is_a_table_for_people_that_fits_80_columns(oxherd, queue, ask):
    running, (job,) = busy(oxherd, queue, {"steps": 60, "step_s": 0.5})
    text = ask("ps", "--trees")
    assert f"oxherd {running.pid}" in text
    assert f" {job.id} look" in text
    assert "fetching" in text


def test_what_may_not_be_read_of_a_runner_the_runner_tells_itself(
    oxherd, queue, ask, unprivileged, monkeypatch, redis_server
):
    """A master without rights may not read the PSS of a runner that is not dumpable."""
    os.chmod(os.path.dirname(redis_server.socket), 0o711)
    os.chmod(redis_server.socket, 0o777)
    place = unprivileged.home.parent / f"run-{redis_server.kind}"  # the user is the session's
    place.mkdir(mode=0o700)
    os.chown(place, unprivileged.uid, -1)
    monkeypatch.setenv("OXHERD_RUNTIME_DIR", str(place))
    running = oxherd("--concurrency", "1", target="hogs", queue=None, user=unprivileged)
    running.until("master.started")
    until(lambda: list(place.glob("*.sock")), "it can be asked")
    (slot, *_) = json.loads(ask("ps", "--json"))["slots"]
    assert slot["tree"]["dear"]["by"] == "runner"
    assert slot["tree"]["dear"]["pss_bytes"] > MB


def test_the_stacks_of_a_job_that_works_are_shown_within_a_second_and_it_goes_on(
    oxherd, queue, ask, tmp_path
):
    enough = tmp_path / "enough"
    running, (job,) = busy(oxherd, queue, {"burn_until": str(enough), "threads": 1})
    until(lambda: queue.get(job.id).progress, "it has started its threads")
    began = time.monotonic()
    text = ask("stack", "work", job.id)
    took_s = time.monotonic() - began
    enough.touch()
    assert took_s < 5  # of which the interpreter's start is most
    assert text.startswith(f"job work/{job.id}, attempt 1, running ")
    assert "in work\n" in text
    assert "in helper\n" in text  # all threads
    assert "sandbox" not in text  # what is ours is left out
    assert queue.result(job, timeout_ms=30_000) == "done"
    assert not running.events("job.output")  # a look is no output of the job
    assert running.until("job.completed")["job_id"] == job.id


def test_the_stack_of_a_job_in_c_that_holds_the_gil_is_shown(oxherd, queue, ask):
    _, (job,) = busy(oxherd, queue, {"hold_gil_s": 6})
    told = json.loads(ask("stack", "work", job.id, "--json"))
    assert "in work" in told["stack"]
    assert told["jobs"] == [job.id]
    assert queue.result(job, timeout_ms=30_000) == "done"


def test_five_looks_at_once_do_each_other_no_harm(oxherd, queue, ask, tmp_path):
    """Each is told the stacks; the job is not touched by any."""
    enough = tmp_path / "enough"
    running, (job,) = busy(oxherd, queue, {"burn_until": str(enough)})
    try:
        with ThreadPoolExecutor(5) as looking:
            told = list(looking.map(lambda _: ask("stack", "work", job.id), range(5)))
    finally:
        enough.touch()
    assert all(job.id in text for text in told)
    assert queue.result(job, timeout_ms=30_000) == "done"
    assert not running.events("runner.died")


def test_the_stack_of_a_job_that_does_not_run_here_is_refused_with_what_to_do(oxherd, queue, ask):
    busy(oxherd, queue, {"sleep_s": 20})
    text = ask("stack", "work", "999", status=1)
    assert "no runner of yours on this host has the job 999 of work now; oxherd job work 999" in text


def test_without_a_master_ps_says_so(redis_url, ask):
    assert "no master of yours runs here" in ask("ps", status=1)


def test_a_master_that_stands_still_hides_no_other(oxherd, queue, ask):
    still, other = (oxherd("--concurrency", "1", target="appetites", queue=None) for _ in range(2))
    for each in (still, other):
        each.until("master.started")
    still.signal(signal.SIGSTOP)
    try:
        told = ask("ps", status=1)
    finally:
        still.signal(signal.SIGCONT)
    assert f"oxherd {other.pid} on " in told
    assert f"the master {still.pid} did not answer look within 5 s" in told
