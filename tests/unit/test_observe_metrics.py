"""/metrics: what Prometheus' own parser reads of it, and that strangers cannot make it grow."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.master.attempt import Attempt
from supervisor.master.depths import Depth
from supervisor.master.figures import Figures
from supervisor.master.messages import Used
from supervisor.master.verdicts import Cause, Crashed, Returned
from supervisor.observe.exposition import Exposition
from supervisor.observe.metric_catalogue import COUNTER, HISTOGRAM, METRICS
from supervisor.observe.metrics import MOST_JOB_NAMES, OTHERS, Attempts
from supervisor.protocol.commands.work import Completed, Failed, FetchedJob
from supervisor.protocol.job_options import KeepJobs

RETURNED = Returned(b"1")
COMPLETED = Completed("1", "t", b"1", KeepJobs())
FAILED = Failed("1", "t", "died", None, KeepJobs(), 1)
UGLY = 'a "name"\nwith \\ and 🐂 and \ud83d'

TREE = {"count": 3, "threads": 7, "anon_bytes": 5_000_000, "cpu_share": 0.5}
SNAPSHOT = {
    "host": "here",
    "pid": 7,
    "version": "0.1.0",
    "generation": 2,
    "started_on": 1_700_000_000_500,
    "pool": {"slots": 2, "busy": 1},
    "queues": [
        {
            "name": "work",
            "slots": 2,
            "busy": 1,
            "quiet": False,
            "degraded": "no runner",
            "done": 4,
            "failed": 1,
            "fetched_ago_ms": 250,
            "renewed_ago_ms": 1_500,
            "limits_by": "sampling",
        }
    ],
    "slots": [
        {"queue": "work", "number": 1, "runner": 41, "age_ms": 2_000, "served": 3, "tree": TREE},
        {"queue": "work", "number": 2, "runner": 42, "age_ms": 1_000, "served": 0, "tree": None},
        {"queue": "work", "number": 3, "runner": None, "age_ms": None, "served": None, "tree": None},
    ],
    "redis": {"connected": True, "answered_ago_ms": 10},
    "runners": {"templates": [40], "strays": 0},
}
DEPTHS = {"work": Depth({"waiting": 3, "waiting-children": 0}, paused=True, oldest_s=1.5)}


def attempt(name: str = "resize", *, ran_s: float = 0.3, verdict=RETURNED, **job) -> Attempt:
    fields = {"opts": b"{}", "timestamp": 1_000, "attempts_made": 0, "attempts_started": 1} | job
    fetched = FetchedJob(
        "1", "t", name, b"{}", priority=0, stalled_count=0, deferred=None, parent=None, **fields
    )
    made = Attempt(fetched, 0.0)
    made.started_at, made.ended_at, made.verdict = 50.0, 50.0 + ran_s, verdict
    return made


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values by label name...) -> value, as Prometheus understands the text."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def page(figures: Figures, snapshot=SNAPSHOT, depths=None) -> dict[tuple[str, ...], float]:
    return samples(figures.text(snapshot, 5, cpu_s=1.25, depths=DEPTHS if depths is None else depths))


def test_prometheus_reads_every_metric_of_the_catalogue():
    figures = Figures(wall_offset_s=0.0)
    seen = attempt(verdict=Crashed(Cause.SIGNAL, "died"))
    seen.cpu_ms, seen.peak_bytes, seen.processes = 120, 9 * 1024 * 1024, 3
    seen.used = Used(read_bytes=0, written_bytes=5_000)
    figures.written("work", seen, FAILED)
    figures.events("job.failed", {"queue": "work"})
    figures.asked("/metrics")

    text = figures.text(SNAPSHOT, 5, cpu_s=1.25, depths=DEPTHS)

    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, metric in METRICS.items():
        family = families[name.removesuffix("_total") if metric.kind == COUNTER else name]
        assert (family.type, family.documentation) == (metric.kind, metric.doc), name
    assert len(families) == len(METRICS)
    found = samples(text)
    assert found["oxherd_limits_mode", "mode=sampling"] == 1
    assert found["oxherd_limits_mode", "mode=cgroup"] == 0
    assert found["oxherd_queue_degraded", "queue=work"] == 1
    assert found["oxherd_queue_jobs", "queue=work", "state=waiting"] == 3
    assert found["oxherd_queue_paused", "queue=work"] == 1
    assert found["oxherd_queue_oldest_waiting_seconds", "queue=work"] == 1.5
    assert found["oxherd_abnormal_ends_total", "cause=signal", "queue=work"] == 1
    assert found["oxherd_start_time_seconds",] == 1_700_000_000.5
    assert found["oxherd_runner_memory_bytes", "queue=work", "runner=41", "slot=1"] == 5_000_000


def test_names_are_of_prometheus_kind_and_carry_their_units():
    for name, metric in METRICS.items():
        assert name.startswith("oxherd_")
        assert name.endswith("_total") == (metric.kind == COUNTER), name
        assert not name.endswith(("_ms", "_minutes", "_kb")), name
        assert bool(metric.buckets) == (metric.kind == HISTOGRAM), name
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert metric.doc.endswith(".") and "\n" not in metric.doc


def test_what_is_not_known_has_no_sample_and_is_never_zero():
    unknown = {**SNAPSHOT, "redis": {"connected": False, "answered_ago_ms": None}}
    found = page(Figures(0.0), unknown)
    assert ("oxherd_redis_answer_age_seconds",) not in found
    assert found["oxherd_redis_connected",] == 0
    assert ("oxherd_runner_threads", "queue=work", "runner=41", "slot=1") in found
    assert ("oxherd_runner_threads", "queue=work", "runner=42", "slot=2") not in found
    assert not any(key[0].startswith("oxherd_attempt_") for key in found)


def test_the_series_of_a_queue_that_is_gone_end_with_it():
    elsewhere = {"other": DEPTHS["work"]}
    for found in (page(Figures(0.0), depths={}), page(Figures(0.0), depths=elsewhere)):
        assert not any(key[0].startswith(("oxherd_queue_jobs", "oxherd_queue_paused")) for key in found)
        assert found["oxherd_slots", "queue=work"] == 2


def test_the_series_of_a_runner_end_with_it():
    figures = Figures(0.0)
    assert any("runner=42" in key for key in page(figures))
    without = {**SNAPSHOT, "slots": [each for each in SNAPSHOT["slots"] if each["runner"] != 42]}
    assert not any("runner=42" in key for key in page(figures, without))


def test_a_histogram_counts_what_is_at_most_as_large_as_each_bound():
    figures = Figures(0.0)
    for ran_s in (0.004, 0.25, 0.3, 10_000.0):
        figures.written("work", attempt(ran_s=ran_s), COMPLETED)
    found = page(figures)

    def at(bound: str) -> float:
        return found["oxherd_attempt_run_seconds_bucket", "job_name=resize", f"le={bound}", "queue=work"]

    assert (at("0.005"), at("0.25"), at("1"), at("7200"), at("+Inf")) == (1, 2, 3, 3, 4)
    labels = "job_name=resize", "queue=work"
    assert found["oxherd_attempt_run_seconds_count", *labels] == 4
    assert found["oxherd_attempt_run_seconds_sum", *labels] == pytest.approx(10_000.554)


def test_the_wait_is_counted_of_a_first_attempt_that_nobody_delayed():
    figures = Figures(wall_offset_s=0.0)
    figures.written("work", attempt(timestamp=48_000), COMPLETED)  # started at 50 s
    figures.written("work", attempt(timestamp=48_000, attempts_started=2), COMPLETED)
    figures.written("work", attempt(timestamp=48_000, opts=b'{"delay":1000}'), COMPLETED)
    found = page(figures)
    labels = "job_name=resize", "queue=work"
    assert found["oxherd_attempt_wait_seconds_count", *labels] == 1
    assert found["oxherd_attempt_wait_seconds_sum", *labels] == pytest.approx(2.0)


def test_what_an_attempt_has_used_is_counted_where_it_is_known():
    figures = Figures(0.0)
    figures.written("work", attempt(), COMPLETED)  # it has told nothing
    told = attempt()
    told.fetched_at, told.processes = 49.0, 3
    told.used = Used(read_bytes=0, written_bytes=5_000)
    figures.written("work", told, COMPLETED)
    found = page(figures)

    def of(name: str) -> tuple[float, float]:
        labels = "job_name=resize", "queue=work"
        return found[f"oxherd_attempt_{name}_count", *labels], found[f"oxherd_attempt_{name}_sum", *labels]

    assert of("start_seconds") == (2, pytest.approx(51.0))  # fetched at 0 and at 49, started at 50
    assert of("processes") == (1, 3)
    assert of("read_bytes") == (1, 0)  # known, and nothing
    assert of("written_bytes") == (1, 5_000)


def test_any_name_that_a_stranger_gives_a_job_is_read_back():
    figures = Figures(0.0)
    figures.written("work", attempt(UGLY), COMPLETED)
    [key] = [key for key in page(figures) if key[0] == "oxherd_attempts_total"]
    assert key[1] == "job_name=" + UGLY.replace("\ud83d", "\\ud83d")


def test_names_that_never_end_share_one_series():
    """I7: a job's name is a stranger's text, and a million of them must not fill us nor Prometheus."""
    attempts = Attempts()
    for number in range(10 * MOST_JOB_NAMES):
        attempts.of("work", f"job-{number}").outcomes["completed"] = number
    attempts.of("work", "x" * 5_000)
    attempts.of("other", "job")
    names = [name for queue, name in attempts.series if queue == "work"]
    assert len(names) == MOST_JOB_NAMES + 1
    assert OTHERS in names
    assert max(map(len, names)) < 101
    assert attempts.of("work", "job-5") is attempts.series["work", "job-5"]
    assert attempts.of("work", "one more") is attempts.series["work", OTHERS]
    assert ("other", "job") in attempts.series


def test_a_sample_that_the_catalogue_does_not_have_is_a_mistake():
    page = Exposition()
    with pytest.raises(KeyError):
        page.add("oxherd_cows", 1)
    with pytest.raises(ValueError, match="zip"):
        page.add("oxherd_slots", 1)
