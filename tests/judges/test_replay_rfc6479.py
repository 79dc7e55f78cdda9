"""The anti-replay window against the example code of RFC 6479 section 3, statement by statement in Python."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mcsa.esp.replay import ReplayWindow

# The RFC's macros, for a bitmap of 2,048 bits, so that windows up to 2,016 have room.
SIZE_OF_INTEGER = 32
BITMAP_LEN = 2_048 // SIZE_OF_INTEGER
BITMAP_INDEX_MASK = BITMAP_LEN - 1
REDUNDANT_BIT_SHIFTS = 5
BITMAP_LOC_MASK = (1 << REDUNDANT_BIT_SHIFTS) - 1


class Example:
    """`ipsec_check_replay_window` and `ipsec_update_replay_window`."""

    def __init__(self, size: int) -> None:
        self.size, self.last, self.bitmap = size, 0, [0] * BITMAP_LEN

    def check(self, sequence: int) -> bool:
        if sequence == 0:
            return False
        if sequence > self.last:
            return True
        if sequence + self.size < self.last:
            return False
        index = sequence >> REDUNDANT_BIT_SHIFTS & BITMAP_INDEX_MASK
        return not self.bitmap[index] & 1 << (sequence & BITMAP_LOC_MASK)

    def update(self, sequence: int) -> bool:
        if sequence == 0 or sequence + self.size < self.last:
            return False
        index = sequence >> REDUNDANT_BIT_SHIFTS
        if sequence > self.last:
            current = self.last >> REDUNDANT_BIT_SHIFTS
            for number in range(min(index - current, BITMAP_LEN)):
                self.bitmap[number + current + 1 & BITMAP_INDEX_MASK] = 0
            self.last = sequence
        index &= BITMAP_INDEX_MASK
        bit = 1 << (sequence & BITMAP_LOC_MASK)
        if self.bitmap[index] & bit:
            return False
        self.bitmap[index] |= bit
        return True


STEPS = st.lists(
    st.one_of(st.integers(-3, 3), st.integers(-1_100, 1_100), st.integers(-3_000, 2**24)), min_size=1, max_size=200
)


@settings(deadline=None)
@given(st.sampled_from([64, 65, 100, 128, 1_000, 1_024]), STEPS)
def test_it_accepts_what_the_rfcs_example_accepts(size: int, steps: list[int]) -> None:
    # The example takes a number that is `size` below the last one, a window of size + 1 (RFC 4303 counts the last in).
    ours, theirs, position = ReplayWindow(size), Example(size - 1), 1
    for step in steps:
        position = min(max(0, position + step), 2**32 - 2_048)  # above it the example's 32-bit sum wraps
        expected = theirs.check(position)
        assert ours.is_fresh(position) == expected
        if expected:
            assert theirs.update(position)
            ours.strike_out(position)
        assert ours.highest == theirs.last


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1_100, 1_100), st.integers(1, 150)), max_size=60))
def test_runs_struck_out_together_leave_what_the_example_is_left_with(runs: list[tuple[int, int]]) -> None:
    """As batches do it: numbers that come in order above the window are struck out at once."""
    ours, theirs, position = ReplayWindow(1_024), Example(1_023), 1
    for step, length in runs:
        position = max(1, position + step)
        for number in range(position, position + length):
            if theirs.check(number):
                theirs.update(number)
        if position == ours.highest + 1:
            ours.strike_out_through(position + length - 1)
        else:
            for number in range(position, position + length):
                if ours.is_fresh(number):
                    ours.strike_out(number)
        around = range(max(0, theirs.last - 1_100), theirs.last + 3)
        assert [ours.is_fresh(n) for n in around] == [theirs.check(n) for n in around]
