"""Jobs sent ahead of a slot (I2): each is run once, whatever becomes of the one before it."""

from __future__ import annotations

from collections import Counter

import pytest
from running import until

JOBS = 1_500
SPECIAL = 1_000  # by then the masters know that the queue's jobs are short


@pytest.fixture
def runs(tmp_path):
    """Number and time of each begin, in the order of the begins."""
    path = tmp_path / "runs"
    path.touch()
    return lambda: [tuple(map(int, line.split())) for line in path.read_text().splitlines()]


@pytest.fixture
def short(oxherd, tmp_path):
    def start(*flags):
        return oxherd(*flags, target="short", queue=None, env={"RUNS": str(tmp_path / "runs")})

    return start


@pytest.fixture
def jobs(queue, redis_url):
    from supervisor.blocking import Queue

    with Queue("short", url=redis_url) as short:

        def add(what, at=(SPECIAL,), attempts=1):
            data = [[number, what if number in at else ""] for number in range(JOBS)]
            return short.add_bulk([("n", each, {"attempts": attempts}) for each in data])

        add.queue = short
        yield add


def done(queue):
    return lambda: (counts := queue.counts())["completed"] + counts["failed"] == JOBS


def test_i2_what_was_sent_behind_a_job_that_turns_out_long_is_run_elsewhere(short, jobs, runs):
    """It holds its interpreter for 3 s: nobody there could hand anything back."""
    jobs("hold")
    short("--concurrency", "1")
    short("--concurrency", "1")
    until(lambda: len(runs()) == JOBS, "all have begun")
    begun = dict(runs())
    assert len(begun) == len(runs()), "each once"
    waited_s = [(at - begun[SPECIAL]) / 1e9 for number, at in runs() if number != SPECIAL]
    print(f"the last began {max(waited_s) * 1000:.0f} ms after the long one")
    assert jobs.queue.counts()["active"] == 1, "the long one, alone, is at work still"
    until(done(jobs.queue), "all are done")


def test_i2_jobs_of_one_length_have_the_next_at_hand_and_none_waits_behind_one_that_is_not(short, jobs, runs):
    """A slot has a second job only while the first is expected to end within 5 ms."""
    number, hold = 200, 120
    naps = [("n", [each, "hold" if each == hold else "nap"]) for each in range(number)]
    jobs.queue.add_bulk(naps)
    short("--concurrency", "1")
    until(lambda: jobs.queue.counts()["active"] == 2, "one was sent ahead")
    short("--concurrency", "1")
    until(lambda: len(runs()) == number, "all have begun")
    until(lambda: jobs.queue.counts()["completed"] == number - 1, "all are done but the long one")
    assert jobs.queue.counts()["active"] == 1, "which is at work still"
    assert len(dict(runs())) == len(runs()), "each once"


@pytest.mark.parametrize("what", ["die", "exit", "leave a child", "leave a thread"])
def test_i9_what_was_sent_behind_a_job_that_ends_its_runner_is_run_once(short, jobs, runs, what):
    added = jobs(what)
    short("--concurrency", "2")
    until(done(jobs.queue), "all are done")
    assert set(Counter(number for number, _ in runs()).values()) == {1}
    lost = {"die": 1, "exit": 1}.get(what, 0)
    assert jobs.queue.counts()["failed"] == lost
    others = [jobs.queue.get(job.id) for job in added[SPECIAL + 1 : SPECIAL + 40]]
    assert {(job.attempts_made, job.attempts_started) for job in others} == {(1, 1)}


def test_what_a_job_prints_is_told_as_its_own(short, jobs, runs):
    printing = range(200, JOBS, 61)
    added = jobs("print", at=printing)
    run = short("--concurrency", "2")
    until(done(jobs.queue), "all are done")
    printed = {
        (added[number].id, text) for number in printing for text in (f"of {number}", f"half of {number}")
    }
    run.until("job.output", len(printed))
    assert {(line["job_id"], line["line"]) for line in run.events("job.output")} == printed


def test_i9_a_stop_hands_back_what_was_not_begun_and_the_next_master_runs_it(short, jobs, runs):
    added = jobs("")
    handed_back = set()
    while not handed_back:  # on a busy machine jobs may not seem short just then, and none is ahead
        assert len(runs()) < JOBS - 200, "something was ahead"
        before, first = len(runs()), short("--concurrency", "2")
        until(lambda before=before: len(runs()) > before + 50, "it is in full run")
        first.process.terminate()
        assert first.ended() == 0
        assert jobs.queue.counts()["active"] == 0
        handed_back = {line["job_id"] for line in first.events("job.handed_back")}
    short("--concurrency", "2")
    until(done(jobs.queue), "all are done")
    assert set(Counter(number for number, _ in runs()).values()) == {1}
    again = [jobs.queue.get(job.id) for job in added if job.id in handed_back]
    assert {(job.attempts_made, job.attempts_started) for job in again} == {(1, 1)}


def test_jobs_that_fail_do_not_keep_others_from_being_run(short, jobs, runs):
    failing = range(100, JOBS, 7)
    jobs("raise", at=failing, attempts=2)
    short("--concurrency", "2")
    until(done(jobs.queue), "all are done")
    times = Counter(number for number, _ in runs())
    assert {number for number, count in times.items() if count == 2} == set(failing)
    assert set(times.values()) == {1, 2}
