"""The pool: who is entitled to how many slots, and which slot goes where, by facts that the test makes up."""

from __future__ import annotations

import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.master.pool import Pool
from supervisor.master.shares import TURN_S, Share, settle

# --- how many -----------------------------------------------------------------------------------------------


def entitled(slots, *shares):
    settle(slots, shares, 0.0)
    return [each.entitled for each in shares]


def test_whoever_wants_slots_is_entitled_to_them_by_weight():
    assert entitled(8, Share(weight=3, wants=True), Share(wants=True)) == [6, 2]
    assert entitled(8, Share(weight=3), Share(wants=True)) == [0, 8]
    assert entitled(8, Share(weight=3, used=5), Share(wants=True)) == [0, 3]


def test_a_minimum_is_kept_whether_or_not_it_is_used():
    assert entitled(8, Share(weight=100, wants=True), Share(minimum=2, wants=True)) == [6, 2]
    assert entitled(8, Share(wants=True), Share(minimum=3)) == [5, 3]
    assert entitled(8, Share(wants=True), Share(minimum=3, used=1)) == [5, 3]
    assert entitled(8, Share(wants=True), Share(minimum=3, keeps=False)) == [8, 0]


def test_what_a_minimum_takes_the_others_share_out_by_weight():
    shares = Share(weight=1, minimum=5, wants=True), Share(weight=3, wants=True), Share(weight=1, wants=True)
    assert entitled(9, *shares) == [5, 3, 1]


def test_whoever_has_a_slot_by_rounding_keeps_it_for_a_turn_and_no_longer():
    shares = [Share(wants=True), Share(wants=True)]
    [first] = [each for each in shares if entitled(1, *shares) and each.entitled]
    other = shares[1 - shares.index(first)]
    first.used = 1
    settle(1, shares, 0.0)
    settle(1, shares, 0.9 * TURN_S)  # each is owed, or owes, half a slot a second
    assert first.entitled
    settle(1, shares, 0.2 * TURN_S)
    assert other.entitled and not first.entitled


weights = st.integers(1, 50)


@given(
    slots=st.integers(1, 64),
    told=st.lists(
        st.tuples(weights, st.integers(0, 8), st.integers(0, 64), st.booleans(), st.booleans()),
        min_size=1,
        max_size=6,
    ),
    passed_s=st.floats(0, 1e6),
)
def test_no_more_is_promised_than_there_is(slots, told, passed_s):
    shares = [Share(weight=w, minimum=m, used=u, wants=a, keeps=k) for w, m, u, a, k in told]
    settle(slots, shares, 1.0)
    settle(slots, shares, passed_s)
    wanting = [each for each in shares if each.wants]
    taken = sum(max(each.used, each.floor) for each in shares if not each.wants)
    if sum(each.floor for each in wanting) <= slots - taken:
        assert sum(each.entitled for each in wanting) == max(0, slots - taken) * bool(wanting)
    assert all(each.entitled >= each.floor for each in shares)


# --- which --------------------------------------------------------------------------------------------------


class Queue:
    """A worker and its queue in Redis. Calls are answered, runners born and jobs ended when the test says."""

    def __init__(self, world, *, kind="process", weight=1, minimum=0):
        self.world, self._kind = world, kind
        self.waiting, self.running, self.idle, self.births, self.leaving = 0, 0, 0, 0, 0
        self.calls = []
        self.stranded = 0  # fetched, and without a runner
        self.hungry, self.quiet, self.kicked, self.no_runner_lives = True, False, False, False
        self.seat = world.pool.join(self, Share(weight=weight, minimum=minimum))

    # of a member
    def held(self):
        return self.idle + self.running + self.births

    def closing(self):
        return self.leaving

    def spare(self):
        return self.idle - sum(self.calls)

    def barren(self):
        return self.births if self.no_runner_lives else 0

    def coming(self):
        return self.births

    def unplaced(self):
        return self.stranded

    def wants(self):
        return self.hungry and not self.quiet

    def keeps(self):
        return not (self.quiet or self.no_runner_lives)

    def kind(self):
        return self._kind

    def pass_on(self, to):
        assert self.spare() > 0, "its job was asked for"
        self.idle -= 1
        to.idle += 1
        to.kick()
        return True

    def open(self):
        self.births += 1

    def shut(self):
        if self.barren():
            self.births -= 1
            self.world.pool.kick()
        else:
            assert self.spare() > 0, "its job was asked for"
            self.idle -= 1
            self.leaving += 1

    def kick(self):
        if not self.kicked:
            self.kicked = True
            self.world.soon.append(self.look)

    # of a fetcher and an exchanger
    def look(self):
        self.kicked = False
        if len(self.calls) == 2:
            return
        self.world.pool.look()
        share, asked = self.seat.share, sum(self.calls)
        free = self.idle
        if self.seat.kept_back:
            free = min(free, asked + max(0, share.entitled - share.used))
        if self.wants() and free > asked:
            self.calls.append(free - asked)

    def add(self, count):
        self.waiting += count
        self.hungry = True  # its marker is watched, with a slot or without
        self.kick()

    def answered(self):
        asked = self.calls.pop(0)
        got = min(asked, self.waiting)
        self.waiting -= got
        self.idle -= got
        self.running += got
        self.hungry = got == asked
        self.kick()

    def ended(self):
        self.running -= 1
        self.idle += 1
        self.kick()

    def born(self):
        self.births -= 1
        self.idle += 1
        self.kick()

    def gone(self):
        self.leaving -= 1
        self.world.pool.kick()


class World:
    def __init__(self, slots):
        self.now, self.soon, self.queues = 100.0, [], []
        self.pool = Pool(lambda: self.now, self.soon.append)
        self.pool.adopt(slots)

    def queue(self, **how):
        self.queues.append(Queue(self, **how))
        return self.queues[-1]

    def turn(self):
        """All that the loop has to do now. What kicks itself for ever does not end."""
        for _ in range(1_000):
            if not self.soon:
                return
            self.soon.pop(0)()
        raise AssertionError("the members kick each other for ever")

    def settle(self):
        """Until nothing but jobs is under way."""
        self.turn()
        for _ in range(1_000):
            moves = [
                move
                for each in self.queues
                for there, move in (
                    (each.calls, each.answered),
                    (each.births and not each.no_runner_lives, each.born),
                    (each.leaving, each.gone),
                )
                if there
            ]
            if not moves:
                return
            moves[0]()
            self.turn()
        raise AssertionError("it never comes to rest")

    def taken(self):
        return sum(each.running + sum(each.calls) for each in self.queues)

    def runners(self):
        return sum(each.held() + each.leaving for each in self.queues)


def told(world):
    return [(each.running, each.idle) for each in world.queues]


def test_a_queue_with_jobs_has_all_slots_that_nobody_else_needs():
    world = World(4)
    red, blue = world.queue(), world.queue()
    world.settle()
    assert red.held() + blue.held() == 4
    red.add(10)
    world.settle()
    assert (red.running, blue.running, red.waiting) == (4, 0, 6)


def test_slots_that_come_free_go_to_who_is_short_of_its_part():
    world = World(4)
    red, blue = world.queue(weight=3), world.queue()
    red.add(100)
    world.settle()
    blue.add(100)
    world.settle()
    assert (red.running, blue.running) == (4, 0)
    red.ended()
    world.settle()
    assert (red.running, blue.running) == (3, 1)
    red.ended()
    blue.ended()
    world.settle()
    assert (red.running, blue.running) == (3, 1)


def test_a_job_of_a_queue_with_a_minimum_begins_at_once_while_all_else_is_busy():
    world = World(3)
    red, blue = world.queue(weight=100), world.queue(minimum=1)
    red.add(100)
    world.settle()
    assert (red.running, blue.running, blue.idle) == (2, 0, 1)
    blue.add(1)
    world.settle()
    assert blue.running == 1
    blue.ended()
    world.settle()
    assert (red.running, blue.idle) == (2, 1)


def test_a_slot_goes_to_a_queue_of_another_kind_with_a_new_runner_and_never_makes_one_too_many():
    world = World(2)
    red, blue = world.queue(), world.queue(kind="strict")
    red.add(100)
    world.settle()
    assert red.running == 2
    blue.add(1)
    red.ended()
    world.turn()
    assert (red.held(), red.leaving, blue.held()) == (1, 1, 0)  # the next opens when this one has gone
    world.settle()
    assert (red.running, blue.running) == (1, 1)


def test_the_slots_of_a_queue_whose_runners_come_to_nothing_are_for_the_others():
    world = World(2)
    red, blue = world.queue(), world.queue(kind="strict")
    world.turn()
    assert (red.births, blue.births) == (1, 1)
    blue.no_runner_lives, blue.hungry = True, False  # it is degraded
    red.add(5)
    world.settle()
    assert (red.running, blue.held()) == (2, 0)


def test_who_was_kept_back_for_another_asks_again_when_that_one_needs_no_more():
    world = World(4)
    red, blue = world.queue(), world.queue()
    red.add(100)
    world.settle()
    blue.add(1)
    for _ in range(3):
        red.ended()
    world.turn()
    assert red.seat.kept_back or not red.spare()
    world.settle()
    assert (red.running, blue.running) == (3, 1)
    blue.ended()
    world.settle()
    assert red.running == 4


def test_who_has_more_than_its_part_does_not_take_the_slots_that_another_waits_for():
    world = World(4)
    red, blue = world.queue(), world.queue(kind="strict")
    red.add(100)
    world.settle()
    blue.add(100)
    for _ in range(3):
        red.ended()
    world.settle()
    assert (red.running, blue.running) == (2, 2)


def test_for_one_job_one_slot_is_shut_however_often_it_is_looked():
    world = World(4)
    red, blue = world.queue(), world.queue(kind="strict")
    red.add(4)
    world.settle()
    for _ in range(4):
        red.ended()
    world.settle()
    blue.add(1)
    world.turn()
    for _ in range(3):
        world.pool.look()
    assert (red.idle, red.leaving) == (3, 1)


def test_a_job_that_is_fetched_and_has_no_runner_is_before_all_others():
    """It was to run alone, and its queue's slots have gone to others meanwhile."""
    world = World(2)
    red, blue = world.queue(weight=100), world.queue()
    red.add(100)
    world.settle()
    assert red.running == 2
    blue.stranded = 1
    red.ended()
    world.turn()
    assert (red.held(), blue.idle) == (1, 1)


def test_a_quiet_queue_gives_its_share_to_the_others_and_has_it_back():
    world = World(2)
    red, blue = world.queue(), world.queue(minimum=1)
    blue.quiet = True
    blue.kick()
    red.add(100)
    world.settle()
    assert red.running == 2
    blue.quiet = False
    blue.add(1)
    red.ended()
    world.settle()
    assert (red.running, blue.running) == (1, 1)


def test_fewer_slots_are_reached_as_jobs_end_and_never_cut_a_minimum():
    world = World(4)
    red, blue = world.queue(), world.queue(minimum=2)
    red.add(100)
    world.settle()
    assert world.pool.scale(-3) == 2
    world.settle()
    assert (red.running, blue.held()) == (2, 0)  # its minimum is idle, but the other's jobs go on
    red.ended()
    world.settle()
    assert (red.running, blue.held()) == (1, 1)
    red.ended()
    world.settle()
    assert (red.running, blue.held(), world.runners()) == (0, 2, 2)
    assert world.pool.scale(-5) == 2


@pytest.mark.parametrize(
    ("slots", "weights", "jobs_s"),
    [
        (1, (3, 1), [(0.5, 1.5)] * 2),
        (4, (3, 1), [(0.5, 1.5)] * 2),
        (3, (1, 1), [(0.5, 1.5)] * 2),
        (4, (1, 1), [(0.2, 0.4), (5, 15)]),
        (2, (10, 1, 1), [(0.5, 1.5), (0.5, 1.5), (0.1, 0.2)]),
    ],
)
def test_while_all_are_full_each_has_its_part_of_the_time(slots, weights, jobs_s):
    world, rng = World(slots), random.Random(1)
    queues = [world.queue(weight=each) for each in weights]
    for each in queues:
        each.add(1_000_000)
    ends, had_s = [], [0.0] * len(queues)
    until = world.now + 1_000
    while world.now < until:
        before = [each.running for each in queues]
        world.settle()
        for number, each in enumerate(queues):
            running = sum(1 for _, who in ends if who == number)
            for _ in range(each.running - running):
                heapq.heappush(ends, (world.now + rng.uniform(*jobs_s[number]), number))
        before = [each.running for each in queues]
        assert sum(before) == slots
        now, number = heapq.heappop(ends)
        had_s = [had + running * (now - world.now) for had, running in zip(had_s, before, strict=True)]
        world.now = now
        queues[number].ended()
    for had, weight in zip(had_s, weights, strict=True):
        assert had / sum(had_s) == pytest.approx(weight / sum(weights), abs=0.04)


ops = st.tuples(st.integers(0, 9), st.integers(0, 2), st.integers(1, 5))


@settings(max_examples=300, deadline=None)
@given(
    slots=st.integers(1, 6),
    told=st.lists(st.tuples(st.sampled_from(["a", "b"]), weights, st.integers(0, 2)), min_size=1, max_size=3),
    steps=st.lists(ops, max_size=60),
    steady=st.booleans(),
)
def test_i2_in_any_order_of_events_no_more_is_fetched_than_there_are_slots_and_no_wake_up_is_lost(
    slots, told, steps, steady
):
    """I2 for the pool: jobs that run and jobs asked for are no more than its slots."""
    world = World(slots)
    for kind, weight, minimum in told:
        room = slots - sum(each.seat.share.minimum for each in world.queues)
        world.queue(kind=kind, weight=weight, minimum=min(minimum, room))
    for what, who, count in steps:
        each = world.queues[who % len(world.queues)]
        world.now += count / 10
        taken, runners = max(world.taken(), world.pool.slots), max(world.runners(), world.pool.slots)
        if what <= 2:
            each.add(count)
        elif what <= 4 and each.running:
            each.ended()
        elif what == 5 and each.calls:
            each.answered()
        elif what == 6 and each.births:
            each.born()
        elif what == 7 and each.leaving:
            each.gone()
        elif what == 8 and not steady:
            each.quiet = not each.quiet
            each.kick()
        elif what == 9 and not steady:
            world.pool.scale(count - 3)
        if count < 5:
            world.turn()
        assert world.taken() <= max(taken, world.pool.slots)
        assert world.runners() <= max(runners, world.pool.slots)
    world.settle()
    for each in world.queues:
        others = [other for other in world.queues if other is not each]
        if each.waiting and not each.quiet:
            assert not each.idle, "a slot of its own is idle"
            for other in others:
                kept = 0 if other.quiet else other.seat.share.minimum
                assert other.idle <= max(0, kept - other.running), "a slot is idle that it could have"
            if steady:
                assert each.running >= each.seat.share.minimum, "it has less than its minimum"
