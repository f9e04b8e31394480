"""Percentiles from a few buckets."""

from __future__ import annotations

import json
import random

from supervisor.cli.recommend import KINDS, rounded
from supervisor.observe.spread import Spread


def spread_of(values):
    spread = Spread()
    for value in values:
        spread.add(value)
    return spread


def test_any_percentile_is_told_to_an_eighth_and_the_largest_exactly():
    rng = random.Random(7)
    values = sorted(rng.lognormvariate(5, 2) for _ in range(5_000))
    spread = spread_of(values)
    for share in (0.1, 0.5, 0.9, 0.99, 1.0):
        true = values[max(0, int(share * len(values)) - 1)]
        assert true * 0.999 <= spread.at(share) <= true * 1.13
    assert spread.at(1.0) == spread.most == values[-1]


def test_of_nothing_nothing_is_told():
    assert Spread().at(0.5) is None


def test_zero_is_a_number_too():
    assert spread_of([0, 0, 0]).at(0.99) == 0


def test_spreads_of_two_masters_are_added_up():
    first, second = spread_of(range(1, 100)), spread_of(range(1_000, 1_100))
    both = spread_of([*range(1, 100), *range(1_000, 1_100)])
    first.merge(json.loads(json.dumps(second.plain())))
    assert first.count == both.count
    assert [first.at(each / 10) for each in range(1, 11)] == [both.at(each / 10) for each in range(1, 11)]


def test_a_limit_is_a_number_that_people_write_and_never_below_what_is_needed():
    by_name = {kind.name: kind for kind in KINDS}
    mb = 2**20
    assert [rounded(by_name["peak_bytes"], n * mb) // mb for n in (3, 17, 33, 100, 129)] == [
        16,
        20,
        40,
        112,
        160,
    ]
    assert [rounded(by_name["ran_ms"], n) for n in (60, 1_100, 40_000, 61_000, 4_000_000)] == [
        1_000,
        2_000,
        45_000,
        120_000,
        7_200_000,
    ]
    assert rounded(by_name["processes"], 3) == 4
    rng = random.Random(1)
    for kind in KINDS:
        for _ in range(500):
            needed = rng.uniform(1, 10**9)
            assert rounded(kind, needed) >= needed - 1
