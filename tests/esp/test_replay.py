from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcsa.esp.replay import DEFAULT_WINDOW, ReplayWindow

NEAR = st.lists(st.integers(-1_200, 1_200), max_size=200)  # steps: mostly inside the window, now and then beyond


def seen(*numbers: int, size: int = DEFAULT_WINDOW) -> ReplayWindow:
    window = ReplayWindow(size)
    for number in numbers:
        assert window.is_fresh(number)
        window.strike_out(number)
    return window


@given(st.sampled_from([64, 65, 128, 1_000, 1_024]), NEAR)
def test_it_answers_as_a_set_of_all_numbers_seen_would(size: int, steps: list[int]) -> None:
    window, known, highest = ReplayWindow(size), set[int](), 0
    position = 1
    for step in steps:
        position = max(0, position + step)
        expected = position > 0 and position not in known and position > highest - size
        assert window.is_fresh(position) == expected
        if expected:
            window.strike_out(position)
            known.add(position)
            highest = max(highest, position)
        assert window.highest == highest


@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_striking_out_in_order_is_the_same_together_and_one_by_one(first: int, more: int) -> None:
    together, apart = ReplayWindow(), ReplayWindow()
    for window in (together, apart):
        if first:
            window.strike_out(first)
    together.strike_out_through(first + more)
    for number in range(first + 1, first + more + 1):
        apart.strike_out(number)
    around = range(max(0, first - 1_100), first + more + 100)
    assert [together.is_fresh(n) for n in around] == [apart.is_fresh(n) for n in around]


def test_striking_out_through_less_than_the_highest_changes_nothing() -> None:
    window = seen(10)
    window.strike_out_through(9)
    assert window.highest == 10
    assert window.is_fresh(9)


def test_checking_changes_nothing() -> None:
    window = seen(5)
    assert window.is_fresh(2**32 - 1)
    assert window.is_fresh(6)
    assert window.highest == 5


def test_0_is_never_fresh() -> None:
    assert not ReplayWindow().is_fresh(0)


def test_the_lower_edge() -> None:
    window = seen(2_000)
    assert window.is_fresh(2_000 - DEFAULT_WINDOW + 1)
    assert not window.is_fresh(2_000 - DEFAULT_WINDOW)


def test_a_jump_over_the_whole_ring_forgets_what_was_there() -> None:
    window = seen(*range(1, 2_000), 1_000_000_000)
    assert all(window.is_fresh(n) for n in range(1_000_000_000 - DEFAULT_WINDOW + 1, 1_000_000_000))
    assert not window.is_fresh(1_999)


def test_the_last_number_does_not_wrap() -> None:
    window = seen(2**32 - 1)
    assert not window.is_fresh(2**32 - 1)
    assert not window.is_fresh(1)


def test_a_window_of_less_than_64_is_our_bug() -> None:
    with pytest.raises(ValueError, match="64"):
        ReplayWindow(63)
