"""Dividing payloads into such as have one size, as batches want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile


def of_one_size(payloads: Sequence[bytes], at_most: Callable[[int], int]) -> Iterator[tuple[int, Sequence[bytes]]]:
    """The payloads in their order, in as few parts of one size as can be, each with that size.

    `at_most` says how many of a size a part may have, at least 1.
    """
    sizes, start = list(map(len, payloads)), 0
    while start < len(sizes):
        size = sizes[start]
        equal = sizes[start : start + at_most(size)]
        if equal.count(size) < len(equal):  # two steps of C for the many that are alike
            equal = list(takewhile(size.__eq__, equal))
        end = start + len(equal)
        yield size, payloads if len(equal) == len(sizes) else payloads[start:end]
        start = end
