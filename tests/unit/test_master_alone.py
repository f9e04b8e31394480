"""Who has the master alone, and when; queues and turns of the loop are the test's."""

from __future__ import annotations

import pytest

from supervisor.master.alone import Alone


class Queue:
    def __init__(self) -> None:
        self.work = 0
        self.begun, self.gone_on = [], 0

    def at_work(self):
        return self.work

    def begin(self, attempt):
        self.begun.append(attempt)

    def go_on(self):
        self.gone_on += 1

    def fewer(self):
        pass


class World:
    def __init__(self) -> None:
        self.turns = []
        self.alone = Alone(self.turns.append)
        self.mail, self.shop = Queue(), Queue()
        self.alone.join(self.mail)
        self.alone.join(self.shop)

    def turn(self):
        """One turn of the loop."""
        due, self.turns[:] = list(self.turns), []
        for each in due:
            each()


@pytest.fixture
def world():
    return World()


def test_who_finds_nobody_at_work_begins_at_once(world):
    assert not world.alone.wanted
    world.alone.wait("big", world.mail)
    world.turn()
    assert world.mail.begun == ["big"] and world.alone.now == "big"
    assert world.alone.wanted and not world.mail.gone_on


def test_it_waits_for_what_runs_on_any_queue_and_nothing_is_fetched_meanwhile(world):
    world.shop.work = 1
    world.alone.wait("big", world.mail)
    world.turn()
    assert not world.mail.begun and world.alone.wanted
    world.shop.work = 0
    world.alone.look()
    world.turn()
    assert world.mail.begun == ["big"]


def test_several_run_one_after_the_other(world):
    world.alone.wait("first", world.mail)
    world.alone.wait("second", world.shop)
    world.turn()
    world.turn()
    assert (world.mail.begun, world.shop.begun) == (["first"], [])
    world.alone.forget("first")
    assert world.alone.wanted, "nothing else comes in between"
    world.turn()
    assert world.shop.begun == ["second"]


def test_all_queues_go_on_when_the_last_is_over(world):
    world.alone.wait("big", world.mail)
    world.turn()
    world.alone.forget("big")
    assert (world.mail.gone_on, world.shop.gone_on) == (1, 1)
    assert not world.alone.wanted and world.alone.now is None
    world.turn()
    assert world.mail.begun == ["big"]


def test_who_is_given_up_while_it_waits_begins_no_more(world):
    world.mail.work = 1
    world.alone.wait("big", world.mail)
    world.alone.forget("big")
    assert world.mail.gone_on == 1
    world.mail.work = 0
    world.alone.look()
    world.turn()
    assert not world.mail.begun


def test_many_ends_in_one_turn_are_one_look(world):
    world.mail.work = 1
    world.alone.wait("big", world.mail)
    world.turn()
    for _ in range(50):
        world.alone.look()
    assert len(world.turns) == 1
