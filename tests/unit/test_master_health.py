"""When a queue is degraded, and how it comes back (I10)."""

from __future__ import annotations

import pytest

from supervisor.master.health import CRASHES, FAILED_BIRTHS, Bucket, Health
from supervisor.master.verdicts import Cause, Crashed, CutOff, LockGone, Raised, Returned

DIED = Crashed(Cause.SIGNAL, "signal 11")


class Loop:
    def __init__(self) -> None:
        self.timers = []

    def call_later(self, delay_s, call):
        self.timers.append((delay_s, call))
        return self

    def cancel(self):
        self.timers.clear()


class World:
    def __init__(self) -> None:
        self.loop, self.woken, self.stands = Loop(), 0, False
        self.health = Health("work", loop=self.loop, wake=self.wake, stands=lambda: self.stands)
        self.jobs = 0

    def wake(self):
        self.woken += 1

    def job(self, verdict, *, job_id=None, ran_s=0.1):
        self.jobs += 1
        job_id = job_id or str(self.jobs)
        self.health.took(job_id)
        self.health.ended(job_id, verdict, 100.0, 100.0 + ran_s)

    def degraded(self):
        for _ in range(CRASHES):
            self.job(DIED)
        return self

    def pause_ends(self):
        """How long it was."""
        delay_s, call = self.loop.timers.pop()
        call()
        return delay_s


@pytest.fixture
def world():
    return World()


def test_five_jobs_make_a_row():
    """docs/explain/sandbox.md and the how-to pages count on it; the other tests take the number as it is."""
    assert (CRASHES, FAILED_BIRTHS) == (5, 5)


def test_jobs_that_all_lose_their_runner_stop_the_fetching(world):
    for _ in range(CRASHES - 1):
        world.job(DIED)
    assert world.health.room(8) == 8
    world.job(DIED)
    assert world.health.room(8) == 0
    assert "signal 11" in world.health.why


@pytest.mark.parametrize(
    "between", [Returned(b"1"), Raised("an ordinary failure")], ids=["completed", "failed"]
)
def test_a_job_that_is_heard_to_its_end_breaks_the_row(world, between):
    for _ in range(10):
        world.job(DIED)
        world.job(DIED)
        world.job(between)
    assert world.health.room(8) == 8


def test_one_job_that_crashes_at_each_attempt_stops_nothing(world):
    for _ in range(20):
        world.job(DIED, job_id="poison")
    assert world.health.room(8) == 8


@pytest.mark.parametrize("cause", [Cause.WALL_TIME, Cause.CANCELLED, Cause.CPU_TIME, Cause.NO_PROGRESS])
def test_limits_and_cancels_are_no_sign_of_a_bad_release(world, cause):
    for _ in range(20):
        world.job(Crashed(cause, "its own doing"))
    assert world.health.room(8) == 8


@pytest.mark.parametrize(
    "cause",
    [Cause.SIGNAL, Cause.EXIT, Cause.BAD_FRAME, Cause.MEMORY_LIMIT, Cause.HOST_MEMORY, Cause.NO_RUNNER],
)
def test_what_a_release_does_to_every_job_is_a_sign_of_it(world, cause):
    for _ in range(CRASHES):
        world.job(Crashed(cause, "as every job"))
    assert world.health.room(8) == 0


def test_a_crash_after_long_work_stops_nothing(world):
    for _ in range(20):
        world.job(DIED, ran_s=11)
    assert world.health.room(8) == 8


def test_after_each_pause_one_job_alone_is_tried_and_pauses_grow_to_a_minute(world):
    world.degraded()
    pauses = []
    for _ in range(8):
        pauses.append(world.pause_ends())
        assert world.health.room(8) == 1
        world.health.took("tried")
        assert world.health.room(8) == 0, "a second one"
        world.job(DIED, job_id="tried")
        assert world.health.room(8) == 0
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert world.woken == 8


def test_forty_thousand_jobs_outlive_half_an_hour_of_a_bad_release(world):
    """Each of the jobs under way, and then one a pause."""
    lost, time_s = CRASHES, 0.0
    world.degraded()
    while time_s < 1800:
        time_s += world.pause_ends()
        world.job(DIED)
        lost += 1
    assert lost < 50


def test_the_job_that_is_tried_and_heard_to_its_end_opens_the_queue(world):
    world.degraded().pause_ends()
    world.job(Returned(b"1"))
    assert world.health.room(8) == 8 and not world.health.why
    for _ in range(CRASHES - 1):
        world.job(DIED)
    assert world.health.room(8) == 8, "the row begins anew"


def test_jobs_that_were_under_way_decide_nothing(world):
    """They began before the row was long enough."""
    world.degraded()
    world.health.ended("earlier", DIED, 100.0, 100.1)
    world.health.ended("earlier, too", Returned(b""), 100.0, 100.1)
    assert world.health.room(8) == 0 and len(world.loop.timers) == 1


@pytest.mark.parametrize("verdict", [CutOff(), LockGone("lost"), Crashed(Cause.CANCELLED, "by you")])
def test_a_tried_job_that_tells_nothing_is_followed_by_another(world, verdict):
    world.degraded().pause_ends()
    world.job(verdict)
    assert world.health.room(8) == 1


def test_a_tried_job_that_never_had_a_runner_is_followed_by_another(world):
    world.degraded().pause_ends()
    world.health.took("x")
    world.health.ended("x", Raised("options that cannot be read", final=True), 0.0, 5.0)
    assert world.health.room(8) == 1


# --- births --------------------------------------------------------------------------------------------


def test_births_that_come_to_nothing_degrade_a_queue_that_has_no_runner(world):
    for _ in range(FAILED_BIRTHS):
        world.health.birth_failed("no room")
    assert world.health.room(8) == 0 and "no room" in world.health.why
    world.stands = True
    world.pause_ends()
    assert world.health.room(8) == 8


def test_a_queue_whose_other_runners_stand_is_not_degraded_for_births(world):
    world.stands = True
    for _ in range(100):
        world.health.birth_failed("no room for more")
    assert world.health.room(8) == 8


def test_a_job_that_is_heard_to_its_end_breaks_the_row_of_births_too(world):
    for _ in range(10):
        for _ in range(FAILED_BIRTHS - 1):
            world.health.birth_failed("no room")
        world.job(Returned(b"1"))
    assert world.health.room(8) == 8


def test_births_that_fail_during_a_pause_do_not_lengthen_it(world):
    for _ in range(FAILED_BIRTHS + 10):
        world.health.birth_failed("no room")
    assert [delay_s for delay_s, _ in world.loop.timers] == [1]


def test_after_a_pause_without_a_runner_that_stands_one_job_is_tried(world):
    for _ in range(FAILED_BIRTHS):
        world.health.birth_failed("no room")
    world.pause_ends()
    assert world.health.room(8) == 1


def test_runners_that_stand_do_not_clear_a_queue_whose_jobs_crash(world):
    world.degraded()
    world.stands = True
    world.pause_ends()
    assert world.health.room(8) == 1


def test_a_queue_that_has_recovered_begins_with_nothing_held_against_it(world):
    for _ in range(FAILED_BIRTHS):
        world.health.birth_failed("no room")
    world.stands = True
    woken = world.woken
    world.pause_ends()
    assert world.woken > woken, "fetching is looked at again"
    world.stands = False
    for _ in range(FAILED_BIRTHS - 1):
        world.health.birth_failed("no room")
    assert world.health.room(8) == 8


def test_the_job_that_is_tried_opens_the_queue_though_births_have_failed_meanwhile(world):
    world.degraded().pause_ends()
    world.health.took("tried")
    for _ in range(FAILED_BIRTHS):
        world.health.birth_failed("no room")
    assert len(world.loop.timers) == 1
    woken = world.woken
    world.health.ended("tried", Returned(b"1"), 100.0, 100.1)
    assert world.health.room(8) == 8 and world.loop.timers == [] and world.woken > woken


def test_the_end_of_a_master_leaves_no_timer(world):
    world.degraded().health.close()
    assert world.loop.timers == []


def test_births_have_a_burst_and_then_a_rate():
    now = 0.0
    bucket = Bucket(3, 10.0, lambda: now)
    assert [bucket.take() for _ in range(3)] == [0, 0, 0]
    assert bucket.take() == pytest.approx(0.1)
    assert bucket.take() == pytest.approx(0.2), "in the order of asking"
    now = 10.0
    assert [bucket.take() for _ in range(3)] == [0, 0, 0], "never more than the burst"
    assert bucket.take() > 0
