"""When a runner is kept ready, for whom, and when no more."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from sandbox.wire import Kind
from supervisor.config.policy import RecycleConfig
from supervisor.master.phases import Fact
from supervisor.master.runner import Exit, Runner, Slot
from supervisor.master.spares import MOST_DEATHS, STEADY_AFTER_S, Seat, Spares
from supervisor.master.succession import Succession

KILLED = Exit(None, 9)


class Loop:
    def __init__(self) -> None:
        self.now = 0.0

    def time(self):
        return self.now

    def call_later(self, delay_s, call):
        pass


class Nursery:
    bare = True

    def __init__(self, generation) -> None:
        self.generation = generation


class World:
    """Slots whose runners have to import; `open` are the seats and slots that wait for a birth."""

    def __init__(self) -> None:
        self.loop, self.open, self.ended, self.told, self.frames = Loop(), [], [], [], []
        self.spares = Spares(self.loop, birth=self.open.append, end=self.end, bad_frame=print)
        self.succession = Succession(
            self.loop,
            birth=self.open.append,
            end=self.end,
            everybody=list,
            rng=lambda: 0.5,
            spares=self.spares,
        )
        self.nursery = Nursery(1)

    def slot(self, queue="work", **how):
        return Slot(len(queue), self, nursery=self.nursery, queue=queue, **how)

    def end(self, runner):
        self.ended.append(runner)
        runner.let_go = True
        runner.advance(Fact.TOLD)

    def on_ready(self, runner):
        self.told.append(runner)

    def on_leaving(self, runner):
        pass

    def born(self, slot, *, ready=True):
        if slot in self.open:
            self.open.remove(slot)
        runner = Runner(slot, os.getpid(), -1)
        runner.pipe = SimpleNamespace(send=lambda kind, body: self.frames.append((kind, json.loads(body))))
        runner.born_at = self.loop.now
        self.succession.born(runner)
        if ready:
            self.ready(runner)
        return runner

    def ready(self, runner):
        runner.was_ready = True
        runner.advance(Fact.READY)
        self.succession.ready(runner)

    def dies(self, runner):
        runner.advance(Fact.EXITED)
        runner.slot.owner.on_exit(runner, KILLED)
        self.succession.gone(runner)

    def on_exit(self, runner, how):
        pass

    def seat(self):
        """The one that waits for a spare."""
        (found,) = [each for each in self.open if isinstance(each, Seat)]
        return found


@pytest.fixture
def world():
    return World()


def test_nobody_is_kept_where_a_template_has_imported(world):
    world.nursery.bare = False
    world.born(world.slot())
    assert world.open == []


def test_nobody_is_kept_before_a_runner_has_shown_that_it_can_work(world):
    runner = world.born(world.slot(), ready=False)
    assert world.open == []
    world.ready(runner)
    assert world.seat().nursery is world.nursery and world.seat().takes_ahead


def test_all_slots_of_a_template_share_one_spare(world):
    for queue in ("work", "other", "third"):
        world.born(world.slot(queue))
    assert len(world.open) == 1


def test_the_spare_takes_the_slot_of_who_dies_and_another_is_born(world):
    slot = world.slot()
    first = world.born(slot)
    spare = world.born(world.seat())
    assert world.told == [first], "nobody gives it jobs"
    world.dies(first)
    assert slot.runner is spare and spare.slot is slot and world.told == [first, spare]
    assert world.frames == [(Kind.SEAT, {"title": "oxherd: runner 4 g1"})]
    assert world.open == [world.seat()] and world.spares.runners() == []


def test_a_spare_that_is_not_ready_is_not_waited_for(world):
    slot = world.slot()
    first = world.born(slot)
    spare = world.born(world.seat(), ready=False)
    world.dies(first)
    assert world.open == [slot] and world.spares.runners() == [spare]


def test_who_is_to_be_replaced_goes_at_once_when_there_is_a_spare(world):
    slot = world.slot(recycle=RecycleConfig(jobs=1, jitter=0))
    first = world.born(slot)
    spare = world.born(world.seat())
    first.advance(Fact.JOB_SENT)
    first.advance(Fact.OUTCOME)
    assert not world.succession.finished(first)
    assert slot.runner is spare and world.ended == [first] and world.told == [first, spare]
    assert spare.wear is not None, "it serves as long as any other"


def test_a_slot_for_several_jobs_at_a_time_gets_a_spare_that_can_have_them(world):
    world.born(world.slot("one"))
    single = world.born(world.seat())
    slot = world.slot("several", room=4)
    runner = world.born(slot)
    spare = world.born(world.seat())
    assert spare.room > 1 and not spare.slot.takes_ahead
    world.dies(runner)
    assert slot.runner is spare and spare.room == 4 and single.slot is not slot


def test_a_fresh_slot_has_no_claim_to_a_spare(world):
    world.born(world.slot("work"))
    spare = world.born(world.seat())
    fresh = world.slot("fresh", fresh=True)
    world.dies(world.born(fresh))
    assert world.spares.runners() == [spare] and fresh in world.open


def test_a_birth_that_has_to_wait_waits_though_there_is_a_spare(world):
    """I10: the pause of a slot whose runners come to nothing is not gone round."""
    slot = world.slot()
    first = world.born(slot)
    spare = world.born(world.seat())
    slot.failures = 1
    world.dies(first)
    assert world.open == [slot] and world.spares.runners() == [spare]


def test_the_debt_of_a_slot_goes_to_the_spare_that_is_born_for_its_own(world):
    slot = world.slot()
    first = world.born(slot)
    world.born(world.seat())
    slot.owes = True
    world.dies(first)
    assert world.seat().owes and not slot.owes


def test_with_the_last_slot_the_spare_goes(world):
    slots = [world.slot(), world.slot("other")]
    runners = [world.born(slot) for slot in slots]
    spare = world.born(world.seat())
    world.succession.shut(slots[0])
    assert world.ended == [runners[0]]
    world.succession.shut(slots[1])
    assert spare in world.ended


def test_a_spare_that_is_not_wanted_any_more_is_let_go_when_it_is_ready(world):
    slot = world.slot()
    world.born(slot)
    spare = world.born(world.seat(), ready=False)
    world.succession.shut(slot)
    assert spare not in world.ended
    world.ready(spare)
    assert spare in world.ended


def test_another_nursery_has_a_spare_of_its_own_and_the_old_one_goes(world):
    slot = world.slot()
    world.born(slot)
    spare = world.born(world.seat())
    slot.nursery = Nursery(2)
    world.succession.replace(slot, "loaded again")
    assert world.ended == [spare] and world.open == [slot]
    world.born(slot)
    assert world.seat().nursery is slot.nursery


def test_who_is_quiet_keeps_nobody(world):
    world.born(world.slot())
    spare = world.born(world.seat())
    world.spares.rest(True)
    assert world.ended == [spare] and world.spares.runners() == []
    world.spares.rest(False)
    assert world.seat()


def test_a_spare_that_dies_again_and_again_is_given_up_until_another_runner_is_ready(world):
    slot = world.slot()
    world.born(slot)
    seat = world.seat()
    for _ in range(MOST_DEATHS):
        assert not seat.closed
        world.dies(world.born(seat))
    assert seat.closed and world.open == []
    assert seat.failures == MOST_DEATHS - 1, "each birth but the first had a pause before it"
    world.dies(slot.runner)
    world.born(slot)
    assert world.seat() is not seat


def test_a_spare_that_has_lived_for_long_begins_another_row(world):
    world.born(world.slot())
    seat = world.seat()
    for _ in range(MOST_DEATHS + 1):
        spare = world.born(seat)
        world.loop.now += STEADY_AFTER_S
        world.dies(spare)
    assert not seat.closed and seat.deaths == 1
