"""Numbers: how often each event of the catalogue has happened, and what became of attempts.

Counts only. How they read in Prometheus' text form is exposition.py's; which there are is said in
metric_catalogue.py. `Counters` counts what is logged, at any level, so that log and numbers cannot disagree.

A job's name is a stranger's text: of each queue so many names have series of their own, all others share one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from supervisor.observe.catalogue import CATALOGUE
from supervisor.observe.metric_catalogue import BYTES, IO_BYTES, SECONDS, TASKS

MOST_JOB_NAMES: Final = 100  # of one queue
LONGEST_JOB_NAME: Final = 100  # characters
OTHERS: Final = "(others)"


class Counters:
    """A hook for the log (`log.hooked(counters)`). An event without a queue counts under the empty name."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        if event in CATALOGUE:
            self._counts[event, fields.get("queue", "")] += 1

    def of(self, event: str, queue: str | None = None) -> int:
        """How often `event` happened, in `queue` or anywhere."""
        if queue is not None:
            return self._counts[event, queue]
        return sum(count for (name, _), count in self._counts.items() if name == event)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Event -> queue -> count, for what has happened at all."""
        result: dict[str, dict[str, int]] = {}
        for (event, queue), count in sorted(self._counts.items()):
            result.setdefault(event, {})[queue] = count
        return result


class Histogram:
    """How many values were at most as large as each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Series:
    """What is counted of the attempts of one job name. An outcome is a word of the dispatcher's."""

    __slots__ = (
        "cpu_s",
        "outcomes",
        "peak_bytes",
        "ran_s",
        "read_bytes",
        "start_s",
        "tasks",
        "waited_s",
        "written_bytes",
    )

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.waited_s = Histogram(SECONDS)
        self.start_s = Histogram(SECONDS)
        self.ran_s = Histogram(SECONDS)
        self.cpu_s = Histogram(SECONDS)
        self.peak_bytes = Histogram(BYTES)
        self.tasks = Histogram(TASKS)
        self.read_bytes = Histogram(IO_BYTES)
        self.written_bytes = Histogram(IO_BYTES)


class Attempts:
    """Series by queue and job name, at most MOST_JOB_NAMES a queue and one for the others."""

    def __init__(self) -> None:
        self.series: dict[tuple[str, str], Series] = {}
        self.causes: Counter[tuple[str, str]] = Counter()  # by queue and cause
        self._names: Counter[str] = Counter()  # of each queue

    def of(self, queue: str, job_name: str) -> Series:
        """The series of these attempts. Called for each: one look in the usual case."""
        found = self.series.get((queue, job_name))
        return found if found is not None else self._new(queue, job_name)

    def _new(self, queue: str, job_name: str) -> Series:
        if self._names[queue] >= MOST_JOB_NAMES or len(job_name) > LONGEST_JOB_NAME:
            job_name = OTHERS
        else:
            self._names[queue] += 1
        found = self.series.get((queue, job_name))
        if found is None:
            found = self.series[queue, job_name] = Series()
        return found
