"""Delays between attempts (core.md section 7.5)."""

from __future__ import annotations

import pytest

from supervisor.errors import InvalidOptions
from supervisor.protocol.backoff import MAX_DELAY_MS, delay_of
from supervisor.protocol.job_options import Backoff


def never() -> float:
    raise AssertionError("without jitter no random number is asked for")


@pytest.mark.parametrize("attempt", [1, 2, 9])
def test_fixed_is_always_the_same(attempt):
    assert delay_of(Backoff(type="fixed", delay=400), attempt, never) == 400


@pytest.mark.parametrize(("attempt", "delay"), [(1, 1000), (2, 2000), (3, 4000), (8, 128_000)])
def test_exponential_doubles_from_the_delay_on(attempt, delay):
    assert delay_of(Backoff(type="exponential", delay=1000), attempt, never) == delay


@pytest.mark.parametrize(("random", "delay"), [(0.0, 500), (0.5, 750), (0.999, 999)])
def test_jitter_spreads_below_the_delay(random, delay):
    assert delay_of(Backoff(type="fixed", delay=1000, jitter=0.5), 1, lambda: random) == delay
    assert delay_of(Backoff(type="exponential", delay=500, jitter=0.5), 2, lambda: random) == delay


def test_halves_are_rounded_up():
    assert delay_of(Backoff(type="exponential", delay=0.5), 1, never) == 1


@pytest.mark.parametrize("attempt", [200, 10**9])
def test_doubling_ends_at_a_century(attempt):
    assert delay_of(Backoff(type="exponential", delay=1), attempt, never) == MAX_DELAY_MS


def test_a_negative_delay_is_none():
    assert delay_of(Backoff(type="fixed", delay=-5), 1, never) == 0


def test_an_unknown_type_is_named():
    with pytest.raises(InvalidOptions, match=r"^Unknown backoff strategy linear"):
        delay_of(Backoff(type="linear", delay=5), 1, never)
