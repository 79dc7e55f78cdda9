from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcsa.esp.origins import OriginWindows
from mcsa.esp.relayed import Origin


def take(windows: OriginWindows, *origin: int) -> bool:
    named = Origin(*origin)
    fresh = windows.is_fresh(named)
    if fresh:
        windows.strike_out(named)
    return fresh


def test_a_packet_is_taken_once_in_whatever_order() -> None:
    windows = OriginWindows()
    assert [take(windows, 7, 1, sequence) for sequence in (1, 3, 2, 3, 1, 2, 4)] == [True] * 3 + [False] * 3 + [True]


def test_looking_changes_nothing() -> None:
    windows = OriginWindows(limit=1)
    assert windows.is_fresh(Origin(7, 1, 5)) and windows.is_fresh(Origin(7, 1, 5))
    assert take(windows, 7, 1, 5)
    assert windows.is_fresh(Origin(8, 1, 5))
    assert not take(windows, 7, 1, 5)


def test_origins_and_epochs_have_numbers_of_their_own() -> None:
    windows = OriginWindows()
    assert all(take(windows, sender_id, epoch, 1) for sender_id in (7, 8) for epoch in (1, 2))


def test_what_is_older_than_the_window_counts_as_seen() -> None:
    windows = OriginWindows(window=64)
    assert take(windows, 7, 1, 100)
    assert not take(windows, 7, 1, 36)
    assert take(windows, 7, 1, 37)


def test_the_epoch_before_is_still_taken_and_those_before_it_never_again() -> None:
    windows = OriginWindows()
    assert take(windows, 7, 10, 1)
    assert take(windows, 7, 9, 1)  # late, of an epoch that nothing was heard of yet
    assert not take(windows, 7, 8, 1)
    assert take(windows, 7, 11, 1)
    assert take(windows, 7, 10, 2)
    assert not take(windows, 7, 10, 1)
    assert not take(windows, 7, 9, 2)


def test_of_too_many_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    windows = OriginWindows(limit=2)
    assert take(windows, 1, 1, 1) and take(windows, 2, 1, 1) and take(windows, 1, 1, 2) and take(windows, 3, 1, 1)
    assert not take(windows, 1, 1, 1) and not take(windows, 3, 1, 1)
    assert take(windows, 2, 1, 1)  # again: it was forgotten


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 200))))
def test_nothing_is_ever_taken_twice(packets: list[tuple[int, int, int]]) -> None:
    windows = OriginWindows(window=64)
    taken = [packet for packet in packets if take(windows, *packet)]
    assert len(taken) == len(set(taken))
