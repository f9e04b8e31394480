"""Jobs sent ahead (I2): how many, to whom, and that each is begun once or comes back."""

from __future__ import annotations

import os

import pytest
from test_master_dispatcher import World

from sandbox.ahead import take_permit
from sandbox.wire import HALTED, NOTE_US_SHIFT, Kind
from supervisor.master.ahead import AHEAD_US, JUDGED_EVERY, LONG_S, MOST, NONE_FOR, SAMPLES, Ahead, Permits
from supervisor.master.phases import Phase
from supervisor.protocol.commands.work import Completed, HandedBack


@pytest.fixture
def permits_fd():
    fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    yield os.dup(fd)
    os.close(fd)


def judged(*took_us):
    ahead = Ahead()
    for each in took_us:
        ahead.took(each)
    return ahead


def test_the_last_ones_p95_times_their_number_stays_under_five_milliseconds():
    assert judged(*[900] * SAMPLES).depth == 5
    assert judged(*[AHEAD_US + 1] * SAMPLES).depth == 0
    assert judged(*[1] * SAMPLES).depth == MOST


def test_one_in_ten_that_is_long_is_too_many():
    assert judged(*([50] * 9 + [80_000]) * 7).depth == 0


def test_a_queue_forgets_what_its_jobs_were_long_ago():
    assert judged(*[80_000] * SAMPLES, *[50] * SAMPLES).depth == MOST


def test_nothing_is_expected_of_a_queue_that_has_done_little():
    assert judged(*[1] * (JUDGED_EVERY - 1)).depth == 0


def test_after_a_job_that_printed_others_are_not_sent_behind_for_a_while():
    ahead = judged(*[1] * SAMPLES)
    ahead.halted()
    assert ahead.depth == 0
    for _ in range(NONE_FOR - 1):
        ahead.took(1)
    assert ahead.depth == 0
    ahead.took(1)
    assert ahead.depth == MOST


def test_a_permit_is_taken_once_by_the_runner_or_by_the_master(permits_fd):
    permits = Permits(permits_fd)
    permits.grant(3)
    assert take_permit(permits_fd)
    assert permits.take_back() == 2
    assert not take_permit(permits_fd)
    assert permits.take_back() == 0


def test_what_was_left_when_it_was_closed_is_told_once(permits_fd):
    permits = Permits(permits_fd)
    permits.grant(2)
    permits.close()
    permits.close()
    assert (permits.take_back(), permits.take_back()) == (2, 0)


# --- with the dispatcher ---------------------------------------------------------------------------------


class Counted:
    """Permits without a kernel."""

    def __init__(self) -> None:
        self.left = self.granted = 0

    def take_back(self):
        left, self.left = self.left, 0
        return left


@pytest.fixture
async def world():
    return World()


def busy(world, *job_ids):
    """A runner with the first at work and the others ahead of it."""
    world.dispatcher._placing._ahead.depth = MOST
    runner = world.runner()
    runner.pipe.permits = Counted()
    for job_id in job_ids:
        world.take(job_id)
    world.dispatcher.flush()
    assert [attempt.job.id for attempt in runner.attempts.values()] == list(job_ids)
    return runner


def ends(world, runner, note=0):
    world.says(runner, Kind.COMPLETED, b"1", note)


def begins(runner):
    runner.pipe.permits.left -= 1


def written(world, kind):
    return [outcome.job_id for outcome in world.outcomes if isinstance(outcome, kind)]


async def test_i2_jobs_ahead_are_begun_in_their_order_each_with_its_own_times(world):
    runner = busy(world, "1", "2", "3")
    assert world.dispatcher.attempts["2"].started_at == 0
    ends(world, runner, 70 << NOTE_US_SHIFT)
    assert world.dispatcher.attempts["2"].started_at > 0
    begins(runner)
    ends(world, runner)
    begins(runner)
    ends(world, runner)
    assert written(world, Completed) == ["1", "2", "3"]
    assert runner.phase is Phase.IDLE
    assert world.dispatcher.idle() == 1


async def test_i2_what_waits_behind_a_long_job_goes_to_a_free_slot(world):
    runner = busy(world, "long", "2", "3")
    other = world.runner()
    world.dispatcher.attempts["long"].started_at -= 2 * LONG_S
    world.dispatcher._placing.look_for_long_ones()
    assert [attempt.job.id for attempt in other.attempts.values()] == ["2"]
    assert written(world, HandedBack) == ["3"]  # another master may have a slot that is free
    assert [attempt.job.id for attempt in runner.attempts.values()] == ["long"]


async def test_nothing_is_sent_to_a_runner_until_it_has_skipped_what_was_taken_back(world):
    """It would take a new permit for the old job."""
    runner = busy(world, "long", "2")
    number = list(runner.attempts)[1]
    world.dispatcher._placing.recall_all()
    ends(world, runner)
    assert world.dispatcher.free() == 0
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", number, 0)
    assert world.dispatcher.idle() == 1


async def test_i9_what_a_dead_runner_had_not_begun_has_no_attempt_burnt(world):
    runner = busy(world, "1", "2", "3")
    ends(world, runner)
    begins(runner)
    world.dies(runner)
    assert written(world, HandedBack) == ["3"]
    assert world.dispatcher.attempts["2"].verdict.cause == "signal"


async def test_i9_a_runner_that_dies_between_two_jobs_has_begun_neither(world):
    runner = busy(world, "1", "2", "3")
    ends(world, runner)
    world.dies(runner)
    assert written(world, HandedBack) == ["2", "3"]


async def test_a_lock_lost_by_a_job_that_waits_kills_nobody(world):
    runner = busy(world, "1", "2", "3")
    world.dispatcher.lock_lost("3", "gone")
    assert not world.killed
    assert "3" not in world.dispatcher.attempts
    assert [attempt.job.id for attempt in runner.attempts.values()] == ["1"]
    assert written(world, HandedBack) == ["2"]


async def test_a_job_that_printed_leaves_those_behind_it_to_others(world):
    runner = busy(world, "1", "2")
    number = list(runner.attempts)[1]
    ends(world, runner, HALTED)
    assert written(world, HandedBack) == ["2"]
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", number, 0)
    assert world.dispatcher.free() == 1, "and for a while nothing is sent ahead"


async def test_i7_a_word_about_a_job_before_its_turn_ends_the_runner(world):
    runner = busy(world, "1", "2")
    world.dispatcher.on_frame(runner, Kind.COMPLETED, b"1", list(runner.attempts)[1], 0)
    assert world.killed == [runner]


async def test_i7_a_job_that_was_not_taken_back_cannot_be_skipped(world):
    runner = busy(world, "1", "2")
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", next(iter(runner.attempts)), 0)
    assert world.killed == [runner]


async def test_a_stop_hands_back_what_was_not_begun_at_once(world):
    runner = busy(world, "1", "2", "3")
    world.runner()  # even if another slot is free
    world.dispatcher.quiet()
    assert written(world, HandedBack) == ["2", "3"]
    assert next(iter(runner.attempts.values())).job.id == "1"
