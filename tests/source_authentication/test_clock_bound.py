"""The bound on the Authorizer's clock holds whatever the network does."""

from __future__ import annotations

import random

import pytest

from mcsa.source_authentication import ClockBound
from tests.source_authentication.parts import START


@pytest.mark.parametrize("seed", range(20))
def test_the_right_time_is_always_between_the_two(seed: int):
    """Own clock wrong by anything, delays there and back as an adversary likes, drift as NTP allows."""
    chance = random.Random(seed)
    error, rate = chance.uniform(-1e6, 1e6), 1 + chance.uniform(-4e-4, 4e-4)

    def own(right: float) -> float:
        return START + error + (right - START) * rate

    bound: ClockBound | None = None
    right = START
    for _ in range(8):
        asked, there = own(right), right + chance.uniform(0, 2)
        right = there + chance.uniform(0, 2)
        new = ClockBound.by(asked, own(right), there)
        bound = new if bound is None else bound.refined(new)
        right += chance.uniform(0, 60)
        earliest, latest = bound.earliest(own(right)), bound.latest(own(right))
        assert earliest is not None and latest is not None and earliest <= right <= latest


def test_the_best_samples_count():
    rough, fine = ClockBound.by(START, START + 2, START + 1), ClockBound.by(START + 3, START + 3.01, START + 3.005)
    both = rough.refined(fine)
    now = START + 4
    assert both.latest(now) == fine.latest(now) and both.earliest(now) == fine.earliest(now)
    again = both.refined(ClockBound.by(START + 5, START + 9, START + 7))
    assert (again.latest(START + 10) or 0) - (again.earliest(START + 10) or 0) < 0.03


def test_samples_that_can_not_both_be_true_leave_the_newest():
    before, after = ClockBound.by(START, START + 0.01, START), ClockBound.by(START + 5, START + 5.01, START + 60)
    assert before.refined(after) == after


def test_a_clock_that_went_back_bounds_nothing():
    bound = ClockBound.by(START, START + 1, START)
    assert bound.latest(START + 0.5) is None and bound.earliest(START + 0.5) is None
