"""Every metric there is: its kind, its labels, and what it tells a reader.

Beside `catalogue.py`, which has the log events: the exposition and the reference page are made from this
list, and a test finds a sample that says something else. Names carry their units in Prometheus' manner
(seconds, bytes, `_total`); labels are few, and what a stranger names (a job's name) is bounded in
`metrics.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"


class Metric(NamedTuple):
    """One metric. `buckets` are the upper bounds of a histogram, in its unit, without the last, infinity."""

    kind: str
    labels: tuple[str, ...]
    doc: str
    buckets: tuple[float, ...] = ()


def _metric(kind: str, labels: str, doc: str, buckets: tuple[float, ...] = ()) -> Metric:
    return Metric(kind, tuple(labels.split()), doc, buckets)


# From a no-op to a night; each about two and a half times the one before.
SECONDS: Final = (0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0)
_MB: Final = 1024.0 * 1024.0
IO_BYTES: Final = tuple(1024.0 * 16**step for step in range(7))  # to 16 GB
TASKS: Final = tuple(2.0**step for step in range(11))
BYTES: Final = tuple(size * _MB for size in (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384))

METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        # --- the master ---
        "oxherd_info": _metric(GAUGE, "version host", "Always 1: who is asked."),
        "oxherd_start_time_seconds": _metric(GAUGE, "", "When the master was started, epoch seconds."),
        "oxherd_generation": _metric(GAUGE, "", "How often the configuration was loaded again, and 1."),
        "oxherd_limits_mode": _metric(
            GAUGE, "mode", "1 for how limits are kept, `cgroup` or `sampling`; 0 for the other."
        ),
        "oxherd_redis_connected": _metric(GAUGE, "", "1 while the connection to Redis stands, else 0."),
        "oxherd_redis_answer_age_seconds": _metric(GAUGE, "", "How long ago Redis last answered."),
        "oxherd_master_cpu_seconds_total": _metric(COUNTER, "", "CPU time of the master itself."),
        "oxherd_templates": _metric(GAUGE, "", "Templates that are there."),
        "oxherd_log_events_total": _metric(
            COUNTER, "event queue", "Lines of the log by event, whether or not they were written."
        ),
        # --- queues ---
        "oxherd_pool_slots": _metric(
            GAUGE, "", "Slots that queues share; of each queue those that it has now."
        ),
        "oxherd_slots": _metric(GAUGE, "queue", "Jobs that may run at a time."),
        "oxherd_slots_busy": _metric(GAUGE, "queue", "Jobs that run."),
        "oxherd_queue_quiet": _metric(GAUGE, "queue", "1 while nothing is fetched because somebody said so."),
        "oxherd_queue_degraded": _metric(
            GAUGE, "queue", "1 while its jobs lose their runners, or it has none; the log says why."
        ),
        "oxherd_fetch_age_seconds": _metric(GAUGE, "queue", "How long ago jobs were last asked for."),
        "oxherd_renewal_age_seconds": _metric(
            GAUGE, "queue", "Age of the oldest lock that is held, since it was last renewed."
        ),
        # --- queues in Redis: all masters say the same ---
        "oxherd_queue_jobs": _metric(
            GAUGE, "queue state", "Jobs in Redis by state, as read in the last 5 s; the same of all masters."
        ),
        "oxherd_queue_paused": _metric(GAUGE, "queue", "1 while the queue is paused for all workers."),
        "oxherd_queue_oldest_waiting_seconds": _metric(
            GAUGE, "queue", "How long the job that has waited longest has been due; 0 while none waits."
        ),
        # --- attempts ---
        "oxherd_attempts_total": _metric(
            COUNTER, "queue job_name outcome", "Attempts whose outcome is written, by what became of them."
        ),
        "oxherd_abnormal_ends_total": _metric(
            COUNTER, "queue cause", "Attempts that did not end by their processor's own word, by verdict."
        ),
        "oxherd_attempt_wait_seconds": _metric(
            HISTOGRAM,
            "queue job_name",
            "From when a job without a delay was added to its first start.",
            SECONDS,
        ),
        "oxherd_attempt_start_seconds": _metric(
            HISTOGRAM, "queue job_name", "From when an attempt was fetched to its start in a runner.", SECONDS
        ),
        "oxherd_attempt_run_seconds": _metric(
            HISTOGRAM, "queue job_name", "Wall time of an attempt in its runner.", SECONDS
        ),
        "oxherd_attempt_cpu_seconds": _metric(
            HISTOGRAM, "queue job_name", "CPU time of an attempt, where it was measured.", SECONDS
        ),
        "oxherd_attempt_peak_memory_bytes": _metric(
            HISTOGRAM, "queue job_name", "Most memory of an attempt, where it was measured.", BYTES
        ),
        "oxherd_attempt_processes": _metric(
            HISTOGRAM,
            "queue job_name",
            "Most processes and threads of an attempt, where they were counted.",
            TASKS,
        ),
        "oxherd_attempt_read_bytes": _metric(
            HISTOGRAM, "queue job_name", "What an attempt read from disks, where it was measured.", IO_BYTES
        ),
        "oxherd_attempt_written_bytes": _metric(
            HISTOGRAM, "queue job_name", "What an attempt wrote to disks, where it was measured.", IO_BYTES
        ),
        # --- runners: a series is gone with its process ---
        "oxherd_runner_age_seconds": _metric(GAUGE, "queue slot runner", "Age of the process in a slot."),
        "oxherd_runner_jobs_total": _metric(COUNTER, "queue slot runner", "Jobs that it has finished."),
        "oxherd_runner_processes": _metric(GAUGE, "queue slot runner", "Processes in its tree, itself too."),
        "oxherd_runner_threads": _metric(GAUGE, "queue slot runner", "Kernel threads in its tree."),
        "oxherd_runner_memory_bytes": _metric(
            GAUGE, "queue slot runner", "Memory of its tree that it shares with nobody (RssAnon)."
        ),
        "oxherd_runner_cpu_cores": _metric(
            GAUGE, "queue slot runner", "CPU that its tree uses, in cores, since the look before."
        ),
        # --- the listener itself ---
        "oxherd_http_requests_total": _metric(COUNTER, "path", "Requests that were answered."),
        "oxherd_spans_dropped_total": _metric(
            COUNTER, "", "Spans that were not made, because the collector is too slow or away."
        ),
    }
)
