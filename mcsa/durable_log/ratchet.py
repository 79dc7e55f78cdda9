"""The storage key and its generations: each leads to the next, none to the one before."""

from __future__ import annotations

from mcsa.errors import Rejected
from mcsa.keys import StorageKey

LABEL = "mcsa storage key ratchet v1"
FURTHEST = 1 << 16  # generations ahead that are derived; a stored record says which one it wants, and may lie


class StorageKeys:
    """The keys of one generation and all after it. What was before `advance` is gone from here, not from memory that
    Python has not used again."""

    def __init__(self, generation: int, key: StorageKey) -> None:
        self._generation = generation
        self._key = key
        self._latest = (generation, key)

    @property
    def generation(self) -> int:
        """The earliest that it has."""
        return self._generation

    @property
    def next(self) -> int:
        """The one that snapshots and new logs go to."""
        return self._generation + 1

    def at(self, generation: int) -> StorageKey:
        """The key of a generation; `Rejected("log")` where it was erased, or is too far ahead to be true."""
        if generation < self._generation:
            raise Rejected("log", f"sealed under generation {generation}, which is erased")
        if generation > self._generation + FURTHEST:
            raise Rejected("log", f"generation {generation} is out of reach")
        at, key = self._latest if self._latest[0] <= generation else (self._generation, self._key)
        while at < generation:
            at += 1
            key = StorageKey.derive(key, LABEL, at)
        self._latest = (at, key)
        return key

    def advance(self, generation: int) -> None:
        """Forgets the generations before this one. `Rejected` as `at`."""
        self._key = self.at(generation)
        self._generation = generation
