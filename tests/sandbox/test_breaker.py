"""What a breaker asks and tells for a job, over a channel that stands for the master."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.breaker import Breaker
from sandbox.errors import (
    AskFailed,
    BreakerOpen,
    Delayed,
    LoadError,
    RetryAfter,
    TimeLimit,
    Unrecoverable,
)
from sandbox.failures import judge
from sandbox.job import Job
from sandbox.wire import FailureKind

META = {"id": "17", "name": "charge", "queue": "orders", "attempt": 1, "attempts": 3, "started": 1}


class Master:
    """Answers as it is told to; `asked` and `rows` are what it was asked and given for the log."""

    def __init__(self):
        self.entry = {"wait_ms": None, "trial": False, "token": "t"}
        self.change = {"change": "", "open_ms": 0}
        self.asked = []
        self.rows = []
        self.away = False

    def log(self, text):
        self.rows.append(text.decode())

    def ask(self, what, arguments):
        self.asked.append((what, arguments["options"].get("said")))
        if self.away and what == "breaker_leave":
            raise AskFailed("Redis is away")
        return self.entry if what == "breaker_enter" else self.change

    @property
    def told(self):
        return [said for what, said in self.asked if what == "breaker_leave"]


@pytest.fixture
def master():
    return Master()


@pytest.fixture
def job(master):
    return Job(META, {}, master, max_bytes=1000)


def use(breaker, job, error=None):
    with breaker(job):
        if error is not None:
            raise error


def test_while_it_is_closed_a_success_costs_one_question(master, job):
    use(Breaker("payments"), job)

    assert master.asked == [("breaker_enter", None)]
    assert master.rows == []


def test_what_leaves_the_block_is_a_failure_and_goes_on(master, job):
    with pytest.raises(ConnectionError, match="down"):
        use(Breaker("payments"), job, ConnectionError("down"))

    assert master.told == ["failed"]


@pytest.mark.parametrize("error", [TimeLimit("soft"), RetryAfter(50), OSError()])
def test_a_dependency_that_is_slow_or_busy_has_failed(master, job, error):
    with pytest.raises(type(error)):
        use(Breaker("payments"), job, error)

    assert master.told == ["failed"]


@pytest.mark.parametrize(
    "error", [Delayed(5), Unrecoverable("no such card"), BreakerOpen(5, "other"), KeyboardInterrupt()]
)
def test_what_tells_nothing_of_the_dependency_frees_a_trial_and_decides_nothing(master, job, error):
    with pytest.raises(type(error)):
        use(Breaker("payments"), job, error)
    assert master.told == []

    master.entry["trial"] = True
    with pytest.raises(type(error)):
        use(Breaker("payments"), job, error)
    assert master.told == ["nothing"]


@pytest.mark.parametrize(
    ("breaker", "error"),
    [
        (Breaker("payments", ignore=(KeyError,)), KeyError("id")),
        (Breaker("payments", ignore=LookupError), KeyError("id")),  # type: ignore[arg-type]
        (Breaker("payments", only=(ConnectionError,)), KeyError("id")),
    ],
)
def test_an_exception_that_is_no_failure_of_the_dependency_says_that_it_works(master, job, breaker, error):
    master.entry["trial"] = True
    with pytest.raises(KeyError):
        use(breaker, job, error)

    assert master.told == ["worked"]


def test_while_it_is_open_the_job_is_delayed_and_the_block_is_not_run(master, job):
    master.entry["wait_ms"] = 31_000
    with pytest.raises(BreakerOpen) as caught, Breaker("payments")(job):
        pytest.fail("the block ran")

    assert master.told == []
    failure = judge(caught.value)
    assert (failure.kind, failure.delay_ms) == (FailureKind.DELAYED, 31_000)
    assert master.rows == ["breaker payments is open: put back for 31.0 s, no attempt counted"]


def test_a_job_that_has_come_back_before_gets_no_row_each_time(master):
    job = Job({**META, "started": 2}, {}, master, max_bytes=1000)
    master.entry["wait_ms"] = 31_000
    with pytest.raises(BreakerOpen):
        use(Breaker("payments"), job)

    assert master.rows == []


def test_opening_and_closing_are_rows_in_the_log_of_the_job_that_did_it(master, job):
    master.change = {"change": "opened", "open_ms": 1_500}
    with pytest.raises(OSError, match="down"):
        use(Breaker("payments"), job, OSError("down"))
    master.entry["trial"], master.change = True, {"change": "closed", "open_ms": 0}
    use(Breaker("payments"), job)

    assert master.rows == ["breaker payments opened for 1.5 s", "breaker payments closed"]


def test_a_trial_that_fails_delays_its_job_behind_the_others_and_burns_no_attempt(master, job):
    master.entry["trial"], master.change = True, {"change": "opened", "open_ms": 60_000}
    with pytest.raises(BreakerOpen) as caught:
        use(Breaker("payments"), job, OSError("down"))

    assert caught.value.delay_ms == 90_000
    assert isinstance(caught.value.__cause__, OSError)
    assert master.rows == ["breaker payments opened again for 60 s, no attempt counted: OSError: down"]


def test_a_master_that_cannot_be_told_hides_nothing(master, job):
    master.away = True
    with pytest.raises(OSError, match="down"):
        use(Breaker("payments"), job, OSError("down"))

    assert master.rows == ["breaker payments: the end of its use could not be told: Redis is away"]


def test_async_with_is_the_same(master, job):
    async def use_it():
        async with Breaker("payments")(job):
            raise OSError("down")

    with pytest.raises(OSError, match="down"):
        asyncio.run(use_it())
    assert master.told == ["failed"]


def test_a_job_that_has_ended_enters_nothing(master, job):
    job.end()
    with pytest.raises(RuntimeError, match="has ended"):
        use(Breaker("payments"), job)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "x" * 101, "a\n", "\ud800", None, 7])
def test_a_name_no_breaker_has_is_refused_where_it_is_written(name):
    with pytest.raises(LoadError, match="a name has 1 to 100"):
        Breaker(name)


@pytest.mark.parametrize(
    "bad",
    [
        {"failures": 0},
        {"failures": True},
        {"failures": 1.5},
        {"failures": 1_001},
        {"trials": 0},
        {"trials": 101},
        {"within": "soon"},
        {"within": 60},
        {"within": "99ms"},
        {"open_for": None},
        {"open_for": "31d"},
        {"longest": "29s"},
        {"ignore": ("KeyError",)},
        {"only": 5},
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused_by_name(bad):
    (option,) = bad
    with pytest.raises(LoadError, match=rf"^Breaker\('payments'\): {option}"):
        Breaker("payments", **bad)
