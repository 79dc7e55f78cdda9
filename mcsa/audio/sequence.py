"""Sequence numbers of one stream: extended, counted, doubles found. After RFC 3550 section A.1. Sans-I/O."""

from __future__ import annotations

from mcsa.errors import Rejected

MAX_DROPOUT = 3_000  # packets, section A.1: a longer leap is believed once two packets in a row made it
_MODULUS = 2**16


class SequenceNumbers:
    """What came of one stream. `first` is the number of its first packet where the sender told it."""

    def __init__(self, first: int | None = None) -> None:
        self.received = 0  # each number once
        self.duplicates = 0
        self.reordered = 0  # came after one with a higher number
        self._first = first
        self._highest = None if first is None else first - 1
        self._missing: dict[int, None] = {}  # ascending, none further back than MAX_DROPOUT
        self._leapt: int | None = None

    @property
    def expected(self) -> int:
        """How many packets there are from the first one to the highest."""
        return 0 if self._first is None or self._highest is None else self._highest - self._first + 1

    def take(self, sequence: int) -> bool:
        """False for a duplicate. `Rejected("sequence")` for one from before the beginning, or too far from the last."""
        if self._first is None or self._highest is None:
            self._first, self._highest = sequence, sequence - 1
        ahead = (sequence - self._highest + _MODULUS // 2) % _MODULUS - _MODULUS // 2
        number = self._highest + ahead
        if number < self._first:
            raise Rejected("sequence", "before the first")
        if ahead > 0:
            self._advance(number)
        elif number in self._missing:
            del self._missing[number]
            self.reordered += 1
        elif -ahead < MAX_DROPOUT:
            self.duplicates += 1
            return False
        else:
            raise Rejected("sequence", "too old")
        self.received += 1
        return True

    def _advance(self, number: int) -> None:
        assert self._highest is not None
        if number - self._highest > MAX_DROPOUT and number - 1 != self._leapt:
            self._leapt = number
            raise Rejected("sequence", "a leap")
        oldest = number - MAX_DROPOUT
        self._missing.update(dict.fromkeys(range(max(self._highest + 1, oldest), number)))
        self._highest = number
        while self._missing and (lowest := next(iter(self._missing))) < oldest:
            del self._missing[lowest]
