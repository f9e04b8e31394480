"""Signals to a whole master (I9)."""

from __future__ import annotations

import os
import signal

from running import until


def test_term_lets_a_running_job_end(oxherd, queue):
    job = queue.add("any", {"do": "sleep", "s": 1})
    run = oxherd("--concurrency", "1")
    run.at_work(1)
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
    assert queue.get(job.id).returned == "slept"


def test_a_job_cut_off_is_first_in_its_queue_with_its_attempt_not_burnt(oxherd, queue, raw):
    """I9."""
    cut = queue.add("any", {"do": "sleep", "s": 60})
    run = oxherd("--concurrency", "1", "--stop-deadline", "1500ms")
    run.at_work(1)
    queue.add("any", {"do": "nothing"})
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
    assert raw.lrange("bull:work:wait", -1, -1) == [cut.id.encode()], "the right end runs next"
    kept = raw.hgetall("bull:work:" + cut.id)
    assert kept[b"ats"] == b"0" and b"atm" not in kept and b"processedOn" not in kept
    assert raw.exists(f"bull:work:{cut.id}:lock") == 0
    assert raw.lrange("bull:work:active", 0, -1) == []


def test_a_prioritized_job_goes_back_to_the_front_of_its_priority(oxherd, queue, raw):
    """I9."""
    cut = queue.add("any", {"do": "sleep"}, priority=5)
    run = oxherd("--concurrency", "1")
    run.at_work(1)
    queue.add("any", {"do": "nothing"}, priority=5)
    queue.add("any", {"do": "nothing"}, priority=4)
    run.signal(signal.SIGQUIT)
    assert run.ended() == 0
    assert raw.zrange("bull:work:prioritized", 0, -1)[1] == cut.id.encode()


def test_quit_hands_every_job_back_now(oxherd, queue):
    queue.add_bulk([("any", {"do": "hang"}) for _ in range(3)])
    run = oxherd("--concurrency", "2")
    run.at_work(2)
    run.signal(signal.SIGQUIT)
    assert run.ended(10) == 0
    assert queue.counts()["waiting"] == 3 and queue.counts()["active"] == 0


def test_a_second_term_skips_the_grace_and_a_third_kills(oxherd, queue):
    queue.add("any", {"do": "hang"})
    run = oxherd("--concurrency", "1")
    run.at_work(1)
    for _ in range(3):
        seen = len(run.events("request.received"))
        run.signal(signal.SIGTERM)
        run.until("request.received", seen + 1)
    assert run.ended(10) == 0
    assert [line["to"] for line in run.events("stop.hurried")] == ["cancel", "kill"]
    assert queue.counts()["waiting"] == 1


def test_tstp_is_quiet_and_cont_fetches_again(oxherd, queue):
    run = oxherd("--concurrency", "1")
    run.until("master.started")
    run.signal(signal.SIGTSTP)
    run.until("master.quieted")
    job = queue.add("any", {})
    until(lambda: len(run.runners()) == 1, "the runner lives on")
    assert queue.state(job.id) == "waiting"
    run.signal(signal.SIGCONT)
    until(lambda: queue.state(job.id) == "completed", "fetched again")


def test_ctrl_c_reaches_the_master_alone(oxherd, queue):
    """Template and runners have sessions of their own."""
    run = oxherd("--concurrency", "1")
    until(lambda: run.runners(), "a runner")
    assert all(os.getsid(each.pid) != os.getsid(run.pid) for each in run.family())


def test_no_job_is_fetched_after_a_stop_was_asked_for(oxherd, queue):
    job = queue.add("any", {"do": "sleep", "s": 1})
    run = oxherd("--concurrency", "2")
    run.at_work(1)
    run.signal(signal.SIGINT)
    run.until("stop.requested")
    late = queue.add("any", {})
    assert run.ended() == 0
    assert queue.state(job.id) == "completed"
    assert queue.state(late.id) == "waiting"


def test_usr1_reports_each_slot(oxherd, queue):
    job = queue.add("any", {"do": "sleep"})
    run = oxherd("--concurrency", "2")
    run.at_work(1)
    until(lambda: len(run.runners()) == 2, "both runners")
    run.signal(signal.SIGUSR1)
    run.until("slot.reported", 2)
    assert job.id in {line["job_id"] for line in run.events("slot.reported")}


def test_a_hangup_without_a_terminal_reloads_and_does_not_stop_it(oxherd, queue):
    run = oxherd()
    run.until("master.started")
    run.signal(signal.SIGHUP)
    run.until("reload.done")
    job = queue.add("any", {})
    until(lambda: queue.state(job.id) == "completed", "it works on")


def test_a_stop_is_heard_while_the_processors_are_imported(oxherd, tmp_path):
    run = oxherd(target="slow_import", env={"GO_ON": str(tmp_path / "never")})
    run.until("template.output")
    run.signal(signal.SIGTERM)
    assert run.ended(10) == 0
    assert run.events("master.stopped") and not run.events("master.started")


def test_what_is_asked_before_the_start_is_done_is_obeyed_after_it(oxherd, queue, tmp_path):
    go = tmp_path / "go"
    run = oxherd(target="slow_import", env={"GO_ON": str(go)})
    run.until("template.output")
    run.signal(signal.SIGTSTP)
    job = queue.add("any", {})
    go.touch()
    run.until("master.quieted")
    run.signal(signal.SIGCONT)
    until(lambda: queue.state(job.id) == "completed", "it fetches again")


def test_a_stopped_worker_gives_the_marker_it_may_have_popped_to_another(oxherd, queue, raw):
    """Its last pop was cut short: the next worker must not sleep through the job of that marker."""
    run = oxherd("--concurrency", "1")
    run.until("runner.started")
    until(lambda: b"bzpopmin" in b" ".join(c["cmd"].encode() for c in raw.client_list()), "it waits")
    run.signal(signal.SIGTERM)
    assert run.ended() == 0
    assert raw.zrange("bull:work:marker", 0, -1) == [b"0"]
