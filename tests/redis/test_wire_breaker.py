"""Circuit breakers on the wire: every change of state, on a clock the test turns itself."""

from __future__ import annotations

from itertools import count

import pytest

from supervisor.errors import UsageError
from supervisor.protocol.commands.breaker import (
    CLOSED,
    HALF_OPEN,
    KEEP_MS,
    OPEN,
    BreakerKeys,
    BreakerState,
    Change,
    EnterBreaker,
    Entry,
    GetBreaker,
    LeaveBreaker,
    ListBreakers,
    Rule,
    SetBreaker,
)

RULE = Rule(failures=3, within_ms=60_000, open_ms=30_000, longest_ms=100_000)
LET_IN = Entry(None)
TRIAL = Entry(None, is_trial=True)
NOTHING = Change("")


class Breaker:
    """One breaker and the jobs that use it: each call has a token of its own, each job a lock."""

    def __init__(self, wire, name: str = "payments") -> None:
        self.wire = wire
        self.keys = BreakerKeys(name, "bull")
        self._tokens = count(1)

    def enter(
        self, token: str | None = None, *, job: str = "1", trials: int = 1, share: float = 0.0
    ) -> Entry:
        lock = self.wire.queue.lock(job)
        self.wire.raw.set(lock, f"lock-of-{job}")
        self.token = token or str(next(self._tokens))
        return self.wire.run(
            EnterBreaker(
                self.keys, self.wire.now_ms, self.token, lock, f"lock-of-{job}", trials=trials, share=share
            )
        )

    def leave(self, said: str, token: str | None = None, rule: Rule = RULE) -> Change:
        return self.wire.run(LeaveBreaker(self.keys, self.wire.now_ms, token or self.token, said, rule))

    def fail(self, times: int = 1) -> Change:
        for _ in range(times):
            self.enter()
            change = self.leave("failed")
        return change

    def opened(self) -> Change:
        change = self.fail(RULE.failures)
        assert change.change == "opened"
        return change

    def half_opened(self) -> None:
        self.opened()
        self.wire.now_ms += RULE.open_ms

    def state(self) -> BreakerState:
        return self.wire.run(GetBreaker(self.keys, self.wire.now_ms))

    def die(self, job: str) -> None:
        """The lock of a job ends, as it does when its outcome is written or nobody renews it."""
        self.wire.raw.delete(self.wire.queue.lock(job))


@pytest.fixture
def breaker(wire) -> Breaker:
    return Breaker(wire)


def test_a_breaker_nobody_has_failed_is_closed_and_leaves_no_key(wire, breaker):
    assert breaker.enter() == LET_IN
    assert breaker.leave("worked") == NOTHING

    assert breaker.state() == BreakerState("payments", CLOSED)
    assert not wire.raw.exists(breaker.keys.state, breaker.keys.all)


def test_the_last_of_so_many_failures_opens_it(breaker):
    assert breaker.fail(2) == NOTHING
    assert breaker.state().state == CLOSED
    assert breaker.state().failed == 2

    assert breaker.fail() == Change("opened", 30_000, 1)

    assert breaker.state().state == OPEN
    assert breaker.enter() == Entry(30_000)


def test_successes_between_failures_do_not_excuse_them(breaker):
    breaker.fail(2)
    breaker.enter()
    breaker.leave("worked")

    assert breaker.fail().change == "opened"


def test_failures_older_than_the_window_do_not_count(wire, breaker):
    breaker.fail(2)
    wire.now_ms += RULE.within_ms
    assert breaker.state().failed == 0

    assert [breaker.fail(), breaker.fail()] == [NOTHING, NOTHING]
    wire.now_ms += RULE.within_ms - 1
    assert breaker.fail().change == "opened"


def test_those_who_are_turned_away_come_back_over_half_the_time_it_was_open(wire, breaker):
    breaker.opened()

    assert breaker.enter(share=0.0).wait_ms == 30_000
    assert breaker.enter(share=0.5).wait_ms == 37_500
    wire.now_ms += 10_000
    assert breaker.enter(share=0.999).wait_ms == 34_985


def test_when_its_time_is_over_one_job_tries_and_the_others_wait(wire, breaker):
    breaker.half_opened()
    assert breaker.state().state == HALF_OPEN

    assert breaker.enter(job="1") == TRIAL
    assert breaker.enter(job="2") == Entry(3_000)
    assert breaker.enter(job="3", share=1.0) == Entry(18_000)
    assert breaker.state().trials == 1


def test_a_trial_that_succeeds_closes_it(wire, breaker):
    breaker.half_opened()
    breaker.enter()

    assert breaker.leave("worked").change == "closed"

    assert breaker.enter() == LET_IN
    assert breaker.state() == BreakerState("payments", CLOSED, failures=3, within_ms=60_000)
    assert breaker.fail(2) == NOTHING  # counted from nothing


def test_a_trial_that_fails_opens_it_for_twice_as_long_up_to_a_bound(wire, breaker):
    breaker.half_opened()
    opened_on = breaker.state().opened_on
    for trips, open_ms in ((2, 60_000), (3, 100_000), (4, 100_000)):
        assert breaker.enter() == TRIAL
        assert breaker.leave("failed") == Change("opened", open_ms, trips)
        assert breaker.enter() == Entry(open_ms)
        wire.now_ms += open_ms
    assert breaker.state().opened_on == opened_on

    breaker.enter()
    breaker.leave("worked")
    assert breaker.opened() == Change("opened", 30_000, 1)


def test_a_trial_that_tells_nothing_makes_room_for_the_next(breaker):
    breaker.half_opened()
    breaker.enter(job="1")
    assert breaker.leave("nothing") == NOTHING

    assert breaker.enter(job="2") == TRIAL


def test_a_trial_whose_job_has_lost_its_lock_holds_nobody_up(wire, breaker):
    breaker.half_opened()
    breaker.enter(job="1")
    lost = breaker.token
    assert breaker.enter(job="2").wait_ms

    breaker.die("1")
    assert breaker.enter(job="2") == TRIAL

    assert breaker.leave("failed", lost) == NOTHING  # somebody else tries now
    assert breaker.state().state == HALF_OPEN


def test_a_lock_that_another_attempt_holds_is_no_sign_of_the_trial_s_life(wire, breaker):
    breaker.half_opened()
    breaker.enter(job="1")
    wire.raw.set(wire.queue.lock("1"), "the next attempt")

    assert breaker.enter(job="2") == TRIAL


def test_a_job_whose_id_has_spaces_can_be_a_trial(wire, breaker):
    breaker.half_opened()
    wire.raw.set(wire.queue.lock("a b  c"), "t")

    def enter(token: str, job: str):
        lock = wire.queue.lock(job)
        return wire.run(EnterBreaker(breaker.keys, wire.now_ms, token, lock, "t", trials=1, share=0.0))

    assert enter("x", "a b  c") == TRIAL
    assert enter("y", "2").wait_ms


def test_as_many_try_at_once_as_may_and_the_first_word_decides(breaker):
    breaker.half_opened()
    assert breaker.enter("a", job="1", trials=2) == TRIAL
    assert breaker.enter("b", job="2", trials=2) == TRIAL
    assert breaker.enter("c", job="3", trials=2).wait_ms

    assert breaker.leave("worked", "a").change == "closed"
    assert breaker.leave("failed", "b") == NOTHING
    assert breaker.state().failed == 1  # an ordinary one now


def test_when_one_of_two_trials_fails_the_other_s_success_does_not_close_it(breaker):
    breaker.half_opened()
    breaker.enter("a", job="1", trials=2)
    breaker.enter("b", job="2", trials=2)

    assert breaker.leave("failed", "a").change == "opened"
    assert breaker.leave("worked", "b") == NOTHING
    assert breaker.state().state == OPEN


def test_what_came_in_before_it_opened_changes_nothing_afterwards(wire, breaker):
    for token in ("before", "before too"):
        breaker.enter(token)
    breaker.opened()

    assert breaker.leave("worked", "before") == NOTHING
    wire.now_ms += RULE.open_ms
    assert breaker.leave("failed", "before too") == NOTHING
    assert breaker.state().state == HALF_OPEN


def test_said_again_after_a_lost_reply_nothing_is_counted_twice(wire, breaker):
    breaker.enter("a")
    assert breaker.leave("failed", "a") == breaker.leave("failed", "a") == NOTHING
    assert breaker.state().failed == 1

    breaker.enter("b")
    breaker.leave("failed", "b")
    breaker.enter("c")
    assert breaker.leave("failed", "c") == breaker.leave("failed", "c") == Change("opened", 30_000, 1)

    wire.now_ms += RULE.open_ms
    assert breaker.enter("d", job="1") == breaker.enter("d", job="1") == TRIAL
    assert breaker.leave("failed", "d") == breaker.leave("failed", "d") == Change("opened", 60_000, 2)

    wire.now_ms += 60_000
    breaker.enter("e", job="1")
    assert breaker.leave("worked", "e").change == breaker.leave("worked", "e").change == "closed"


def test_two_masters_whose_clocks_differ_agree_that_it_is_open(wire, breaker):
    breaker.opened()
    wire.now_ms -= 2_000

    assert breaker.enter() == Entry(32_000)


def test_breakers_of_other_names_and_prefixes_know_nothing_of_it(wire, breaker):
    breaker.opened()

    assert Breaker(wire, "mail").enter() == LET_IN
    other = Breaker(wire)
    other.keys = BreakerKeys("payments", "other")
    assert other.enter() == LET_IN
    assert wire.run(ListBreakers("other", wire.now_ms)) == []


def test_all_that_is_known_of_it_goes_with_time(wire, breaker):
    breaker.fail()
    assert KEEP_MS - 5_000 < wire.raw.pttl(breaker.keys.state) <= KEEP_MS
    breaker.fail(2)
    for key in (breaker.keys.state, breaker.keys.all):
        assert KEEP_MS + 25_000 < wire.raw.pttl(key) <= KEEP_MS + 30_000
    assert wire.run(ListBreakers("bull", wire.now_ms)) == ["payments"]

    wire.now_ms += KEEP_MS + 30_001
    Breaker(wire, "mail").fail()
    assert wire.raw.zrange(breaker.keys.all, 0, -1) == [b"mail"]


def test_by_hand_it_is_opened_for_a_while_and_forgotten(wire, breaker):
    assert wire.run(SetBreaker(breaker.keys, wire.now_ms, 600_000)) is False
    assert breaker.enter() == Entry(600_000)
    wire.now_ms += 600_000
    assert breaker.enter() == TRIAL

    assert wire.run(SetBreaker(breaker.keys, wire.now_ms, 0)) is True
    assert breaker.enter() == LET_IN
    assert not wire.raw.exists(breaker.keys.state, breaker.keys.all)
    assert wire.run(SetBreaker(breaker.keys, wire.now_ms, 0)) is False


@pytest.mark.parametrize("name", ["", "a:b", "a b", "x" * 101, "a\n", "a\x00", "\ud800"])
def test_a_name_that_no_breaker_has_is_refused(name):
    with pytest.raises(UsageError, match="no breaker is named"):
        BreakerKeys(name, "bull")
