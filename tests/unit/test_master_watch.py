"""Who is over a limit, and when that is looked at; loop, clock and meters are the test's."""

from __future__ import annotations

import os

import pytest

from sandbox.policy import Limits, size_text, time_text
from supervisor.master.attempt import Attempt
from supervisor.master.meter import Usage
from supervisor.master.verdicts import Cause, CutOff
from supervisor.master.watch import LOOK_EVERY_S, Watch

MB = 1024 * 1024


class Timer:
    def __init__(self, at, call) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self):
        self.cancelled = True


class Loop:
    """Loop and clock in one."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[Timer] = []

    def call_later(self, after_s, call, *args):
        self.timers.append(Timer(self.now + after_s, lambda: call(*args)))
        return self.timers[-1]

    def waiting(self):
        return [each for each in self.timers if not each.cancelled]

    def go_on(self, for_s):
        until = self.now + for_s
        while due := [each for each in self.waiting() if each.at <= until]:
            first = min(due, key=lambda each: each.at)
            self.timers.remove(first)
            self.now = max(self.now, first.at)
            first.call()
        self.now = until


class Runner:
    """Its own meter too."""

    def __init__(self) -> None:
        self.meter, self.leaf, self.printed_bytes = self, None, 0
        self.usage = Usage(0, 0, 1, 1)
        self.reads = 0
        self.cost_s = 0.0
        self.loop = None

    def read(self):
        self.reads += 1
        if self.loop is not None:
            self.loop.now += self.cost_s
        return self.usage

    def cpu_ms(self):
        return self.usage.cpu_ms


class World:
    def __init__(self) -> None:
        self.loop = Loop()
        self.ended = []
        self.watch = Watch(self.loop, lambda: self.loop.now)

    def begin(self, runner=None, **limits):
        attempt = Attempt(None, 0.0)
        attempt.runner = runner or Runner()
        attempt.limits = Limits(**limits)
        self.watch.begin(attempt, self.end)
        return attempt

    def end(self, attempt, verdict):
        attempt.verdict = verdict
        self.ended.append(verdict)


@pytest.fixture
def world():
    return World()


def test_nothing_is_looked_at_when_nothing_is_limited(world):
    attempt = world.begin(timeout_ms=1, open_files=3, file_size_bytes=5)
    assert not world.loop.timers and not attempt.runner.reads
    assert not attempt.limits.watched


@pytest.mark.parametrize(
    ("limits", "usage", "cause", "sentence"),
    [
        (
            {"memory_bytes": 512 * MB},
            Usage(530 * MB, 0, 3, 3),
            Cause.MEMORY_LIMIT,
            "memory limit of 512 MB exceeded: 530 MB in 3 processes",
        ),
        (
            {"cpu_ms": 10_000},
            Usage(0, 10_250, 1, 1),
            Cause.CPU_TIME,
            "CPU time limit of 10 s exceeded: 10.25 s used",
        ),
        (
            {"processes": 4},
            Usage(0, 0, 5, 1),
            Cause.PROCESSES,
            "limit of 4 processes and threads exceeded: 5 in 1 process",
        ),
    ],
)
def test_who_uses_more_than_it_may_is_ended_with_limit_and_measure(world, limits, usage, cause, sentence):
    """I10."""
    attempt = world.begin(**limits)
    world.loop.go_on(0.3)
    assert not world.ended
    attempt.runner.usage = usage
    world.loop.go_on(0.25)
    [verdict] = world.ended
    assert (verdict.cause, verdict.reason) == (cause, sentence)
    world.loop.go_on(2)
    assert len(world.ended) == 1, "once is enough"


def test_the_very_limit_may_be_used(world):
    attempt = world.begin(memory_bytes=MB, cpu_ms=10, processes=4)
    attempt.runner.usage = Usage(MB, 10, 4, 2)
    world.loop.go_on(1)
    assert not world.ended
    assert (attempt.peak_bytes, attempt.cpu_ms, attempt.processes) == (MB, 10, 4)


def test_the_cpu_time_of_earlier_jobs_is_not_counted(world):
    runner = Runner()
    runner.usage = Usage(0, 60_000, 1, 1)
    world.begin(runner, cpu_ms=1_000)
    runner.usage = Usage(0, 60_900, 1, 1)
    world.loop.go_on(1)
    assert not world.ended
    runner.usage = Usage(0, 61_001, 1, 1)
    world.loop.go_on(1)
    assert world.ended


def test_cpu_time_that_nobody_reaped_is_not_forgotten(world):
    attempt = world.begin(cpu_ms=1_000)
    attempt.runner.usage = Usage(0, 700, 2, 2)
    world.loop.go_on(0.3)
    attempt.runner.usage = Usage(0, 100, 1, 1)
    world.loop.go_on(0.3)
    assert attempt.cpu_ms == 700


def test_the_peak_is_kept(world):
    attempt = world.begin(memory_bytes=100 * MB)
    for used in (10, 70, 20):
        attempt.runner.usage = Usage(used * MB, 0, 1, 1)
        world.loop.go_on(0.25)
    assert attempt.peak_bytes == 70 * MB


def test_one_timer_serves_all_and_none_is_left_when_the_last_has_ended(world):
    attempts = [world.begin(memory_bytes=MB) for _ in range(3)]
    assert len(world.loop.waiting()) == 1
    world.loop.go_on(10)
    assert len(world.loop.waiting()) == 1
    for attempt in attempts:
        world.watch.forget(attempt)
        world.watch.forget(attempt)
    world.loop.go_on(0.25)
    assert not world.loop.waiting()


def test_a_runner_with_several_attempts_is_read_once_a_look(world):
    runner = Runner()
    attempts = [world.begin(runner, memory_bytes=MB) for _ in range(5)]
    before = runner.reads
    runner.usage = Usage(2 * MB, 0, 1, 1)
    world.loop.go_on(0.25)
    assert runner.reads == before + 1
    assert len(world.ended) == len(attempts), "nobody knows whose doing it was"


def test_who_is_decided_is_not_ended_again(world):
    attempt = world.begin(memory_bytes=MB)
    attempt.verdict = CutOff()
    attempt.runner.usage = Usage(2 * MB, 0, 1, 1)
    world.loop.go_on(1)
    assert not world.ended and attempt.peak_bytes == 2 * MB


def test_looking_takes_a_small_share_of_the_masters_time_whatever_there_is_to_see(world):
    attempt = world.begin(memory_bytes=MB)
    attempt.runner.loop, attempt.runner.cost_s = world.loop, 0.1
    world.loop.go_on(20)
    assert attempt.runner.reads <= 20 / (0.1 / 0.05)


def test_a_runner_that_has_gone_is_no_usage(world):
    attempt = world.begin(memory_bytes=MB)
    attempt.runner.usage = None
    world.loop.go_on(1)
    attempt.runner = None
    world.loop.go_on(1)
    assert not world.ended


# --- silence ------------------------------------------------------------------------------------------------


def test_who_says_nothing_for_too_long_is_ended(world):
    attempt = world.begin(silence_ms=3_000)
    world.loop.go_on(2.9)
    world.watch.heard(attempt)
    world.loop.go_on(2.9)
    assert not world.ended
    world.loop.go_on(0.2)
    [verdict] = world.ended
    assert verdict.cause is Cause.NO_PROGRESS
    assert verdict.reason == "silence limit of 3 s exceeded: no progress, log row or output for 3 s"


def test_a_talkative_job_moves_no_timer(world):
    attempt = world.begin(silence_ms=3_000)
    [timer] = world.loop.timers
    for _ in range(1000):
        world.watch.heard(attempt)
    assert world.loop.timers == [timer]


def test_who_waits_for_us_is_not_silent(world):
    attempt = world.begin(silence_ms=1_000)
    attempt.paused = True
    world.loop.go_on(10)
    assert not world.ended
    attempt.paused = False
    attempt.asks = {"a question"}
    world.loop.go_on(10)
    assert not world.ended
    attempt.asks = set()
    world.loop.go_on(2.1)
    assert world.ended


def test_the_timer_of_silence_ends_with_its_attempt(world):
    world.watch.forget(world.begin(silence_ms=1_000))
    assert not world.loop.waiting()


# --- output -------------------------------------------------------------------------------------------------


def test_who_prints_more_than_it_may_is_ended(world):
    """I10. What the runner printed for earlier jobs does not count."""
    runner = Runner()
    runner.printed_bytes = 5 * MB
    attempt = world.begin(runner, output_bytes=MB)
    runner.printed_bytes = 6 * MB
    world.watch.printed(attempt)
    assert not world.ended
    runner.printed_bytes += MB // 2
    world.watch.printed(attempt)
    [verdict] = world.ended
    assert verdict.cause is Cause.OUTPUT
    assert verdict.reason == "output limit of 1 MB exceeded: 1.5 MB printed"
    assert not world.loop.waiting(), "output needs no looking"


def test_sizes_and_times_are_said_in_few_digits():
    assert [size_text(n) for n in (0, 1023, 1024, 1536, 512 * MB, 1023 * MB, 10 * 1024 * MB)] == [
        "0 bytes", "1023 bytes", "1 KB", "1.5 KB", "512 MB", "1023 MB", "10 GB",
    ]  # fmt: skip
    assert [time_text(n) for n in (0, 999, 1000, 1500, 3_600_000)] == [
        "0 ms", "999 ms", "1 s", "1.5 s", "3600 s",
    ]  # fmt: skip


def test_looks_are_four_times_a_second():
    assert LOOK_EVERY_S == 0.25


def test_a_group_that_is_taken_away_is_replaced_by_looking(world):
    """systemd may take controllers back from a group that it did not delegate."""
    attempt = world.begin(memory_bytes=100_000 * MB)  # the tests' own process is what is looked at
    runner = attempt.runner
    runner.leaf, runner.pid, runner.usage = runner, os.getpid(), None
    world.loop.go_on(0.3)
    assert runner.meter is not runner and runner.meter.read() is not None
    world.loop.go_on(0.3)
    assert not world.ended
