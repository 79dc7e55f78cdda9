from __future__ import annotations

import random

import pytest

from mcsa.audio.sequence import MAX_DROPOUT, SequenceNumbers
from mcsa.errors import Rejected


def counts(numbers: SequenceNumbers) -> tuple[int, int, int, int]:
    return numbers.expected, numbers.received, numbers.duplicates, numbers.reordered


def test_in_order_over_the_wrap() -> None:
    numbers = SequenceNumbers()
    for sequence in (65_534, 65_535, 0, 1):
        assert numbers.take(sequence)
    assert counts(numbers) == (4, 4, 0, 0)


def test_losses_duplicates_and_reordering_are_told_apart() -> None:
    numbers = SequenceNumbers(first=10)
    assert [numbers.take(n) for n in (11, 13, 12, 13, 11, 15)] == [True, True, True, False, False, True]
    assert counts(numbers) == (6, 4, 2, 1)  # 10 and 14 are lost


def test_each_number_once_whatever_order_they_come_in() -> None:
    chance = random.Random(1)
    sent = [(65_000 + n) % 2**16 for n in range(2_000)]
    arrived = sorted(enumerate(sent), key=lambda each: each[0] + chance.uniform(0, 50))
    numbers = SequenceNumbers(first=65_000)
    for _, sequence in arrived:
        assert numbers.take(sequence)
        assert not numbers.take(sequence)
    assert counts(numbers)[:3] == (2_000, 2_000, 2_000)


def test_nothing_from_before_the_first() -> None:
    numbers = SequenceNumbers()
    numbers.take(5)
    with pytest.raises(Rejected, match="before the first"):
        numbers.take(4)


def test_a_leap_is_believed_once_two_in_a_row_made_it() -> None:
    numbers = SequenceNumbers()
    numbers.take(0)
    for lone in (10_000, 20_000):
        with pytest.raises(Rejected, match="a leap"):
            numbers.take(lone)
    assert numbers.take(20_001)
    assert counts(numbers) == (20_002, 2, 0, 0)


def test_too_old_and_what_is_remembered_is_bounded() -> None:
    numbers = SequenceNumbers()
    for sequence in range(0, 20_000, 2_000):
        numbers.take(sequence)
    assert len(numbers._missing) <= MAX_DROPOUT
    with pytest.raises(Rejected, match="too old"):
        numbers.take(1)
