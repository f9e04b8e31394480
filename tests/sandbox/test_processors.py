"""`@processor`: what it registers, and the sentences for what cannot be."""

from __future__ import annotations

import pytest

from sandbox import processors
from sandbox.errors import LoadError
from sandbox.processors import processor


@pytest.fixture(autouse=True)
def _clean_register():
    processors.forget_all()
    yield
    processors.forget_all()


def work(job):
    return job


def test_the_function_stays_as_it_is():
    assert processor("q")(work) is work
    (known,) = processors.registered()
    assert (known.queue, known.name, known.function) == ("q", None, work)
    assert known.target == f"{__name__}:work"


def test_one_function_may_take_the_jobs_of_two_queues():
    processor("a")(processor("b")(work))

    assert [each.queue for each in processors.registered()] == ["b", "a"]


def test_a_module_that_is_reloaded_replaces_its_own():
    processor("q")(work)
    processor("q")(work)

    assert len(processors.registered()) == 1


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("500ms", 500),
        ("60s", 60_000),
        ("1.5m", 90_000),
        ("1h", 3_600_000),
        ("1d", 86_400_000),
        (" 2 s ", 2_000),
    ],
)
def test_durations_carry_their_unit(text, expected_ms):
    assert processors.duration_ms("m:f", "timeout", text) == expected_ms


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": 60}, 'timeout=60 has no unit; write "60s" or "60ms"'),
        ({"soft_timeout": 1.5}, 'soft_timeout=1.5 has no unit; write "1.5s"'),
        ({"timeout": "60"}, "timeout='60' is no duration; write a number with ms, s, m, h or d"),
        ({"timeout": "soon"}, "timeout='soon' is no duration"),
        ({"timeout": True}, "timeout=True is no duration"),
        ({"timeout": "0s"}, "timeout='0s' is less than a millisecond"),
        ({"timeout": "-5s"}, "timeout='-5s' is no duration"),
        ({"memory": 512}, "memory=512 is no size"),
        ({"memory": "much"}, "memory='much' is no size"),
        ({"cpus": "2"}, "cpus must be a number of cores, 0.01 or more, not '2'"),
        ({"cpus": 0.001}, "cpus must be a number of cores, 0.01 or more, not 0.001"),
        ({"cpus": float("nan")}, "cpus must be a number of cores, 0.01 or more, not nan"),
        ({"cpus": True}, "cpus must be a number of cores, 0.01 or more, not True"),
        ({"cpu_weight": 0}, "cpu_weight must be a whole number, 1 or more, not 0"),
        ({"cpu_weight": 10_001}, "cpu_weight must be 10000 or less, not 10001"),
        ({"concurrency": 0}, "concurrency must be a whole number, 1 or more, not 0"),
        ({"concurrency": "2"}, "concurrency must be a whole number, 1 or more, not '2'"),
        ({"backoff": 100}, "backoff must be a function of (attempt, exception, job), not 100"),
        ({"name": 5}, "name must be a job's name, not 5"),
    ],
)
def test_an_option_that_cannot_be_is_one_sentence_with_the_functions_name(options, sentence):
    with pytest.raises(LoadError) as caught:
        processor("q", **options)(work)

    assert str(caught.value).startswith(f"{__name__}:work: ")
    assert sentence in str(caught.value)
    assert processors.registered() == []


def test_shares_of_the_cpu_are_limits_as_others_are():
    processor("q", cpus=2, cpu_weight=50)(work)
    (found,) = processors.registered()
    assert found.limits.to_json() == {"cpus": 2.0, "cpu_weight": 50}


def test_a_queue_that_cannot_be_is_refused():
    with pytest.raises(LoadError, match="contains ':', which BullMQ keeps for its keys"):
        processor("a:b")(work)
    with pytest.raises(LoadError, match="the queue must be a name, not ''"):
        processor("")(work)
    with pytest.raises(LoadError, match=r'write @processor\("queue"\) above .*:work'):
        processor(work)


def test_a_second_processor_for_the_same_jobs_is_refused_with_both_names():
    def other(job):
        return None

    processor("q", name="n")(work)
    with pytest.raises(LoadError, match=rf"{__name__}:work and .*:.*other"):
        processor("q", name="n")(other)


def test_several_at_a_time_are_for_async_functions_alone():
    with pytest.raises(LoadError, match="per_runner=5 is for `async def` functions"):
        processor("work", per_runner=5)(lambda job: None)
