"""A snapshot on its way into a log, in parts that the store can take."""

from __future__ import annotations

from mcsa.durable_log.chain import Chain
from mcsa.durable_log.marks import Mark
from mcsa.durable_log.record import PART_SIZE
from mcsa.keys import Random


class Snapshot:
    """All that a log's records so far amount to, to take their place.

        while not snapshot.complete:
            raw = snapshot.seal_next(random)
            ... append it ...
            snapshot.advance(raw)

    Entries may be appended between the parts (`Chain.seal`, `Chain.advance`); none between `seal_next` and `advance`.
    `plaintext` is of any size; it must show the log as it is now, when this object is made and the first part sealed.
    """

    def __init__(self, chain: Chain, plaintext: bytes) -> None:
        self._chain = chain
        self._plaintext = memoryview(plaintext)
        self._generation = max(chain.generation, chain.keys.next)
        self._as_of = chain.number
        self._first: int | None = None
        self._appended = 0
        self.count = max(1, -(-len(plaintext) // PART_SIZE))

    @property
    def complete(self) -> bool:
        """All parts are stored."""
        return self._appended == self.count

    @property
    def first(self) -> int:
        """Number of the record with the first part; what is before it may be purged once it is `complete`."""
        if self._first is None:
            raise ValueError("no part of the snapshot is stored yet")
        return self._first

    @property
    def mark(self) -> Mark:
        """For the key file, once it is `complete`."""
        if not self.complete:
            raise ValueError("the snapshot is not complete")
        return Mark(self._chain.log, self._chain.number, self._generation)

    def seal_next(self, random: Random) -> bytes:
        """The record with the next part. `ValueError` where the log went on before the first part was stored."""
        if self._first is None and self._chain.number != self._as_of:
            raise ValueError("the log has gone on; take the snapshot again")
        start = self._appended * PART_SIZE
        part = self._plaintext[start : start + PART_SIZE]
        return self._chain.seal_part(part, self._generation, self._first, self._appended, self.count, random)

    def advance(self, raw: bytes) -> None:
        """That part is stored."""
        self._chain.advance(raw)
        if self._first is None:
            self._first = self._chain.number
        self._appended += 1
