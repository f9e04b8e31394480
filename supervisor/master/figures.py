"""The page /metrics: what is counted of attempts, and the snapshot, as samples.

Decides which fact is which sample; names and help are the catalogue's. Of what is not known there is no
sample, and never a 0. What is about a runner is taken from the snapshot, so its series end with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from supervisor.master.attempt import Attempt
from supervisor.master.depths import Depth
from supervisor.master.dispatcher import STATES
from supervisor.master.latency import waits_for_us
from supervisor.master.verdicts import cause_of
from supervisor.observe.exposition import Exposition
from supervisor.observe.metrics import Attempts, Counters
from supervisor.protocol.commands.work import Outcome

Known = Mapping[str, Any]


class Figures:
    """What one master has counted since its start."""

    def __init__(self, wall_offset_s: float) -> None:
        """`wall_offset_s`: from the clock of the attempts to epoch seconds."""
        self.events = Counters()
        self.wall_offset_s = wall_offset_s
        self._attempts = Attempts()
        self._requests: Counter[str] = Counter()

    def asked(self, path: str) -> None:
        self._requests[path] += 1

    def written(self, queue: str, attempt: Attempt, outcome: Outcome) -> None:
        """Called for each attempt: it counts, and does nothing else."""
        series = self._attempts.of(queue, attempt.job.name)
        state = STATES[type(outcome)]
        series.outcomes[state] = series.outcomes.get(state, 0) + 1
        if attempt.started_at:
            series.ran_s.add(attempt.ended_at - attempt.started_at)
            series.start_s.add(attempt.started_at - attempt.fetched_at)
            job = attempt.job
            if waits_for_us(job):
                waited_s = attempt.started_at + self.wall_offset_s - job.timestamp / 1000
                series.waited_s.add(max(0.0, waited_s))
        if attempt.cpu_ms:
            series.cpu_s.add(attempt.cpu_ms / 1000)
        if attempt.peak_bytes:
            series.peak_bytes.add(attempt.peak_bytes)
        if attempt.processes:
            series.tasks.add(attempt.processes)
        if (used := attempt.used) is not None:
            series.read_bytes.add(used.read_bytes)
            series.written_bytes.add(used.written_bytes)
        if attempt.verdict is not None and (cause := cause_of(attempt.verdict)) is not None:
            self._attempts.causes[queue, str(cause)] += 1

    def text(
        self, known: Known, spans_dropped: int | None, *, cpu_s: float, depths: Mapping[str, Depth]
    ) -> str:
        """The page. `known` is the snapshot; `depths` what Redis says of the queues."""
        page = Exposition()
        _of_master(page, known)
        page.add("oxherd_master_cpu_seconds_total", cpu_s)
        for queue in known["queues"]:
            _of_queue(page, queue)
            if (depth := depths.get(queue["name"])) is not None:
                _of_depth(page, queue["name"], depth)
        for slot in known["slots"]:
            if slot["runner"] is not None:
                _of_runner(page, slot)
        for event, queues in self.events.snapshot().items():
            for name, count in queues.items():
                page.add("oxherd_log_events_total", count, event, name)
        self._of_attempts(page)
        page.table("oxherd_http_requests_total", self._requests)
        page.add("oxherd_spans_dropped_total", spans_dropped)
        return str(page)

    def _of_attempts(self, page: Exposition) -> None:
        for (queue, name), series in self._attempts.series.items():
            for outcome, count in series.outcomes.items():
                page.add("oxherd_attempts_total", count, queue, name, outcome)
            page.histogram("oxherd_attempt_wait_seconds", series.waited_s, queue, name)
            page.histogram("oxherd_attempt_start_seconds", series.start_s, queue, name)
            page.histogram("oxherd_attempt_run_seconds", series.ran_s, queue, name)
            page.histogram("oxherd_attempt_cpu_seconds", series.cpu_s, queue, name)
            page.histogram("oxherd_attempt_peak_memory_bytes", series.peak_bytes, queue, name)
            page.histogram("oxherd_attempt_processes", series.tasks, queue, name)
            page.histogram("oxherd_attempt_read_bytes", series.read_bytes, queue, name)
            page.histogram("oxherd_attempt_written_bytes", series.written_bytes, queue, name)
        for (queue, cause), count in self._attempts.causes.items():
            page.add("oxherd_abnormal_ends_total", count, queue, cause)


def _of_master(page: Exposition, known: Known) -> None:
    page.add("oxherd_info", 1, known["version"], known["host"])
    page.add("oxherd_start_time_seconds", known["started_on"] / 1000)
    page.add("oxherd_generation", known["generation"])
    redis = known["redis"]
    page.add("oxherd_redis_connected", int(redis["connected"]))
    page.add("oxherd_redis_answer_age_seconds", _seconds(redis["answered_ago_ms"]))
    page.add("oxherd_templates", len(known["runners"]["templates"]))
    if known.get("pool") is not None:
        page.add("oxherd_pool_slots", known["pool"]["slots"])
    modes = {queue["limits_by"] for queue in known["queues"]}
    if modes:
        page.table("oxherd_limits_mode", {mode: int(mode in modes) for mode in ("cgroup", "sampling")})


def _of_queue(page: Exposition, queue: Known) -> None:
    name = queue["name"]
    page.add("oxherd_slots", queue["slots"], name)
    page.add("oxherd_slots_busy", queue["busy"], name)
    page.add("oxherd_queue_quiet", int(queue["quiet"]), name)
    page.add("oxherd_queue_degraded", int(bool(queue["degraded"])), name)
    page.add("oxherd_fetch_age_seconds", _seconds(queue["fetched_ago_ms"]), name)
    page.add("oxherd_renewal_age_seconds", _seconds(queue["renewed_ago_ms"]), name)


def _of_depth(page: Exposition, name: str, depth: Depth) -> None:
    for state, jobs in depth.jobs.items():
        page.add("oxherd_queue_jobs", jobs, name, state)
    page.add("oxherd_queue_paused", int(depth.paused), name)
    page.add("oxherd_queue_oldest_waiting_seconds", round(depth.oldest_s, 3), name)


def _of_runner(page: Exposition, slot: Known) -> None:
    who = slot["queue"], slot["number"], slot["runner"]
    page.add("oxherd_runner_age_seconds", _seconds(slot["age_ms"]), *who)
    page.add("oxherd_runner_jobs_total", slot["served"], *who)
    tree = slot["tree"] or {}
    page.add("oxherd_runner_processes", tree.get("count"), *who)
    page.add("oxherd_runner_threads", tree.get("threads"), *who)
    page.add("oxherd_runner_memory_bytes", tree.get("anon_bytes"), *who)
    page.add("oxherd_runner_cpu_cores", tree.get("cpu_share"), *who)


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
