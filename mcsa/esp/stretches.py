"""What in a batch belongs together: packets of one SA, in order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from mcsa.esp.slab import LITTLE_ENDIAN, WORD, Layout


class Stretch(NamedTuple):
    """Packets of a layout with one SPI, whose numbers follow one another."""

    start: int
    end: int
    spi: int
    sequence: int  # of the first


def stretches(layout: Layout, count: int) -> Iterator[Stretch]:
    """Divides the first packets of a layout, in their order."""
    spi, sequences = layout.spis[:count].tobytes(), array("I", layout.sequences[:count].tobytes())
    if LITTLE_ENDIAN:
        sequences.byteswap()
    first = sequences[0]
    in_order = sequences[-1] - first == count - 1 and sequences == array("I", range(first, first + count))
    if in_order and spi == spi[:WORD] * count:
        yield Stretch(0, count, int.from_bytes(spi[:WORD], "big"), first)
        return
    spis = [int.from_bytes(spi[n : n + WORD], "big") for n in range(0, len(spi), WORD)]
    start = 0
    for place in range(1, count + 1):
        if place == count or spis[place] != spis[start] or sequences[place] != sequences[start] + place - start:
            yield Stretch(start, place, spis[start], sequences[start])
            start = place
