"""Hooks, as a whole master calls them."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest
from running import title_of, until

from supervisor.master.hooks import MOST_CALLS

# Which server it is makes no difference to this.
pytestmark = pytest.mark.parametrize("redis_server", ["redis"], indirect=True)


@pytest.fixture
def told(tmp_path):
    """What the hooks of tests/processors/told.py have written down: one object a call."""
    path = tmp_path / "told"

    def read():
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    read.path = path
    return read


@pytest.fixture
def hooked(oxherd, told):
    """`oxherd run` with hooks on everything."""

    def start(*flags, **more):
        hooks = [f"--hooks-{kind}=told:{kind}" for kind in ("completed", "failed", "stalled")]
        return oxherd(*hooks, *flags, env={"TOLD": str(told.path)}, **more)

    return start


def hook_runner(running):
    """The process that calls hooks, as soon as there is one."""

    def look():
        for process in running.family():
            try:
                if "oxherd: hooks" in title_of(process):
                    return process
            except psutil.Error:
                continue
        return None

    return until(look, f"there is a runner of hooks\n{running.story()}")


# --- what a hook is told ----------------------------------------------------------------------------------


def test_a_job_that_completed_is_told_with_all_that_is_known_of_it(hooked, queue, told):
    job = queue.add("paint", {"do": "echo", "colour": "grün"}, attempts=3)
    running = hooked()
    (call,) = until(told, f"the hook is called\n{running.story()}")
    happened_on = call.pop("happened_on")
    call.pop("pid")
    assert call == {
        "hook": "completed",
        "queue": "work",
        "id": job.id,
        "name": "paint",
        "data": {"do": "echo", "colour": "grün"},
        "attempt": 1,
        "attempts": 3,
        "result": {"do": "echo", "colour": "grün"},
        "reason": None,
        "stack": None,
    }
    finished_on = queue.get(job.id).finished_on
    assert finished_on <= happened_on < finished_on + 10_000


def test_a_job_that_failed_is_told_once_it_has_failed_for_good(hooked, queue, told):
    job = queue.add("fall", {"do": "fail", "why": "no ladder"}, attempts=2)
    running = hooked()
    (call,) = until(told, f"the hook is called\n{running.story()}")
    running.until("hook.called")
    assert (call["hook"], call["id"], call["attempt"]) == ("failed", job.id, 2)
    assert call["reason"] == "no ladder" and "ValueError: no ladder" in call["stack"]
    assert len(told()) == 1, "the first attempt was tried again: nothing has failed for good"


def test_a_job_that_was_put_back_is_told_as_stalled(hooked, queue, told, raw):
    job = queue.add("lost", {"do": "echo", "n": 1})
    take(raw, job.id)
    running = hooked("--stalled-interval", "150ms")
    until(lambda: len(told()) == 2, f"both hooks are called\n{running.story()}")
    stalled, completed = told()
    assert (stalled["hook"], stalled["id"], stalled["name"]) == ("stalled", job.id, "lost")
    assert stalled["data"] == {"do": "echo", "n": 1} and stalled["reason"] is None
    assert (completed["hook"], completed["id"]) == ("completed", job.id)


def test_a_job_that_stalled_too_often_is_told_as_stalled_with_the_reason_and_as_failed(
    hooked, queue, told, raw
):
    job = queue.add("lost", {"do": "echo"})
    take(raw, job.id)
    running = hooked("--stalled-interval", "150ms", "--stalled-max-count", "0")
    until(lambda: len(told()) == 2, f"both hooks are called\n{running.story()}")
    assert [(call["hook"], call["reason"]) for call in told()] == [
        ("stalled", "job stalled more than allowable limit"),
        ("failed", "job stalled more than allowable limit"),
    ]


def take(raw, job_id):
    """Make the job active, as a worker that has vanished leaves it."""
    raw.lrem("bull:work:wait", 1, job_id)
    raw.lpush("bull:work:active", job_id)


def test_hooks_of_the_config_are_called(oxherd, queue, told, tmp_path):
    config = tmp_path / "oxherd.toml"
    config.write_text('[hooks]\ncompleted = "told:completed"\ntimeout = "5s"\n')
    queue.add("any", {"do": "echo"})
    running = oxherd("--config", str(config), env={"TOLD": str(told.path)})
    until(told, f"the hook is called\n{running.story()}")


def test_what_a_hook_prints_is_in_the_log(hooked, queue):
    queue.add("any", {"do": "echo", "hook": "print"})
    assert hooked().until("hook.output")["line"] == "ding"


# --- where it runs ----------------------------------------------------------------------------------------


def test_a_hook_runs_apart_from_master_jobs_and_redis(hooked, queue, told):
    """I1: no address, no socket. I8: the master is its parent. Nothing of the processors is in it."""
    queue.add("any", {"do": "echo", "hook": "look"})
    running = hooked()
    until(lambda: len(told()) == 2, f"the hook has looked around\n{running.story()}")
    call, seen = told()
    runner = hook_runner(running)
    assert call["pid"] == runner.pid and runner.ppid() == running.pid == seen["parent"]
    assert "deeds" not in seen["modules"], "the processors' module"
    assert not {"redis", "supervisor", "hiredis"} & set(seen["modules"])
    assert not [name for name in seen["environment"] if name.startswith("OXHERD_")]
    assert seen["sockets"] == 1, "its link to the master"
    assert runner.pid not in {each.pid for each in running.runners()}


def test_without_hooks_there_is_no_process_for_them(oxherd, queue):
    queue.add("any", {"do": "nothing"})
    running = oxherd()
    running.until("job.completed")
    assert not [each for each in running.family() if "hooks" in title_of(each)]
    assert len(running.events("template.started")) == 1


def test_a_master_that_is_killed_takes_its_hooks_along(hooked, queue):
    """I8. What they were not yet told is lost."""
    queue.add("any", {"do": "echo", "hook": "hang"})
    running = hooked()
    running.until("job.completed")
    runner = hook_runner(running)
    os.kill(running.pid, signal.SIGKILL)
    until(lambda: not runner.is_running() or runner.status() == psutil.STATUS_ZOMBIE, "it is gone too")


# --- hooks that misbehave ---------------------------------------------------------------------------------


def test_a_hook_that_raises_is_an_event_with_its_traceback_and_the_next_is_called(hooked, queue, told):
    first = queue.add("any", {"do": "echo", "hook": "raise"})
    queue.add("any", {"do": "echo"})
    running = hooked("--concurrency", "1")
    event = running.until("hook.failed")
    assert (event["hook"], event["queue"], event["job_id"]) == ("completed", "work", first.id)
    assert event["reason"] == "no bell to ring" and "in completed" in event["stack"]
    assert "ValueError: no bell to ring" in event["stack"]
    running.until("hook.called")
    assert queue.state(first.id) == "completed", "the job itself is as it was"
    assert len({call["pid"] for call in told()}) == 1


def test_a_hook_that_hangs_is_killed_at_its_time_limit_and_not_called_again(hooked, queue, told):
    queue.add("any", {"do": "echo", "hook": "hang"})
    queue.add("any", {"do": "echo"})
    running = hooked("--concurrency", "1", "--hooks-timeout", "300ms")
    event = running.until("hook.failed")
    assert event["reason"] == "time limit of 0.3 s exceeded: its processes were killed"
    assert 300 <= event["ran_ms"] < 10_000
    running.until("hook.called")
    first, second = told()
    assert (first["id"], second["id"]) == ("1", "2") and first["pid"] != second["pid"]


def test_a_hook_runner_that_is_killed_is_replaced_and_its_call_is_not_made_again(hooked, queue, told):
    queue.add("any", {"do": "echo", "hook": "hang"})
    running = hooked()
    until(told, "the hook is called")
    hook_runner(running).kill()
    assert "SIGKILL" in running.until("hook.failed")["reason"]
    queue.add("any", {"do": "echo"})
    running.until("hook.called")
    assert [call["id"] for call in told()] == ["1", "2"]


def test_an_idle_hook_runner_and_its_template_are_replaced(hooked, queue, told):
    running = hooked()
    started = running.until("template.started", 2)
    assert started
    template = next(event["pid"] for event in running.events("template.started") if "hooks" in event)
    runner = hook_runner(running)
    os.kill(template, signal.SIGKILL)
    runner.kill()
    running.until("template.started", 3)
    queue.add("any", {"do": "echo"})
    until(told, f"the hook is called\n{running.story()}")
    assert told()[0]["pid"] != runner.pid


def test_a_hook_that_kills_its_process_each_time_is_born_with_growing_pauses(hooked, queue, told):
    for _ in range(4):
        queue.add("any", {"do": "echo", "hook": "die"})
    running = hooked()
    running.until("hook.failed", 4)
    assert sorted(call["id"] for call in told()) == ["1", "2", "3", "4"]  # two runners, any order
    assert len({call["pid"] for call in told()}) == 4


def test_jobs_do_not_wait_for_a_slow_hook_and_what_is_too_much_is_dropped_and_counted(hooked, queue, told):
    queue.add("any", {"do": "echo", "hook": "hang"})
    running = hooked("--hooks-timeout", "60s", "--log-level", "info")
    until(told, "the hook hangs")
    queue.add_bulk([("any", {"do": "nothing"})] * (MOST_CALLS + 200))
    until(lambda: queue.counts()["completed"] == MOST_CALLS + 201, "all jobs are done")
    assert running.until("hook.dropped")["calls"] >= 1
    assert len(running.events("hook.dropped")) == 1, "the others are told together, later"
    assert len(told()) == 1
    running.signal(signal.SIGTERM)
    running.until("stop.requested")
    running.signal(signal.SIGTERM)  # a second one does not wait for hooks
    assert running.ended(10) == 0
    assert sum(event["calls"] for event in running.events("hook.dropped")) == MOST_CALLS + 201


# --- start and stop ---------------------------------------------------------------------------------------


def test_a_stop_waits_for_the_hooks_within_its_deadline(hooked, queue, told):
    for _ in range(3):
        queue.add("any", {"do": "echo", "hook": "sleep", "s": 0.4})
    running = hooked()
    running.until("job.completed", 3)
    running.signal(signal.SIGTERM)
    assert running.ended() == 0
    assert len(told()) == 3 and len(running.events("hook.called")) == 3
    assert not running.events("hook.dropped")


def test_a_stop_drops_the_hooks_that_do_not_end_and_says_how_many(hooked, queue, told):
    for _ in range(3):
        queue.add("any", {"do": "echo", "hook": "hang"})
    running = hooked("--stop-deadline", "1s")
    running.until("job.completed", 3)
    until(told, "the first hook is called")
    running.signal(signal.SIGTERM)
    assert running.ended(10) == 0
    (dropped,) = running.events("hook.dropped")
    assert (dropped["calls"], dropped["why"]) == (3, "the master stops")
    assert len(told()) == 1


def test_a_burst_ends_when_its_hooks_are_called(hooked, queue, told):
    for _ in range(3):
        queue.add("any", {"do": "echo", "hook": "sleep", "s": 0.3})
    assert hooked("--burst").ended() == 0
    assert len(told()) == 3


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("told:nothing", "told has no function 'nothing'"),
        ("tald:completed", "there is no module 'tald'; did you mean told?"),
        ("told:two", "told:two is written (call, more), but a hook is called with one argument, a HookCall"),
        ("told:HOOKS", "told:HOOKS is of type dict, not a function"),
        ("told", "'told' is no function; write module:function"),
    ],
)
def test_a_hook_that_cannot_be_had_ends_the_start_before_a_job_is_taken(oxherd, queue, name, sentence):
    queue.add("any", {"do": "nothing"})
    running = oxherd("--hooks-completed", name)
    assert running.ended() == 2
    assert sentence in "".join(running.other)
    assert queue.counts()["waiting"] == 1
