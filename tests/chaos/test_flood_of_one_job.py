"""One job that says everything at once: its neighbours do not notice, and Redis hardly does.

A million progress calls, 200,000 rows and 100 MB of output; ten times as much with --long.
"""

from __future__ import annotations

import time

import psutil
import pytest
from running import until

from supervisor.master import budget

LOCK_MS = 1_000
TIGHT = ("--concurrency", "2", "--lock-duration", f"{LOCK_MS}ms", "--stalled-interval", "500ms")
FLAT_BYTES = 64 * 1024 * 1024


class Watched:
    """What is looked at while the flood lasts: the master's memory, and the life of the neighbour's lock."""

    def __init__(self, run, raw, lock):
        self.process = psutil.Process(run.pid)
        self.raw, self.lock = raw, lock
        self.before = self.peak = self.process.memory_info().rss
        self.lowest_ms = self.left_ms = LOCK_MS
        self.renewals = 0
        self.began_at = time.monotonic()

    def look(self):
        self.peak = max(self.peak, self.process.memory_info().rss)
        left_ms = self.raw.pttl(self.lock)
        self.renewals += left_ms > self.left_ms
        self.left_ms = left_ms
        self.lowest_ms = min(self.lowest_ms, left_ms)

    def __str__(self):
        grown_mb = (self.peak - self.before) / 1e6
        return f"{grown_mb:.1f} MB more, {self.renewals} renewals, {self.lowest_ms} ms of a lock left"

    @property
    def lasted_s(self):
        return time.monotonic() - self.began_at


def most_in_a_second(events):
    """Of stream entries, by the milliseconds in their ids."""
    at = [int(entry.partition(b"-")[0]) for entry, _ in events]
    return max(sum(1 for each in at if begin <= each < begin + 1000) for begin in at)


def left_out_of(lines):
    return sum(int(line.split()[1]) for line in lines if line.startswith("... "))


def accounted(lines):
    """How many printed lines are told or counted; the last of those left out are both."""
    return left_out_of(lines) + sum(1 for line in lines if line.startswith("a line of exactly"))


def progress_events(raw, job_id):
    entries = raw.xrange("bull:work:events")
    return [
        entry
        for entry in entries
        if entry[1].get(b"event") == b"progress" and entry[1].get(b"jobId") == job_id.encode()
    ]


@pytest.fixture
def neighbour(oxherd, queue, raw, tmp_path):
    """A master with two slots, one taken by a neighbour; its end is checked when the flood is over."""
    run = oxherd(*TIGHT, "--log-level", "info", target="floods")
    run.until("master.started")
    mark = tmp_path / "mark"
    job = queue.add("neighbour", str(mark))
    lock = f"bull:work:{job.id}:lock"
    until(lambda: raw.exists(lock), "the neighbour is at work")
    yield run, lock
    mark.touch()
    until(lambda: queue.state(job.id) == "completed", "the neighbour is done")
    assert raw.hget(f"bull:work:{job.id}", "ats") == b"1" and raw.hget(f"bull:work:{job.id}", "stc") is None
    assert not run.events("lock.lost")


@pytest.mark.timeout(900)
def test_whoever_says_everything_at_once_harms_nobody(neighbour, queue, raw, request):
    run, lock = neighbour
    times = 10_000_000 if request.config.getoption("--long", default=False) else 1_000_000
    watched = Watched(run, raw, lock)
    job = queue.add("any", {"do": "all", "text": "", "times": times}, keep_logs=10)

    def finished():
        watched.look()
        return queue.state(job.id) in ("completed", "failed")

    until(finished, "the flood has ended", 800)

    assert queue.get(job.id).returned == "said"
    assert queue.get(job.id).progress == times - 1, "the last value is never lost"
    # The last of all is sent with the outcome, whenever the one before was.
    assert most_in_a_second(progress_events(raw, job.id)) <= 11

    print(f"{times} calls in {watched.lasted_s:.1f} s: {watched}")
    assert watched.peak - watched.before < FLAT_BYTES
    # Half a lock's duration apart, and a few of ours may fall between two looks.
    assert watched.renewals >= watched.lasted_s / (LOCK_MS / 2000) * 0.9 - 2
    assert watched.lowest_ms > LOCK_MS / 4

    def told():
        return [each["line"] for each in run.events("job.output") if each["job_id"] == job.id]

    # The outcome may be in Redis before the last of the log has been read here.
    until(lambda: accounted(told()) >= times, "each line is told or counted")
    lines = told()
    allowed = budget.BYTES_AT_ONCE + budget.BYTES_A_SECOND * watched.lasted_s
    assert sum(map(len, lines)) < 1.1 * allowed + 64 * 1024
    assert len(lines) < 1.1 * (budget.LINES_AT_ONCE + budget.LINES_A_SECOND * watched.lasted_s) + 100
    assert left_out_of(lines) <= times, "no line is counted twice"


def test_while_nobody_reads_the_log_a_flood_costs_none_of_its_other_lines(neighbour, queue):
    """Seen: a job printed a megabyte, and the oldest lines of all were dropped for it."""
    run, _ = neighbour
    with run.unread:
        unreadable = "\x01" * 999 + "\n"  # each byte of it is six in the log
        job = queue.add("any", {"do": "print", "text": unreadable, "times": 2_000})
        others = [queue.add("any", {"do": "log", "text": "x", "times": 1}) for _ in range(20)]
        ids = [each.id for each in (job, *others)]
        until(lambda: all(queue.state(each) == "completed" for each in ids), "all are done")
    until(lambda: {each["job_id"] for each in run.events("job.completed")} == set(ids), "each end is told")
    told = [each["line"] for each in run.events("job.output") if each["job_id"] == job.id]
    assert left_out_of(told) > 0 and not run.events("log.dropped")


@pytest.mark.timeout(300)
def test_progress_that_passes_the_runners_throttle_meets_the_masters(neighbour, queue, raw):
    run, lock = neighbour
    watched = Watched(run, raw, lock)
    job = queue.add("past the throttle", 300_000)

    def finished():
        watched.look()
        return queue.state(job.id) in ("completed", "failed")

    until(finished, "the flood has ended", 200)
    assert queue.get(job.id).returned == "said"
    assert queue.get(job.id).progress == 299_999
    assert most_in_a_second(progress_events(raw, job.id)) <= 11
    assert watched.peak - watched.before < FLAT_BYTES
    assert watched.lowest_ms > LOCK_MS / 4
