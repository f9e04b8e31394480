"""Who sits in a slot, and for how long."""

from __future__ import annotations

import mmap
import os

import pytest

from supervisor.config.policy import RecycleConfig
from supervisor.master import recycling
from supervisor.master.phases import Fact
from supervisor.master.recycling import Span, Wear, span_of
from supervisor.master.runner import Runner, Slot
from supervisor.master.spares import Spares
from supervisor.master.succession import Succession


class Loop:
    """Its time is what the test says; timers are kept."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, []

    def time(self):
        return self.now

    def call_later(self, delay_s, call):
        self.timers.append(call)


class World:
    """A slot, its owner and the registry."""

    def __init__(self, **how) -> None:
        self.loop, self.births, self.ended, self.told, self.alive = Loop(), 0, [], [], []
        self.succession = Succession(
            self.loop,
            birth=self.birth,
            end=self.end,
            everybody=lambda: self.alive,
            rng=lambda: 0.5,
            spares=Spares(self.loop, birth=self.birth, end=self.end, bad_frame=print),
        )
        self.slot = Slot(1, self, nursery=None, **how)

    def birth(self, slot):
        self.births += 1
        slot.filling = True

    def end(self, runner):
        self.ended.append(runner)
        runner.advance(Fact.TOLD)

    def on_ready(self, runner):
        self.told.append(runner)

    def on_leaving(self, runner):
        pass

    def born(self, *, ready=True):
        self.slot.filling = False
        runner = Runner(self.slot, os.getpid(), -1)
        self.alive.append(runner)
        self.succession.born(runner)
        if ready:
            self.ready(runner)
        return runner

    def ready(self, runner):
        runner.advance(Fact.READY)
        self.succession.ready(runner)

    def job(self, runner):
        """True when it may have another."""
        self.began(runner)
        return self.finished(runner)

    def began(self, runner):
        runner.advance(Fact.JOB_SENT)
        self.succession.began(runner)

    def finished(self, runner):
        runner.advance(Fact.OUTCOME)
        return self.succession.finished(runner)

    def dies(self, runner):
        runner.advance(Fact.EXITED)
        self.alive.remove(runner)
        self.succession.gone(runner)


def test_who_sits_in_a_slot_without_limits_serves_for_ever():
    world = World()
    runner = world.born()
    assert all(world.job(runner) for _ in range(100))
    assert world.births == 0 and world.told == [runner] and runner.served == 100


def test_who_has_served_its_jobs_goes_on_until_its_successor_is_ready():
    world = World(recycle=RecycleConfig(jobs=2, jitter=0))
    old = world.born()
    assert world.job(old) and world.job(old)
    assert world.births == 1
    assert world.job(old), "nobody has come yet"
    new = world.born(ready=False)
    world.began(old)
    world.ready(new)
    assert world.told == [old], "two at a time in one slot"
    assert not world.finished(old)
    assert world.told == [old, new] and world.ended == [old] and world.slot.runner is new


def test_a_successor_takes_over_from_who_is_idle_as_soon_as_it_is_ready():
    world = World(recycle=RecycleConfig(idle_ms=1000, jitter=0))
    old = world.born()
    world.loop.now = 5.0
    world.loop.timers.pop()()
    assert world.births == 0, "who has had no job is as good as new"
    world.job(old)
    world.loop.now = 6.5
    world.loop.timers.pop()()
    assert world.births == 1
    new = world.born()
    assert world.ended == [old] and world.told == [old, new]


def test_a_fresh_slot_starts_the_next_runner_when_a_job_begins():
    world = World(fresh=True)
    first = world.born()
    world.began(first)
    assert world.births == 1
    second = world.born()
    assert world.told == [first], "the job is not done"
    assert not world.finished(first)
    assert world.told == [first, second] and world.ended == [first]
    world.dies(first)
    assert world.slot.runner is second and world.births == 1


def test_a_job_of_a_fresh_slot_that_ends_before_the_next_runner_is_there_waits_for_it():
    world = World(fresh=True)
    first = world.born()
    assert not world.job(first)
    assert world.births == 1 and world.slot.runner is None
    second = world.born(ready=False)
    assert world.slot.runner is second
    world.ready(second)
    assert world.told == [first, second]


def test_when_a_runner_dies_its_successor_takes_over_at_once():
    world = World(fresh=True)
    first = world.born()
    world.began(first)
    second = world.born()
    world.dies(first)
    assert world.told == [first, second] and world.births == 1


def test_a_successor_that_dies_is_born_again():
    world = World(recycle=RecycleConfig(jobs=1, jitter=0))
    old = world.born()
    world.job(old)
    successor = world.born(ready=False)
    world.dies(successor)
    assert world.births == 2 and world.slot.runner is old


def test_only_a_few_of_those_that_age_together_are_replaced_together():
    world = World(recycle=RecycleConfig(idle_ms=1000, jitter=0))
    for _ in range(10):
        world.slot = Slot(1, world, nursery=None, recycle=world.slot.recycle)
        world.job(world.born())
    world.loop.now = 10.0
    world.loop.timers.pop()()
    assert world.births == 4


def test_who_has_no_seat_any_more_is_let_go_when_it_is_ready():
    world = World(fresh=True)
    old = world.born()
    world.began(old)
    stale = world.born(ready=False)
    world.slot.successor = None  # the slot has got another nursery meanwhile
    world.ready(stale)
    assert world.ended == [stale] and world.told == [old]


def test_who_was_told_to_leave_gets_no_other_job_when_its_last_outcome_comes():
    world = World()
    runner = world.born()
    world.began(runner)
    runner.advance(Fact.TOLD)
    assert world.finished(runner) is False


def test_a_successor_that_is_not_ready_is_not_told_of_when_the_old_one_dies():
    world = World(fresh=True)
    first = world.born()
    world.began(first)
    second = world.born(ready=False)
    world.dies(first)
    assert world.slot.runner is second and world.told == [first]
    world.ready(second)
    assert world.told == [first, second]


def test_who_has_a_job_or_no_seat_is_not_looked_at_for_its_age():
    world = World(recycle=RecycleConfig(age_ms=1000, jitter=0))
    busy = world.born()
    world.job(busy)
    world.began(busy)
    world.loop.now = 5.0
    world.loop.timers.pop()()
    assert world.births == 0 and not busy.replace_why, "its job will end, and then it is asked"
    successor = born_beside(world)
    successor.wear.jobs = 1
    world.loop.now = 10.0
    world.loop.timers.pop()()
    assert world.births == 0 and not successor.replace_why


def test_who_comes_up_after_its_own_successor_never_gets_a_job():
    """Both were under way when the code was loaded again."""
    world = World()
    old = world.born(ready=False)
    world.succession.replace(world.slot, "new code")
    new = world.born()
    assert world.slot.successor is new and world.told == []
    world.ready(old)
    assert world.ended == [old] and world.told == [new]


def born_beside(world: World) -> Runner:
    """One that waits for its turn, and is ready."""
    successor = world.born()
    assert world.slot.successor is successor
    return successor


def test_a_runner_of_several_jobs_is_replaced_when_its_last_job_is_done():
    world = World(room=3, recycle=RecycleConfig(jobs=1, jitter=0))
    old = world.born()
    for number in (1, 2):
        old.attempts[number] = object()
        old.advance(Fact.JOB_SENT)
    del old.attempts[1]
    assert world.succession.finished(old) is True
    assert world.births == 0, "it is asked when none is at work: what it uses is not one job's"
    old.replace_why = "it is told so"
    world.succession.replace(world.slot, "another reason")
    assert old.replace_why == "it is told so", "the first reason counts"
    new = world.born()
    old.attempts[3] = object()
    assert world.succession.finished(old) is False
    assert old.draining and world.ended == [], "the two that are left end first"
    old.attempts.clear()
    assert world.finished(old) is False
    assert world.ended == [old] and world.slot.runner is new


def test_an_empty_slot_and_an_idle_runner_are_shut_at_once():
    world, empty = World(), []
    world.slot.on_empty = lambda: empty.append(True)
    world.succession.shut(world.slot)
    assert empty == [True]
    world = World()
    runner = world.born()
    world.succession.shut(world.slot)
    assert world.ended == [runner]


# --- how long ------------------------------------------------------------------------------------------


def test_each_runner_has_limits_a_little_of_its_own():
    config = RecycleConfig(jobs=100, age_ms=60_000, growth_bytes=1000, jitter=10)
    assert span_of(config, lambda: 0.0) == Span(90, 54.0, 900)
    assert span_of(config, lambda: 0.999999).jobs == 110
    assert span_of(RecycleConfig(), lambda: 0.5) is None
    assert span_of(RecycleConfig(jobs=1, jitter=50), lambda: 0.0).jobs == 1, "never none"
    assert span_of(RecycleConfig(idle_ms=1000, jitter=10), lambda: 0.0).idle_s == pytest.approx(0.9)


def test_growth_counts_from_the_third_job_on_and_is_not_read_at_every_job(monkeypatch):
    sizes = iter([100, 160, 300])
    monkeypatch.setattr(recycling, "private_bytes", lambda pid: next(sizes))
    wear = Wear(Span(growth_bytes=150), 1, now=0.0)
    assert [wear.after_job(1.0), wear.after_job(2.0), wear.after_job(3.0)] == [None] * 3
    assert wear.after_job(10.0) is None
    assert wear.after_job(10.5) is None, "a second has not passed"
    assert wear.after_job(11.5) == "it has grown by 200 bytes in 3 jobs"


def test_the_memory_of_a_process_is_what_no_file_stands_behind():
    # Of the kernel's own, not of malloc's: that may have kept what another test has let go.
    hoard = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    before = recycling.private_bytes(os.getpid())
    hoard[::4096] = b"x" * len(hoard[::4096])
    assert recycling.private_bytes(os.getpid()) - before == pytest.approx(32 << 20, rel=0.2)
    assert recycling.private_bytes(1 << 22) is None


def test_what_is_mapped_from_a_file_is_not_counted(tmp_path):
    """Else a runner that reads a large model would be recycled for it."""
    (tmp_path / "model").write_bytes(bytes(32 << 20))
    before = recycling.private_bytes(os.getpid())
    with (
        (tmp_path / "model").open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        assert sum(mapped[::4096]) == 0
        assert recycling.private_bytes(os.getpid()) - before < 4 << 20


def test_idle_time_begins_with_the_end_of_a_job():
    wear = Wear(Span(idle_s=10), 1, now=0.0)
    assert wear.after_job(20.0) is None
    assert wear.while_idle(29.0) is None
    assert wear.while_idle(31.0) == "it has been idle for 11 s"


def test_age_counts_though_it_is_idle():
    wear = Wear(Span(age_s=10), 1, now=0.0)
    wear.after_job(1.0)
    assert wear.while_idle(11.0) == "it is 11 s old"


def test_age_counts_though_there_are_jobs_all_the_time():
    wear = Wear(Span(age_s=10), 1, now=0.0)
    assert wear.after_job(9.0) is None
    assert wear.after_job(10.0) == "it is 10 s old"


# --- another nursery, and slots that go -------------------------------------------------------------------


class Code:
    """A nursery, as far as a slot is concerned."""

    generation = 2


def born_of(world: World, nursery: object, *, ready: bool = True) -> Runner:
    """One whose birth was asked for before the slot got another nursery."""
    world.slot.filling = False
    runner = Runner(world.slot, os.getpid(), -1, nursery)
    world.alive.append(runner)
    world.succession.born(runner)
    if ready:
        world.ready(runner)
    return runner


def test_a_busy_runner_is_replaced_when_its_job_has_ended_and_its_successor_is_ready():
    world = World()
    old = world.born()
    world.began(old)
    world.slot.nursery = Code()

    world.succession.replace(world.slot, "new code")
    new = world.born()

    assert world.slot.runner is old and world.ended == []
    assert world.finished(old) is False
    assert world.ended == [old] and world.slot.runner is new


def test_a_successor_of_the_old_code_never_gets_the_seat():
    world = World(fresh=True)
    old = world.born()
    world.began(old)
    stale = world.born()
    world.slot.nursery = Code()

    world.succession.replace(world.slot, "new code")

    assert world.ended == [stale] and world.slot.successor is None


def test_a_birth_of_the_old_code_that_was_under_way_is_replaced_when_it_is_there():
    world = World()
    before = world.slot.nursery or Code()
    world.slot.nursery = Code()
    world.succession.replace(world.slot, "new code")  # nobody sits there yet

    first = born_of(world, before)

    assert world.slot.runner is first and first.replace_why
    assert world.births == 1  # its successor
    new = world.born()
    assert world.ended == [first] and world.slot.runner is new


def test_a_slot_that_is_shut_ends_its_job_first_and_is_told_when_it_is_empty():
    world, empty = World(), []
    world.slot.on_empty = lambda: empty.append(True)
    runner = world.born()
    world.began(runner)

    world.succession.shut(world.slot)

    assert world.ended == [] and runner.draining
    assert world.finished(runner) is False
    assert world.ended == [runner] and empty == []
    runner.advance(Fact.EXITED)
    world.succession.gone(runner)
    assert empty == [True] and world.births == 0


def test_a_slot_that_is_opened_again_keeps_its_busy_runner():
    world = World()
    runner = world.born()
    world.began(runner)
    world.succession.shut(world.slot)

    world.succession.reopen(world.slot)

    assert world.finished(runner) is True
    assert world.ended == []
