"""Jobs sent ahead (I2): how many, to whom, and that each is begun once or comes back."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from msgspec import structs
from test_master_dispatcher import SETTINGS, World

from sandbox.ahead import take_permit
from sandbox.policy import Limits
from sandbox.wire import HALTED, NOTE_US_SHIFT, Kind
from supervisor.master import placing
from supervisor.master.ahead import (
    AHEAD_US,
    JUDGED_EVERY,
    LONG_S,
    LONGEST_US,
    MOST,
    NONE_FOR,
    SAMPLES,
    Ahead,
    Permits,
)
from supervisor.master.phases import Phase
from supervisor.master.spawning import new_ends
from supervisor.master.verdicts import Cause, Crashed
from supervisor.protocol.commands.work import Completed, HandedBack, Limiter


@pytest.fixture
def shared():
    """Those of permits: the master's two, and the runner's."""
    ours, theirs = new_ends(socket.SOCK_STREAM, permits=True)
    made = Permits(*map(os.dup, ours.permits)), *theirs.permits
    ours.close()
    yield made
    made[0].close()
    theirs.close()


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


def test_of_jobs_that_take_about_as_long_it_is_known_when_one_is_nearly_done():
    ahead = judged(*[21_000, 21_200, 21_300, 22_000] * (SAMPLES // 4))
    assert ahead.depth == 0
    assert ahead.soon_s == pytest.approx(0.017)
    assert ahead.late_s == pytest.approx(0.018)  # the quickest may end 3 ms later


def test_where_some_end_early_a_job_is_fetched_as_soon_as_it_may_be():
    ahead = judged(*[15_000, 20_900, 21_300, 22_000] * (SAMPLES // 4))
    assert ahead.late_s == ahead.soon_s == pytest.approx(0.017)


@pytest.mark.parametrize(
    "took_us",
    [
        pytest.param([1_500 * n for n in range(SAMPLES)], id="all lengths alike"),
        pytest.param(
            [100] * (SAMPLES - 10) + [9_000] * 5 + [40_000 + 9_000 * n for n in range(5)], id="two kinds"
        ),
        pytest.param([LONGEST_US + 1] * SAMPLES, id="so long that it is not worth a call"),
        pytest.param([AHEAD_US - 1] * SAMPLES, id="short ones go by their number"),
    ],
)
def test_of_others_it_is_not(took_us):
    assert judged(*took_us).soon_s == 0


def test_after_a_job_that_printed_others_are_not_sent_behind_for_a_while():
    ahead = judged(*[1] * SAMPLES)
    ahead.halted()
    assert ahead.depth == 0
    for _ in range(NONE_FOR - 1):
        ahead.took(1)
    assert ahead.depth == 0
    ahead.took(1)
    assert ahead.depth == MOST


def test_a_permit_is_taken_once_by_the_runner_or_by_the_master(shared):
    permits, theirs = shared
    permits.grant(3)
    assert take_permit(theirs)
    assert permits.take_back() == 2
    assert not take_permit(theirs)
    assert permits.take_back() == 0


@pytest.mark.timeout(5)
def test_i7_a_runner_can_neither_put_in_permits_nor_make_the_master_wait_for_one(shared):
    permits, theirs = shared
    os.set_blocking(theirs, True)  # of what it shares with us
    os.write(theirs, b"1111")
    assert permits.take_back() == 0
    permits.grant(1)
    assert permits.take_back() == 1


def test_i7_a_runner_that_has_shut_its_permits_down_is_bad_and_no_harm_to_others(shared):
    permits, theirs = shared
    with socket.socket(fileno=os.dup(theirs)) as shared:
        shared.shutdown(socket.SHUT_RDWR)
    assert permits.take_back() == 0
    with pytest.raises(BrokenPipeError):
        permits.grant(1)


def test_what_was_left_when_it_was_closed_is_told_once(shared):
    permits, _ = shared
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


async def test_a_queue_that_the_pool_keeps_back_fetches_no_job_ahead_and_parts_with_what_is_idle(world):
    """Else its runners would never be idle, and the others would never have one."""
    world.asked = 0
    runner = busy(world, "1", "2")
    assert world.dispatcher.free() == MOST - 1
    world.dispatcher.most = lambda: 5
    assert world.dispatcher.free() == 0
    idle = world.runner()
    assert (world.dispatcher.free(), world.dispatcher.spare()) == (1, 1)
    world.asked = 1
    assert world.dispatcher.spare() == 0
    assert world.dispatcher.part_with(object()) is None  # born of a template with other processors
    assert world.dispatcher.part_with(idle.nursery) is idle
    assert world.dispatcher.part_with(runner.nursery) is None


async def test_nothing_is_sent_to_a_runner_until_it_has_skipped_what_was_taken_back(world):
    """It would take a new permit for the old job."""
    runner = busy(world, "long", "2")
    number = list(runner.attempts)[1]
    world.dispatcher._placing.recall_all()
    ends(world, runner)
    assert world.dispatcher.free() == 0
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", number, 0)
    assert world.dispatcher.idle() == 1


def at_work(world, job_id):
    """A runner of jobs of one length with one of them."""
    world.dispatcher._placing._ahead.soon_s = 0.001
    runner = world.runner()
    runner.pipe.permits = Counted()
    world.take(job_id)
    assert runner.attempts
    return runner


async def free(world):
    """Wait until a job may be fetched."""
    async with asyncio.timeout(5):
        while not world.dispatcher.free():
            await asyncio.sleep(0)


async def test_i2_a_job_is_fetched_for_who_is_nearly_done_and_no_further_one_before_it_is(world):
    runner = at_work(world, "1")
    assert world.dispatcher.free() == 0
    await free(world)
    assert world.dispatcher.free() == 1
    world.take("2")
    world.dispatcher.flush()
    assert world.dispatcher.free() == 0
    ends(world, runner)
    begins(runner)
    assert world.dispatcher.attempts["2"].started_at > 0
    assert world.dispatcher.free() == 0
    await free(world)


async def test_a_call_of_its_own_is_made_only_for_who_may_end_any_moment_and_has_nobody_behind(world):
    """What is fetched for another slot while one is soon free is fetched for that one too."""
    looks = []
    world.look = lambda: looks.append(world.dispatcher.free())
    ahead = world.dispatcher._placing._ahead
    ahead.late_s = 3600.0
    first = at_work(world, "1")
    await free(world)
    world.take("2")
    assert not world.dispatcher._placing._nudges and len(first.attempts) == 2
    ahead.late_s = 0.002
    second = at_work(world, "other")
    async with asyncio.timeout(5):
        while not looks:
            await asyncio.sleep(0.001)
    assert looks == [1] and len(second.attempts) == 1
    ends(world, second)
    assert not world.dispatcher._placing._nudges


async def test_i2_what_was_sent_behind_one_that_is_not_done_in_time_is_taken_back(world):
    runner = at_work(world, "1")
    await free(world)
    world.take("2")
    world.dispatcher.flush()
    async with asyncio.timeout(5):
        while not handed_back(world):
            await asyncio.sleep(0.001)
    assert handed_back(world) == ["2"]
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", next(iter(runner.recalled)), 0)
    assert world.dispatcher.free() == 0
    other = at_work(world, "other")
    await free(world)
    world.take("3")
    assert [attempt.job.id for attempt in other.attempts.values()] == ["other", "3"]


async def test_i2_nothing_is_fetched_for_who_should_have_been_done_long_ago(world):
    """Not even when it is only now known of the queue's jobs how long they take."""
    ahead = world.dispatcher._placing._ahead
    runner = at_work(world, "1")
    begun_at = world.dispatcher.attempts["1"].started_at
    assert ahead.room(begun_at + 0.012) == 0
    ahead.began(runner, begun_at)
    assert ahead.room(begun_at + 0.002) == 1
    assert ahead.room(begun_at + 0.012) == 0 and ahead.choose(begun_at + 0.012) is None


async def test_a_job_that_ended_in_time_leaves_nothing_behind_to_be_fetched(world):
    """The clock of the one before would say of the next that it is nearly done."""
    runner = at_work(world, "1")
    world.dispatcher._placing._ahead.soon_s = 0.0
    attempt = world.dispatcher.attempts["1"]
    ends(world, runner)
    world.take("2")
    world.dispatcher._placing._ahead.soon_s = 0.001
    world.dispatcher._placing._ends_any_moment(attempt, runner)
    assert world.dispatcher.free() == 0


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
    assert written(world, HandedBack) == ["3", "2"]


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
    assert written(world, HandedBack) == ["3", "2"]
    assert next(iter(runner.attempts.values())).job.id == "1"


def handed_back(world):
    """In the order in which they are put to the front of their queue: the last is the next."""
    return written(world, HandedBack)


async def test_what_is_handed_back_is_the_front_of_its_queue_in_the_order_it_had(world):
    runner = busy(world, "long", "2", "3", "4")
    world.dispatcher._placing.recall(runner)
    assert handed_back(world) == ["4", "3", "2"]


async def test_what_one_of_them_waits_for_is_not_given_to_another_that_is_at_something_long(world):
    """Each would hold it for some ms, while a slot of another master is free."""
    runner = busy(world, "long", "2")
    world.dispatcher._placing._ahead.depth = 0
    other = world.runner()
    other.pipe.permits = Counted()
    world.take("long, too")
    world.dispatcher._placing._ahead.depth = MOST
    for each in (runner, other):
        each.at_work()[0].started_at -= 2 * LONG_S
    world.dispatcher._placing.look_for_long_ones()
    assert handed_back(world) == ["2"]
    assert world.dispatcher.free() == 0


async def test_i9_who_is_to_be_killed_begins_nothing_more(world):
    """Its stacks are asked for first: in that time it could run what is behind, which goes elsewhere."""
    runner = busy(world, "1", "2", "3")
    world.dispatcher.end(world.dispatcher.attempts["1"], Crashed(Cause.OUTPUT, "too much"))
    assert world.killed == [runner]
    assert [attempt.job.id for attempt in runner.attempts.values()] == ["1"]
    assert handed_back(world) == ["3", "2"]


async def test_i4_a_limit_that_is_seen_after_the_job_was_over_hits_nobody(world):
    """Its outcome is in the link, unread, and the one behind it is at work."""
    runner = busy(world, "1", "2")
    begins(runner)
    runner.pipe.look = lambda: ends(world, runner)
    world.dispatcher.end(world.dispatcher.attempts["1"], Crashed(Cause.WALL_TIME, "too long"))
    assert not world.killed
    assert written(world, Completed) == ["1"]
    assert world.dispatcher.attempts["2"].started_at > 0


async def test_a_slot_that_goes_ends_its_runner_when_that_has_skipped_what_it_had(world, monkeypatch):
    """The last of its jobs was taken back between two: no outcome will ask whether it serves on."""
    runner = busy(world, "1", "2")
    number = list(runner.attempts)[1]
    ends(world, runner)
    asked = []
    monkeypatch.setattr(world.dispatcher._placing, "_serves_on", lambda each: asked.append(each))
    world.dispatcher.on_leaving(runner)  # as for a slot that is shut
    assert runner.phase is Phase.IDLE and handed_back(world) == ["2"]
    world.dispatcher.on_frame(runner, Kind.SKIPPED, b"", number, 0)
    assert asked == [runner]
    assert world.dispatcher.idle() == 0


async def test_i7_who_never_skips_is_killed(world, monkeypatch):
    monkeypatch.setattr(placing, "SKIPS_WITHIN_S", 0.01)
    runner = busy(world, "1", "2")
    world.dispatcher._placing.recall_all()
    ends(world, runner)
    async with asyncio.timeout(2):
        while not world.killed:
            await asyncio.sleep(0.005)
    assert world.killed == [runner]


async def test_the_same_job_fetched_again_takes_only_itself_out_of_its_runner(world):
    """Of what is about to be sent with it nothing has a permit yet."""
    runner = busy(world, "1", "2")
    earlier = world.dispatcher.attempts["2"]
    world.take("3")
    world.take("2")
    world.dispatcher.flush()
    assert not world.killed
    assert earlier.verdict is not None and earlier.runner is None
    assert "3" not in [attempt.job.id for attempt in runner.attempts.values()]
    assert handed_back(world) == ["3", "2"]


async def test_a_job_that_was_fetched_for_who_is_at_something_long_by_now_goes_to_others_at_once(world):
    runner = busy(world, "long")
    runner.at_work()[0].started_at -= 2 * LONG_S
    world.dispatcher._placing.look_for_long_ones()
    world.take("2")
    assert handed_back(world) == ["2"]


async def test_no_more_goes_to_who_has_not_taken_what_was_sent(world):
    """The data of jobs ahead would fill the master's memory."""
    runner = busy(world, "1", "2")
    runner.pipe.full = True
    assert world.dispatcher.free() == 0
    world.take("3")
    assert handed_back(world) == ["3"]


async def test_jobs_that_wait_in_a_runner_are_not_counted_as_slots_at_work(world):
    busy(world, "1", "2", "3")
    assert world.dispatcher.busy() == 1
    assert world.dispatcher.at_work() == 3


async def test_i9_whose_permit_is_gone_though_its_turn_never_came_has_no_attempt_burnt(world):
    runner = busy(world, "1", "2")
    begins(runner)
    world.dies(runner)
    assert handed_back(world) == ["2"]


async def test_nothing_is_sent_ahead_once_the_settings_forbid_it(world):
    """A cgroup is told limits before the job begins; a limiter would count a job that comes back twice."""
    for forbidding in ({"limits": {"a": Limits(cpu_ms=1), "b": Limits()}}, {"limiter": Limiter(5, 1000)}):
        world.dispatcher._placing._ahead.depth = MOST
        world.dispatcher.adopt(structs.replace(SETTINGS, **forbidding))
        assert world.dispatcher._placing._ahead.depth == 0


async def test_recalled_jobs_do_not_begin_while_the_queue_is_degraded(world):
    runner = busy(world, "1", "2")
    world.runner()
    world.dispatcher._health._pause("jobs crash")
    world.dispatcher._placing.recall(runner)
    assert handed_back(world) == ["2"]
    world.dispatcher._health.close()
