"""What in a batch belongs together: packets of one SA, in order."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from mcsa.esp.slab import WORD, Layout

_WORD_BITS = 8 * WORD


class Stretch(NamedTuple):
    """Packets of a layout with one SPI, whose numbers follow one another."""

    start: int
    end: int
    spi: int
    sequence: int  # of the first


def stretches(layout: Layout, count: int) -> Iterator[Stretch]:
    """Divides the first packets of a layout, in their order."""
    spis, sequences = layout.spis[:count].tobytes(), layout.sequences[:count].tobytes()
    first = int.from_bytes(sequences[:WORD], "big")
    ones, steps = _following(count)
    if spis == spis[:WORD] * count and int.from_bytes(sequences, "big") == first * ones + steps:
        yield Stretch(0, count, int.from_bytes(spis[:WORD], "big"), first)
        return
    each_spi, each_sequence = _words(spis), _words(sequences)
    start = 0
    for place in range(1, count + 1):
        follows = place < count and each_sequence[place] == each_sequence[start] + place - start
        if not follows or each_spi[place] != each_spi[start]:
            yield Stretch(start, place, each_spi[start], each_sequence[start])
            start = place


@lru_cache(maxsize=1024)
def _following(count: int) -> tuple[int, int]:
    """Two numbers whose digits to the base 2^32 are 1, 1, 1 ... and 0, 1, 2 ...

    So that n numbers from `first` on, as digits, are `first` times the one and the other: one comparison for all.
    """
    ones = sum(1 << _WORD_BITS * place for place in range(count))
    steps = sum(count - 1 - place << _WORD_BITS * place for place in range(count))
    return ones, steps


def _words(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[n : n + WORD], "big") for n in range(0, len(raw), WORD)]
