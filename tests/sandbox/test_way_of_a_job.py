"""From START to the outcome, over real sockets."""

from __future__ import annotations

import json
import time

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
