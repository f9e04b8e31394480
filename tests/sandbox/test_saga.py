"""Sagas over a channel that keeps the record as the master does."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.errors import AskFailed, Delayed, SagaFailed, TimeLimit, Unrecoverable
from sandbox.failures import judge
from sandbox.job import Job
from sandbox.saga import Saga
from sandbox.wire import FailureKind

META = {"id": "17", "name": "trip", "queue": "trips", "attempt": 1, "attempts": 3}


class Keeper:
    """The master's part: it keeps the record from run to run."""

    def __init__(self):
        self.record = []
        self.rows = []
        self.away = False

    def log(self, text):
        self.rows.append(text.decode().removeprefix("saga: "))

    def ask(self, what, arguments):
        if what == "saga_record":
            return [list(entry) for entry in self.record]
        if self.away:
            raise AskFailed("Redis is away")
        self.record = arguments["data"]
        return None


@pytest.fixture
def keeper():
    return Keeper()


@pytest.fixture
def world():
    """What the steps did to the world, in order."""
    return []


def run_of(keeper, attempt=1):
    return Job({**META, "attempt": attempt}, {}, keeper, max_bytes=1000)


def trip(job, world, *, fails=None, resume=False, bad_undo=()):
    """Three steps; `fails` is raised by the third."""

    def undo(what):
        def undone(result):
            if what in bad_undo:
                raise ConnectionError(f"{what} does not answer")
            world.append(f"no {what} {result}")

        return undone

    def do(what, result):
        def done():
            world.append(what)
            return result

        return done

    with Saga(job, resume=resume) as saga:
        seat = saga.step("seat", do("seat", 4), undo=undo("seat"))
        room = saga.step("room", do("room", {"bed": 1}), undo=undo("room"))
        saga.step("mail", do("mail", None))
        if fails is not None:
            raise fails
    return seat, room


def test_steps_return_what_they_did_and_are_recorded(keeper, world):
    assert trip(run_of(keeper), world) == (4, {"bed": 1})

    assert world == ["seat", "room", "mail"]
    assert keeper.record == [["seat", 4], ["room", {"bed": 1}], ["mail", None]]
    assert keeper.rows == ["seat: done", "room: done", "mail: done"]


def test_when_a_later_step_fails_what_is_done_is_undone_in_reverse(keeper, world):
    with pytest.raises(OSError, match="no money"):
        trip(run_of(keeper), world, fails=OSError("no money"))

    assert world == ["seat", "room", "mail", "no room {'bed': 1}", "no seat 4"]
    assert keeper.rows[3:] == ["room: undone", "seat: undone"]
    assert keeper.record == []


def test_the_step_that_raises_is_not_undone_and_its_row_says_why(keeper):
    def fail():
        raise OSError("no money")

    with pytest.raises(OSError, match="no money"), Saga(run_of(keeper)) as saga:
        saga.step("pay", fail, undo=lambda paid: pytest.fail("it was not paid"))
    assert keeper.rows == ["pay: failed: no money"]


def test_an_attempt_after_one_that_was_undone_does_everything_again(keeper, world):
    with pytest.raises(OSError, match="no money"):
        trip(run_of(keeper), world, fails=OSError("no money"))
    world.clear()
    trip(run_of(keeper, attempt=2), world)

    assert world == ["seat", "room", "mail"]


@pytest.mark.parametrize("wish", [Delayed(5), KeyboardInterrupt()])
def test_a_job_that_is_to_come_back_goes_on_from_where_it_was(keeper, world, wish):
    with pytest.raises(type(wish)):
        trip(run_of(keeper), world, fails=wish)
    assert "no seat 4" not in world
    world.clear()

    assert trip(run_of(keeper), world) == (4, {"bed": 1})
    assert world == []
    assert keeper.rows[-3:] == ["seat: was done before", "room: was done before", "mail: was done before"]


def test_after_a_crash_recorded_steps_are_not_repeated_and_can_be_undone(keeper, world):
    keeper.record = [["seat", 4]]  # the runner died in the second step

    with pytest.raises(OSError, match="no money"):
        trip(run_of(keeper), world, fails=OSError("no money"))

    assert world == ["room", "mail", "no room {'bed': 1}", "no seat 4"]


def test_with_resume_only_the_last_attempt_undoes(keeper, world):
    for attempt in (1, 2):
        with pytest.raises(OSError, match="no money"):
            trip(run_of(keeper, attempt), world, fails=OSError("no money"), resume=True)
    assert world == ["seat", "room", "mail"]
    assert keeper.rows[-1] == "nothing undone: attempt 3 goes on from here"

    with pytest.raises(OSError, match="no money"):
        trip(run_of(keeper, 3), world, fails=OSError("no money"), resume=True)
    assert world[3:] == ["no room {'bed': 1}", "no seat 4"]


def test_with_resume_an_attempt_that_is_not_made_again_undoes_at_once(keeper, world):
    with pytest.raises(Unrecoverable):
        trip(run_of(keeper), world, fails=Unrecoverable("sold out"), resume=True)

    assert keeper.record == []


def test_a_compensation_that_raises_does_not_stop_the_others_and_both_are_named(keeper, world):
    with pytest.raises(SagaFailed) as caught:
        trip(run_of(keeper), world, fails=OSError("no money"), bad_undo=("room",))

    assert str(caught.value) == (
        "no money; and could not be undone: room (ConnectionError: room does not answer)"
    )
    assert isinstance(caught.value.__cause__, OSError)
    assert judge(caught.value).kind == FailureKind.RAISED
    assert world[-1] == "no seat 4"
    assert keeper.rows[3:] == ["room: could not be undone: room does not answer", "seat: undone"]
    assert keeper.record == [["room", {"bed": 1}]]  # it is done still


def test_a_failure_for_good_stays_one_when_something_could_not_be_undone(keeper, world):
    with pytest.raises(SagaFailed) as caught:
        trip(run_of(keeper), world, fails=Unrecoverable("sold out"), bad_undo=("room", "seat"))

    assert judge(caught.value).kind == FailureKind.UNRECOVERABLE
    assert "room (" in str(caught.value)
    assert "seat (" in str(caught.value)


def test_the_soft_time_limit_undoes(keeper, world):
    with pytest.raises(TimeLimit):
        trip(run_of(keeper), world, fails=TimeLimit("soft"))
    assert world[-1] == "no seat 4"


def test_a_step_that_cannot_be_recorded_is_undone_with_the_others(keeper, world):
    with pytest.raises(TypeError, match="'what was booked' returned cannot be said in JSON"):  # noqa: SIM117
        with Saga(run_of(keeper)) as saga:
            saga.step("what was booked", lambda: object(), undo=lambda it: world.append("undone"))
    assert world == ["undone"]

    keeper.away = True
    with pytest.raises(SagaFailed, match="Redis is away; and could not be undone: seat"):
        trip(run_of(keeper), world)
    assert world[-1] == "no seat 4"


def test_a_record_that_is_too_large_is_refused(keeper):
    with pytest.raises(ValueError, match="more than 61440"), Saga(run_of(keeper)) as saga:
        saga.step("much", lambda: "x" * 70_000)


def test_what_an_earlier_run_did_and_this_one_does_not_know_is_named(keeper):
    keeper.record = [["car", 1]]
    with pytest.raises(OSError, match="no"), Saga(run_of(keeper)):
        raise OSError("no")

    assert keeper.rows == ["car: done by an earlier run, and not undone: this run did not come to it"]


def test_two_steps_of_one_name_are_refused(keeper):
    with pytest.raises(ValueError, match="are named 'seat'"), Saga(run_of(keeper)) as saga:  # noqa: PT012
        saga.step("seat", int)
        saga.step("seat", int)


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_step_needs_a_name(keeper, name):
    with pytest.raises(TypeError, match="a step's name is a text"), Saga(run_of(keeper)) as saga:
        saga.step(name, int)


def test_an_async_step_in_a_plain_block_says_what_to_write(keeper):
    async def book():
        return 4

    with pytest.raises(TypeError, match="async with Saga"), Saga(run_of(keeper)) as saga:
        saga.step("seat", book)
    with pytest.raises(SagaFailed, match="async with Saga"), Saga(run_of(keeper)) as saga:  # noqa: PT012
        saga.step("room", int, undo=lambda result: book())
        raise OSError("no money")


def test_async_steps_and_compensations_are_awaited_in_the_same_order(keeper, world):
    async def book():
        await asyncio.sleep(0)
        return 4

    async def cancel(seat):
        await asyncio.sleep(0)
        world.append(f"no seat {seat}")

    async def fail():
        raise OSError("no money")

    async def travel():
        async with Saga(run_of(keeper)) as saga:
            assert await saga.step("seat", book, undo=cancel) == 4
            assert await saga.step("plain", lambda: 5, undo=lambda n: world.append(f"no plain {n}")) == 5
            await saga.step("broken", lambda: 0, undo=lambda n: 1 / n)
            await saga.step("pay", fail)

    # asyncio.run and not an async test: pytest's loop and those of the runner's code do not go together.
    with pytest.raises(SagaFailed, match=r"money; and could not be undone: broken \(Zero"):
        asyncio.run(travel())

    assert world == ["no plain 5", "no seat 4"]
    assert keeper.rows[3:] == [
        "pay: failed: no money",
        "broken: could not be undone: division by zero",
        "plain: undone",
        "seat: undone",
    ]
