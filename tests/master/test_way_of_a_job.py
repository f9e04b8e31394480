"""A job's way through master, template and runners, as a producer and a dashboard see it."""

from __future__ import annotations

import json
import re

import psutil
import pytest
from running import until

from supervisor.blocking import Queue, fixed


def finished(queue, job):
    """The job's record once it is completed or failed."""

    def look():
        return queue.state(job.id) in ("completed", "failed")

    until(look, f"job {job.id} is finished")
    return queue.get(job.id)


def test_a_job_is_run_by_a_runner_and_its_result_is_written(oxherd, queue, raw):
    job = queue.add("any", {"do": "echo", "é": [1, None, "x"]})
    oxherd("--burst")
    done = finished(queue, job)
    assert done.returned == {"do": "echo", "é": [1, None, "x"]}
    assert raw.hget("bull:work:" + job.id, "atm") == b"1"
    assert raw.exists(f"bull:work:{job.id}:lock") == 0


def test_a_burst_ends_by_itself_and_fails_when_a_job_failed(oxherd, queue):
    queue.add_bulk([("any", {"do": "nothing"}) for _ in range(100)])
    assert oxherd("--burst", "--concurrency", "2").ended() == 0
    assert queue.counts()["completed"] == 100
    queue.add("any", {"do": "fail"})
    assert oxherd("--burst").ended() == 1


def test_a_burst_waits_for_retries_but_not_for_delays_that_users_asked_for(oxherd, queue):
    retried = queue.add("any", {"do": "fail_once"}, attempts=2, backoff=fixed(1_500))
    delayed = queue.add("any", {"do": "nothing"}, delay_ms=60_000)
    assert oxherd("--burst").ended() == 0
    assert queue.get(retried.id).returned == "the second time"
    assert queue.state(delayed.id) == "delayed"


def test_a_burst_on_a_paused_queue_says_so_at_once(oxherd, queue):
    queue.add("any", {})
    queue.pause()
    run = oxherd("--burst")
    assert run.ended() == 1
    assert "paused" in "".join(run.other)
    assert queue.state("1") == "waiting"


def test_a_burst_on_a_broken_queue_says_so_and_ends(oxherd, queue, raw):
    queue.add("any", {})
    raw.set("bull:work:delayed", "no sorted set")
    run = oxherd("--burst")
    assert run.ended() == 1
    assert "one of its keys holds something else (WRONGTYPE" in "".join(run.other)
    assert raw.lrange("bull:work:wait", 0, -1) == [b"1"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"do": "fail", "why": "no such picture"}, "no such picture"),
        ({"do": "give_up"}, "there is no point"),
        ({"do": "die", "signal": "SIGTERM"}, "SIGTERM"),
        ({"do": "die", "signal": "SIGKILL"}, "SIGKILL"),
        ({"do": "crash_in_c"}, "SIGSEGV"),
        ({"do": "leave", "status": 3}, "exit status 3"),
        ({"do": "leave", "status": 0}, "exit status 0"),
        ({"do": "garbage"}, "bad frame"),
        ({"do": "not_json"}, "object"),
        ({"do": "too_large"}, "bytes"),
        ({"do": "unheard of"}, "unheard of"),
    ],
)
def test_every_failed_attempt_has_a_cause_and_the_next_job_runs(oxherd, queue, data, reason):
    """I10, and I7 for the frames that are none."""
    bad = queue.add("any", data)
    good = queue.add("any", {"do": "nothing"})
    oxherd("--concurrency", "1")
    failed = finished(queue, bad)
    assert queue.state(bad.id) == "failed"
    assert reason in failed.failed_reason
    assert finished(queue, good) and queue.state(good.id) == "completed"


def test_a_failed_attempt_is_tried_again(oxherd, queue, raw):
    job = queue.add("any", {"do": "fail_once"}, attempts=3, backoff=fixed(50))
    oxherd()
    assert finished(queue, job).returned == "the second time"
    assert raw.hmget("bull:work:" + job.id, "atm", "ats") == [b"2", b"2"]
    assert len(json.loads(raw.hget("bull:work:" + job.id, "stacktrace"))) == 1


def test_an_exception_that_says_when_to_try_again_is_obeyed(oxherd, queue, raw):
    job = queue.add("any", {"do": "come_back", "ms": 60}, attempts=2, backoff=fixed(3_600_000))
    oxherd()
    assert finished(queue, job).returned == "welcome"
    assert raw.hmget("bull:work:" + job.id, "atm", "ats") == [b"2", b"2"]


def test_a_postponed_job_burns_no_attempt(oxherd, queue, raw, tmp_path):
    job = queue.add("any", {"do": "later", "mark": str(tmp_path / "mark")})
    oxherd()
    assert finished(queue, job).returned == "later"
    assert raw.hmget("bull:work:" + job.id, "atm", "ats") == [b"1", b"2"]


def test_a_rate_limited_job_goes_back_to_the_front_and_burns_no_attempt(oxherd, queue, raw, tmp_path):
    job = queue.add("any", {"do": "limited", "mark": str(tmp_path / "mark"), "ms": 200})
    other = queue.add("any", {})
    oxherd("--concurrency", "1")
    assert finished(queue, job).returned == "after the pause"
    assert raw.hmget("bull:work:" + job.id, "atm", "ats") == [b"1", b"2"]
    assert finished(queue, other)
    order = [raw.hget(f"bull:work:{each.id}", "finishedOn") for each in (job, other)]
    assert order == sorted(order)


def test_the_hard_limit_does_not_depend_on_the_runner(oxherd, queue):
    job = queue.add("any", {"do": "hang"})
    run = oxherd("--timeout", "400ms")
    assert "time limit of 400 ms" in finished(queue, job).failed_reason
    until(lambda: len(run.runners()) >= 1, "a new runner")


def test_a_jobs_own_timeout_counts_and_the_smaller_is_taken(oxherd, queue):
    job = queue.add("any", {"do": "hang"}, timeout_ms=300)
    oxherd("--timeout", "60s")
    assert "time limit of 300 ms" in finished(queue, job).failed_reason


def test_the_soft_limit_lets_the_processor_clean_up(oxherd, redis_url):
    with Queue("slow", url=redis_url) as slow:
        job = slow.add("any", {})
        oxherd(queue="slow")
        until(lambda: slow.state(job.id) == "failed", "the soft limit")
        assert "300 ms" in slow.get(job.id).failed_reason
        assert slow.logs(job.id)[0] == "cleaned up"


def test_progress_and_log_rows_stream_and_come_before_the_outcome(oxherd, queue, raw):
    job = queue.add("any", {"do": "report", "steps": 50})
    run = oxherd()
    finished(queue, job)
    events = [
        {k.decode(): v.decode() for k, v in fields.items()} for _, fields in raw.xrange("bull:work:events")
    ]
    names = [event["event"] for event in events if event.get("jobId") == job.id]
    progress = [event["data"] for event in events if event["event"] == "progress"]
    assert progress[-1] == "50"
    assert len(progress) <= 10, "throttled: latest wins"
    assert names.index("completed") > max(at for at, name in enumerate(names) if name == "progress")
    assert queue.logs(job.id) == [f"step {n}" for n in range(1, 51)]
    run.until("job.output", 2)
    lines = [(line["stream"], line["line"]) for line in run.events("job.output") if line["job_id"] == job.id]
    assert sorted(lines) == [("stderr", "to stderr"), ("stdout", "to stdout")]


def test_output_goes_to_the_jobs_own_log_by_option(oxherd, queue):
    job = queue.add("any", {"do": "report", "steps": 1})
    oxherd("--log-job-output", "true")
    finished(queue, job)
    assert {"to stdout", "to stderr"} <= set(queue.logs(job.id))


def test_a_processor_can_replace_its_data(oxherd, queue):
    job = queue.add("any", {"do": "rewrite"})
    oxherd()
    assert finished(queue, job).data == {"rewritten": True}


def test_a_runner_holds_nothing_of_redis(oxherd, queue, redis_url):
    """I1: no address, no credential, no socket. I8: the master is its parent."""
    job = queue.add("any", {"do": "look_around"})
    run = oxherd(
        "--concurrency", "1", env={"OXHERD_REDIS_URL": redis_url, "MY_COPY": redis_url, "KEPT": "yes"}
    )
    seen = finished(queue, job).returned
    assert redis_url not in seen["environ"] and "OXHERD_" not in seen["environ"]
    assert seen["kept"] == "yes"
    assert len(seen["sockets"]) == 2, "the link, the permits, and nothing else"
    assert seen["ppid"] == run.pid


def test_what_a_dead_runner_leaves_behind_is_killed(oxherd, queue):
    """I8: strays come to the master, which kills and reaps what is not registered."""
    job = queue.add("any", {"do": "litter"})
    run = oxherd("--concurrency", "1")
    stray = finished(queue, job).progress
    until(lambda: not psutil.pid_exists(stray), "the stray is gone")
    assert run.until("stray.killed")["what"].startswith("python")


def test_the_whole_tree_of_a_job_is_killed_at_its_time_limit(oxherd, queue):
    job = queue.add("any", {"do": "litter", "hang": True}, timeout_ms=1_500)
    oxherd("--concurrency", "1")
    stray = finished(queue, job).progress
    until(lambda: not psutil.pid_exists(stray), "the daemon of the job is gone")


def test_a_ghost_id_is_dropped_and_the_queue_goes_on(oxherd, queue, raw):
    raw.rpush("bull:work:wait", "no-such-job")
    job = queue.add("any", {})
    run = oxherd("--concurrency", "1")
    assert finished(queue, job)
    assert run.until("job.dropped")["job_id"] == "no-such-job"
    assert raw.lrange("bull:work:active", 0, -1) == []


@pytest.mark.parametrize(("field", "text"), [("data", "{broken"), ("opts", "{broken")])
def test_a_broken_hash_fails_its_job_with_a_sentence(oxherd, queue, raw, field, text):
    job = queue.add("any", {}, attempts=5)
    raw.hset("bull:work:" + job.id, field, text)
    oxherd()
    until(lambda: raw.zscore("bull:work:failed", job.id), "the job failed")
    reason = raw.hget("bull:work:" + job.id, "failedReason").decode()
    assert "JSON" in reason and raw.hget("bull:work:" + job.id, "ats") == b"1"


def test_a_module_that_cannot_be_imported_fails_the_start_with_its_traceback(oxherd, queue):
    job = queue.add("any", {})
    run = oxherd(target="broken_at_import")
    assert run.ended() == 2
    said = "".join(run.other)
    assert "ZeroDivisionError" in said and "broken_at_import.py" in said and "No job was taken" in said
    assert "supervisor/" not in said, "the user's traceback, not ours"
    assert queue.state(job.id) == "waiting"


def test_i10_an_import_that_crashes_in_c_is_told_with_the_line_that_crashed(oxherd):
    run = oxherd(target="crash_at_import")
    assert run.ended() == 2
    said = "\n".join(run.other)
    assert "cannot load crash_at_import: the template ended with signal SIGSEGV" in said
    assert re.search(r'^  \|   File ".*/crash_at_import.py", line 5 in <module>$', said, re.MULTILINE), said
    assert "frozen importlib" not in said and "/sandbox/" not in said


def test_a_module_that_is_not_there_is_named(oxherd, queue):
    run = oxherd(target="no_such_module_at_all")
    assert run.ended() == 2
    assert "no_such_module_at_all" in "".join(run.other)


def test_a_processor_adds_a_job_through_the_master(oxherd, queue, raw):
    """I1: it has no connection of its own."""
    job = queue.add("any", {"do": "breed"})
    oxherd("--concurrency", "1")
    told = finished(queue, job).returned
    assert finished(queue, queue.get(told["child"])).priority == 3
    assert "Queue name cannot contain :" in told["refused"]


def test_a_processor_reads_what_its_children_returned(oxherd, queue, raw):
    job = queue.add("any", {"do": "ask_children"})
    raw.hset(f"bull:work:{job.id}:processed", "bull:kids:1", '{"n": 1}')
    oxherd("--concurrency", "1")
    assert finished(queue, job).returned == {"bull:kids:1": {"n": 1}}


@pytest.mark.parametrize(
    ("key", "attempts", "reason"),
    [
        ("dependencies", 1, "has pending dependencies. moveToFinished"),
        ("unsuccessful", 9, "because it has at least one failed child. moveToFinished"),
    ],
)
def test_a_parent_that_returns_too_early_fails_as_in_bullmq(oxherd, queue, raw, key, attempts, reason):
    """I10: it is never left active. With a failed child it is not tried again either."""
    job = queue.add("any", {}, attempts=attempts)
    if key == "dependencies":
        raw.sadd(f"bull:work:{job.id}:{key}", "bull:kids:1")
    else:
        raw.zadd(f"bull:work:{job.id}:{key}", {"bull:kids:1": 1})
    oxherd("--concurrency", "1")
    assert reason in finished(queue, job).failed_reason
    assert queue.state(job.id) == "failed"
    assert raw.hget(f"bull:work:{job.id}", "ats") == b"1"
    assert raw.llen("bull:work:active") == 0
