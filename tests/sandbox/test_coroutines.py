"""`async def` processors run in one loop that stays clean."""

from __future__ import annotations

import pytest


@pytest.fixture
def runner(master):
    assert master.load("coroutines")["what"] == "ready"
    return master.runner()


def test_a_coroutine_is_awaited(runner):
    assert runner.run("echo", [1]) == [1]


def test_the_loop_is_kept_from_job_to_job(runner):
    assert runner.run("loop") == runner.run("loop")


def test_a_task_left_behind_is_cancelled_before_the_next_job(runner):
    runner.run("leave_task", id="5")

    assert runner.run("cancelled") == ["5"]


def test_an_exception_keeps_the_users_frames_and_not_the_loops(runner):
    failure = runner.fail("raise")

    assert failure["reason"] == "from a coroutine"
    assert "in raise_it" in failure["stack"]
    assert "asyncio" not in failure["stack"]


def test_a_coroutine_that_cancels_itself_is_an_ordinary_failure(runner):
    failure = runner.fail("cancel_itself")

    assert failure["kind"] == "raised"
    assert failure["reason"] == "CancelledError"
    assert runner.run("echo", 1) == 1
