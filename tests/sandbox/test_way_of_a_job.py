"""From START to the outcome, over real sockets."""

from __future__ import annotations

import os

import pytest

from sandbox.wire import Kind


def test_a_job_is_run_and_its_result_comes_back(runner):
    assert runner.run("echo", {"sizes": [64, 256], "text": "grüße"}) == {"sizes": [64, 256], "text": "grüße"}


def test_a_runner_is_warm_and_runs_one_job_after_another(runner):
    first = runner.run("pid")

    assert [runner.run("pid") for _ in range(3)] == [first] * 3
    assert first == runner.pid


def test_a_job_is_told_all_about_itself(runner):
    parent = {"id": "3", "queue": "bull:up"}

    told = runner.run("facts", id="a/1", attempt=2, attempts=5, timestamp=123, priority=7, parent=parent)

    assert told == {
        "id": "a/1",
        "name": "facts",
        "queue": "work",
        "attempt": 2,
        "attempts": 5,
        "timestamp": 123,
        "priority": 7,
        "parent": parent,
    }


def test_a_job_name_that_nobody_takes_fails_with_the_known_names(runner):
    failure = runner.fail("resize")

    assert failure["kind"] == "raised"
    assert failure["reason"].startswith(
        "no processor takes jobs named 'resize' of queue 'work'; known names: "
    )
    assert "calls, echo, exit_now" in failure["reason"]


def test_a_queue_that_nobody_serves_fails_with_the_known_queues(runner):
    assert runner.fail("echo", queue="mail")["reason"] == (
        "no processor takes jobs of queue 'mail'; known queues: work"
    )


def test_a_processor_without_a_name_takes_what_no_other_takes(master):
    master.load("limits")
    runner = master.runner()

    assert runner.run("resize", queue="thumbnails", id="8") == "8"
    assert runner.run("anything", queue="thumbnails") is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"a":', "Expecting value"),
        (b"", "Expecting value"),
        (b"NaN", "NaN is no JSON"),
        (b'"\xff"', "byte 1 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_data_that_is_not_json_fails_the_job_and_the_processor_is_not_called(runner, raw, words):
    runner.start("exit_now", raw=raw)
    kind, failure, _ = runner.outcome()

    assert kind is Kind.FAILED
    assert failure["kind"] == "bad_data"
    assert failure["reason"].startswith("the data of the job is not JSON: ")
    assert words in failure["reason"]
    assert runner.run("echo", 1) == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("set", "it is of type set, which JSON cannot say"),
        ("nested", "at ['a'][1]['b'] is of type object, which JSON cannot say"),
        ("nan", "at ['x'][0] is nan, which is no JSON number"),
        ("circle", "at [0]['back'] contains itself"),
        ("bytes", "it is of type bytes, which JSON cannot say"),
        ("key", "it has a key of type tuple, which JSON cannot say"),
    ],
)
def test_a_result_that_json_cannot_say_is_named_with_its_place(runner, what, words):
    failure = runner.fail("return", what)

    assert failure["kind"] == "bad_result"
    assert failure["reason"].startswith("the result cannot be said in JSON: ")
    assert words in failure["reason"]


def test_returning_nothing_is_null_and_a_lone_surrogate_is_escaped(runner):
    runner.start("return", "none")
    assert runner.take() == (Kind.COMPLETED, b"null")

    runner.start("return", "surrogate")
    assert runner.take() == (Kind.COMPLETED, b'"\\ud800"')


def test_a_result_over_the_limit_is_refused_in_the_runner_with_both_sizes(master):
    master.load("simple")
    runner = master.runner(result_bytes=1000)

    failure = runner.fail("return", "large")

    assert failure["kind"] == "bad_result"
    assert failure["reason"].startswith("the result has 5002 bytes of JSON, more than the 1000 allowed")


def test_what_the_job_printed_is_in_the_pipes_when_its_outcome_is_read(runner):
    runner.run("print")

    assert runner.output("stdout") == "to stdout\nraw bytes\nno newline"
    assert runner.output("stderr") == "to stderr\n"


def test_what_c_code_prints_arrives_line_by_line(master):
    master.load("look")
    runner = master.runner()

    runner.run("c_print", queue="look")

    assert runner.output("stdout") == "from C\n"


def test_progress_is_throttled_and_the_last_value_comes_before_the_outcome(runner):
    runner.start("progress", list(range(1000)))
    kind, count, before = runner.outcome()

    assert (kind, count) == (Kind.COMPLETED, 1000)
    values = [int(body) for kind, body in before if kind is Kind.PROGRESS]
    assert values[:20] == list(range(20))
    assert values[-1] == 999
    assert len(values) < 100
    assert values == sorted(set(values))


def test_everything_a_job_says_goes_up_in_order_and_questions_are_answered(runner):
    runner.start("calls", {"step": 1})

    assert runner.take() == (Kind.LOG, b"one row")
    assert runner.take() == (Kind.DATA, b'{"step":2}')
    assert runner.take() == (Kind.PROGRESS, b"50")
    assert runner.take() == (Kind.ASK, b'{"seq":1,"what":"children_values"}')
    runner.send(Kind.ANSWER, {"seq": 1, "value": {"bull:other:1": 7}})
    assert runner.take() == (
        Kind.ASK,
        b'{"seq":2,"what":"add","queue":"other","name":"child","data":{"n":1},"options":{"delay_ms":5}}',
    )
    runner.send(Kind.ANSWER, {"seq": 2, "value": "99"})
    kind, result, _ = runner.outcome()

    assert kind is Kind.COMPLETED
    assert result == {"values": {"bull:other:1": 7}, "added": "99", "data": {"step": 2}}


def test_an_answer_that_is_an_error_is_raised_in_the_processor(runner):
    runner.start("calls", {})
    while runner.take()[0] is not Kind.ASK:
        pass
    runner.send(Kind.ANSWER, {"seq": 1, "error": "Redis cannot be reached"})
    kind, failure, _ = runner.outcome()

    assert kind is Kind.FAILED
    assert failure["reason"] == "job.children_values: Redis cannot be reached"
    assert "AskFailed" in failure["stack"]


def test_a_job_sees_that_it_is_cancelled(runner):
    runner.start("until_cancelled")
    assert runner.take() == (Kind.LOG, b"waiting")
    runner.send(Kind.CANCEL, {"reason": "someone asked"})

    assert runner.take() == (Kind.COMPLETED, b'"cancelled"')


def test_a_cancel_is_for_one_job_and_not_for_the_next(runner):
    for _ in range(2):
        runner.start("until_cancelled")
        assert runner.take() == (Kind.LOG, b"waiting")
        assert runner.silent()
        runner.send(Kind.CANCEL, {})
        assert runner.take() == (Kind.COMPLETED, b'"cancelled"')


def test_a_cancel_that_comes_too_late_does_not_touch_the_next_job(runner):
    runner.run("echo")
    runner.send(Kind.CANCEL, {"reason": "too late"})
    runner.start("until_cancelled")

    assert runner.take() == (Kind.LOG, b"waiting")
    assert runner.silent()


def test_leave_ends_an_idle_runner_with_0(runner):
    runner.send(Kind.LEAVE)

    assert runner.wait() == 0


def test_leave_lets_the_job_finish_first(runner):
    runner.start("until_cancelled")
    runner.take()
    runner.send(Kind.LEAVE)
    runner.send(Kind.CANCEL, {})

    assert runner.take() == (Kind.COMPLETED, b'"cancelled"')
    assert runner.wait() == 0


def test_a_closed_link_ends_an_idle_runner_with_0(runner):
    runner.link.close()

    assert runner.wait() == 0


def test_a_processor_that_exits_answers_nothing(runner):
    runner.start("exit_now")

    assert runner.wait() == 0
    assert runner.link.recv(1) == b""


def test_a_process_that_comes_back_from_a_fork_of_the_job_answers_nothing(runner):
    """Two processes have the link; the one that was not given the job ends with 70."""
    assert runner.run("leave_fork_behind") == 70
    assert runner.silent()
    assert runner.output("stderr") == ""
    assert runner.run("fork_and_exit") == 5
    assert runner.run("fork_and_speak") == 6


def test_a_frame_that_nobody_expects_ends_the_runner_with_70(runner):
    runner.send(Kind.GO, {"slot": 1})

    assert runner.wait() == 70
    assert "did not expect a GO frame" in runner.output("stderr")


def test_the_title_says_what_the_runner_does(runner):
    pytest.importorskip("setproctitle")

    def title() -> str:
        with open(f"/proc/{runner.pid}/cmdline") as file:
            return file.read().rstrip("\0 ")

    assert title() == "oxherd: runner 2 idle"
    runner.start("progress_then_wait", 42.5)
    assert runner.take() == (Kind.PROGRESS, b"42.5")
    assert runner.take() == (Kind.LOG, b"waiting")
    assert title() == "oxherd: runner 2 work/17 42%"
    runner.send(Kind.CANCEL, {})
    runner.outcome()
    assert runner.run("pid") == runner.pid
    assert os.path.exists(f"/proc/{runner.pid}")
