"""Where runners come from, how long they serve, and what is done when none can work."""

from __future__ import annotations

import os

import pytest

from supervisor.blocking import Queue

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


@pytest.fixture
def queues(redis_url):
    """A queue by its name."""
    opened: dict[str, Queue] = {}

    def named(name):
        if name not in opened:
            opened[name] = Queue(name, url=redis_url)
        return opened[name]

    yield named
    for each in opened.values():
        each.close()


def results(oxherd, queues, names, *flags, **how):
    """What one job of each queue returned, in a burst."""
    jobs = {name: queues(name).add("any", None) for name in names}
    run = oxherd("--burst", *flags, queue=None, **how)
    assert run.ended() == 0, run.story()
    return run, {name: queues(name).get(job.id).returned for name, job in jobs.items()}


# --- profiles ------------------------------------------------------------------------------------------


def test_a_stricter_profile_of_a_decorator_is_there_before_its_module_is_imported(oxherd, queues):
    """I6: the module is imported again under it, and a queue that did not ask keeps what the flag said."""
    run, seen = results(oxherd, queues, ["plain", "guarded"], "--profile", "none", target="profiles")
    assert seen["guarded"]["scheduler"] == os.SCHED_BATCH, "the import of `process` was isolated"
    assert seen["plain"]["scheduler"] == os.SCHED_OTHER
    assert seen["guarded"]["template"] != seen["plain"]["template"]
    first_fetch = run.lines.index(run.events("master.started")[0])
    assert max(run.lines.index(line) for line in run.events("template.started")) < first_fetch


def test_queues_of_one_profile_share_a_template(oxherd, queues):
    run, seen = results(oxherd, queues, ["plain", "guarded"], target="profiles")
    assert seen["guarded"]["template"] == seen["plain"]["template"]
    assert len(run.events("template.started")) == 1


def test_a_queue_of_the_config_has_a_profile_of_its_own(oxherd, queues, tmp_path):
    """The stricter of what file and decorator say."""
    config = tmp_path / "oxherd.toml"
    config.write_text('[queue.plain.policy]\nprofile = "none"\n[queue.guarded.policy]\nprofile = "none"\n')
    _, seen = results(oxherd, queues, ["plain", "guarded"], "--config", str(config), target="profiles")
    assert seen["plain"]["scheduler"] == os.SCHED_OTHER
    assert seen["guarded"]["scheduler"] == os.SCHED_BATCH


def test_a_user_that_cannot_be_had_ends_the_start_with_a_sentence(oxherd):
    run = oxherd("--user", "no-such-user", "--burst")
    assert run.ended() == 2
    assert "no user 'no-such-user'" in "".join(run.other)


# --- a runner for each job -----------------------------------------------------------------------------


def pids(queues, name, jobs):
    return [queues(name).get(job.id).returned for job in jobs]


def test_a_fresh_queue_has_a_runner_for_each_job(oxherd, queues):
    jobs = queues("fresh").add_bulk([("any", None)] * 20)
    run = oxherd("--burst", "--concurrency", "2", target="lives", queue="fresh")
    assert run.ended() == 0, run.story()
    assert len(set(pids(queues, "fresh", jobs))) == 20


def test_the_next_runner_of_a_fresh_queue_is_ready_while_the_job_runs(oxherd, queues):
    queues("who").add("any", {"sleep": 60})
    run = oxherd("--fresh", "true", "--concurrency", "1", target="lives", queue="who")
    run.until("runner.started", 2)
    assert len(run.runners()) == 2


# --- recycling -----------------------------------------------------------------------------------------


def test_a_runner_is_replaced_after_so_many_jobs_and_never_missed(oxherd, queues, tmp_path):
    """Its successor is ready before it goes: until then it serves on, for a dozen quick jobs if need be."""
    may_end = tmp_path / "the successor is ready"
    first = queues("who").add_bulk([("any", None)] * 4 + [("any", {"until": str(may_end)})])
    flags = ("--concurrency", "1", "--recycle-jobs", "4", "--recycle-jitter", "0")
    run = oxherd(*flags, target="lives", queue="who")
    run.until("runner.started", 2)
    may_end.touch()
    told = run.until("runner.recycled")
    then = queues("who").add_bulk([("any", None)] * 4)
    again = run.until("runner.recycled", 2)
    served = [queues("who").result(job, timeout_ms=10_000) for job in (*first[:4], *then)]
    assert set(served[:4]) == {told["runner"]}
    assert served[4] == again["runner"] and told["runner"] not in served[4:]
    assert "jobs" in told["why"] and told["queue"] == "who"
    started = [line["runner"] for line in run.lines if line.get("event") == "runner.started"]
    story = [(line["event"], line.get("runner")) for line in run.lines]
    assert story.index(("runner.started", started[1])) < story.index(("runner.recycled", told["runner"]))


def test_a_runner_that_has_grown_is_replaced(oxherd, queues):
    queues("who").add_bulk([("any", {"sleep": 0.3, "hoard": 4_000_000})] * 12)
    run = oxherd("--concurrency", "1", "--recycle-growth", "10M", target="lives", queue="who")
    assert "grown by" in run.until("runner.recycled")["why"]


def test_a_runner_that_is_idle_for_long_is_replaced_by_one_that_has_nothing(oxherd, queues):
    job = queues("who").add("any", {"hoard": 50_000_000})
    run = oxherd("--concurrency", "1", "--recycle-idle", "500ms", target="lives", queue="who")
    told = run.until("runner.recycled")
    assert told["why"].startswith("it has been idle")
    assert told["runner"] == queues("who").get(job.id).returned
    run.until("runner.exited")
    again = queues("who").add("any", None)
    assert queues("who").result(again, timeout_ms=10_000) != told["runner"]


# --- what is required ----------------------------------------------------------------------------------


def test_a_required_layer_that_is_missing_ends_the_start_before_anything_is_fetched(oxherd, queues):
    """I10. `subreaper` is a runner's own, and `none` does not have it."""
    job = queues("who").add("any", None)
    flags = ("--profile", "none", "--require", "subreaper", "--burst")
    run = oxherd(*flags, target="lives", queue="who")
    assert run.ended() == 2, run.story()
    assert "profile none requires what is not in force here: subreaper" in "".join(run.other)
    assert queues("who").state(job.id) == "waiting"


# --- a bad release -------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["exits", "segfaults"])
def test_a_queue_whose_every_job_crashes_is_degraded_and_others_go_on(oxherd, queues, queue):
    """One bad release must not fail all the jobs that wait."""
    doomed = queues(queue).add_bulk([("any", None)] * 300)
    run = oxherd("--concurrency", "3", target="lives", queue=None)
    first = run.until("queue.degraded")
    assert first["queue"] == queue and "different jobs in a row have lost their runner" in first["why"]
    healthy = queues("who").add_bulk([("any", None)] * 50)
    assert all(queues("who").result(job, timeout_ms=20_000) for job in healthy)
    second = run.until("queue.degraded", 2)
    assert second["pause_s"] == 2 * first["pause_s"]
    assert queues(queue).counts()["failed"] <= 15
    assert queues(queue).state(doomed[-1].id) == "waiting"
    assert not [line for line in run.events("queue.degraded") if line["queue"] != queue]


def test_a_degraded_queue_opens_when_a_job_works_again(oxherd, queues, tmp_path):
    mended = tmp_path / "mended"
    jobs = queues("segfaults").add_bulk([("any", {"unless": str(mended)})] * 40)
    run = oxherd("--concurrency", "2", target="lives", queue="segfaults")
    run.until("queue.degraded")
    mended.touch()
    run.until("queue.recovered")
    assert queues("segfaults").result(jobs[-1], timeout_ms=20_000) == "it worked"


def test_a_burst_on_a_queue_whose_every_job_crashes_ends_with_a_sentence(oxherd, queues):
    queues("exits").add_bulk([("any", None)] * 100)
    run = oxherd("--burst", "--concurrency", "2", target="lives", queue="exits")
    assert run.ended() == 1
    assert "queue 'exits' is degraded" in "".join(run.other)
    assert queues("exits").counts()["waiting"] > 70
