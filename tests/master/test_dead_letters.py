"""Jobs that fail for good, in whatever way, are found again in the queue of dead letters."""

from __future__ import annotations

import json

import pytest
from running import until

from supervisor.client import FlowJob, flows
from supervisor.protocol import fields


def letters(raw):
    """The envelopes by the id of the job they tell of."""
    found = [
        json.loads(raw.hget(b"bull:dead:" + each, "data")) for each in raw.lrange("bull:dead:wait", 0, -1)
    ]
    return {each["id"]: each for each in found}


def test_each_way_to_fail_for_good_leaves_a_letter_and_no_other_end_does(oxherd, queue, raw):
    exhausted = queue.add("any", {"do": "fail", "why": "empty"}, attempts=2)
    hopeless = queue.add("any", {"do": "give_up"}, attempts=5)
    broken_data, broken_opts = queue.add("any", {}), queue.add("any", {})
    raw.hset(f"bull:work:{broken_data.id}", "data", "{broken")
    raw.hset(f"bull:work:{broken_opts.id}", "opts", "{broken")
    stalled = queue.add("any", {})
    raw.hset(f"bull:work:{stalled.id}", "defa", fields.STALLED_TOO_OFTEN)  # as the stalled check leaves it
    dies = queue.add("any", {"do": "die"}, remove_on_fail=True)
    queue.add("any", {"do": "fail_once"}, attempts=2)
    queue.add("any", {"do": "nothing"})

    assert oxherd("--burst", "--dead-letter", "dead").ended() == 1

    found = letters(raw)
    assert found.keys() == {
        each.id for each in (exhausted, hopeless, broken_data, broken_opts, stalled, dies)
    }
    assert found[exhausted.id]["failedReason"] == "empty"
    assert found[exhausted.id]["attemptsMade"] == len(found[exhausted.id]["stacktrace"]) == 2
    assert found[hopeless.id]["attemptsMade"] == 1
    assert found[broken_data.id]["data"] == found[broken_opts.id]["opts"] == "{broken"
    assert found[stalled.id]["failedReason"] == fields.STALLED_TOO_OFTEN
    assert queue.get(dies.id) is None
    assert queue.counts()["failed"] == 5
    assert raw.llen("bull:dead:wait") == 6


def test_the_config_names_the_queue_and_its_worker_leaves_letters_alone(oxherd, queue, raw, tmp_path):
    config = tmp_path / "oxherd.toml"
    config.write_text('[queue.work]\ntarget = "deeds"\ndead_letter = "dead"\n', encoding="utf-8")
    job = queue.add("any", {"do": "fail"})

    assert oxherd("--burst", env={"OXHERD_CONFIG": str(config)}).ended() == 1

    assert letters(raw).keys() == {job.id}


def test_a_queue_that_takes_no_letter_is_reported_and_the_job_stays(oxherd, queue, raw):
    raw.set("bull:dead:wait", "no list")
    job = queue.add("any", {"do": "fail"}, remove_on_fail=True)

    run = oxherd("--dead-letter", "dead")

    assert "bull:dead:wait is a string" in run.until("job.not_copied")["why"]
    assert until(lambda: queue.get(job.id), "the job is kept").failed_reason == "boom"


@pytest.mark.parametrize("flags", [(), ("--inline",)])
def test_a_queue_is_not_its_own_queue_of_dead_letters(oxherd, queue, flags):
    job = queue.add("any", {})

    run = oxherd("--burst", "--dead-letter", "work", *flags)

    assert run.ended() == 2
    assert "cannot go to 'work' itself" in "".join(run.other)
    assert queue.state(job.id) == "waiting"


def test_a_run_in_one_process_leaves_letters_too(oxherd, queue, raw):
    job = queue.add("any", {"do": "fail"})

    assert oxherd("--burst", "--inline", "--dead-letter", "dead").ended() == 1

    assert letters(raw)[job.id]["failedReason"] == "boom"


def test_a_parent_that_fails_with_its_child_leaves_a_letter_of_its_own(oxherd, queue, raw):
    child = FlowJob("any", {"do": "fail"}, options={"fail_parent_on_failure": True, "job_id": "c"})
    queue.run(flows.add(FlowJob("any", {}, options={"job_id": "p"}, children=[child])))

    assert oxherd("--burst", "--dead-letter", "dead").ended() == 1

    assert {each: told["failedReason"] for each, told in letters(raw).items()} == {
        "c": "boom",
        "p": "child bull:work:c failed",
    }
