"""Bad input to the calls of a job: a sentence where it was said, and a master that goes on."""

from __future__ import annotations

from running import until

# Taken: progress, rows and data are anything JSON can say, or has a text.
OUR_ERRORS = {"TypeError", "ValueError", "AskFailed"}
MUST_FAIL = [
    *(
        f"{call} {value}"
        for call in ("progress", "update_data", "add.data")
        for value in ("nan", "object", "circle")
    ),
    *(
        f"{call} {value}"
        for call in ("progress", "update_data", "add.data")
        for value in ("deep", "bytes", "tuple key")
    ),
    *(
        f"add.queue {value}"
        for value in ("none", "true", "nan", "list", "object", "bytes", "empty", "colon", "half")
    ),
    *(f"add.name {value}" for value in ("none", "true", "nan", "list", "object", "bytes", "half", "huge")),
    *(
        f"add.delay_ms {value}"
        for value in ("true", "nan", "list", "object", "zero", "huge", "too long a number")
    ),
    *(f"add.job_id {value}" for value in ("true", "nan", "list", "object", "colon", "half")),
    *(f"add.parent {value}" for value in ("true", "nan", "list", "object", "empty", "number key")),
]


def test_a_processor_that_says_nonsense_gets_sentences_and_the_master_goes_on(oxherd, queue):
    added = queue.add("bad", {})
    master = oxherd("--concurrency", "1", target="bad_input", queue=None)

    until(lambda: queue.state(added.id) in ("completed", "failed"), "the job is finished")

    job = queue.get(added.id)
    assert job.failed_reason is None
    assert job.data == {"done": True}
    ended = {call: end for call, end in job.returned.items() if end is not None}
    assert sorted(set(MUST_FAIL) - ended.keys()) == []
    assert not {call: end for call, end in ended.items() if end[0] not in OUR_ERRORS}
    assert not {call: end for call, end in ended.items() if not 5 < len(end[1]) < 500 or "\n" in end[1]}
    assert len(master.events("runner.started")) == 1
    again = queue.add("bad", {})
    until(lambda: queue.state(again.id) == "completed", "the next job is done")
