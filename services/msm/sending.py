"""What one sender ID of ours sends into a group: its association, from epoch to epoch, and what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from mcsa.esp.checksum import InnerChecksum
from mcsa.esp.derive import TrafficKey
from mcsa.esp.outbound import OutboundAssociation, SealedBatch, SequenceExhausted
from mcsa.esp.relayed import Origin


class _Current(NamedTuple):
    sender_id: int
    epoch: int
    association: OutboundAssociation


class Numbered(NamedTuple):
    """A packet, and by which numbers others know it."""

    packet: bytes
    sender_id: int
    epoch: int
    sequence: int


class Sending:
    """Seals nothing before the first `switch`, and nothing while it is `paused`.

    Counts in `counters`, which others share, under its name: `sent`, and `unsent` by cause. One thread seals; another
    may switch and pause meanwhile, since what changes is replaced whole.
    """

    def __init__(self, counters: Counter[str], name: str = "") -> None:
        self._counters = counters
        self._prefix = f"{name}-" if name else ""
        self._current: _Current | None = None
        self._low_told = False
        self.paused = False
        self.switched: set[tuple[int, int]] = set()

    def switch(self, epoch: int, sender_id: int, key: TrafficKey, checksum: InnerChecksum | None = None) -> None:
        """Seals under this key from now on; `ValueError` where it ever did before, since its numbers would repeat."""
        if (epoch, sender_id) in self.switched:
            raise ValueError("an outbound association is installed once, never again")
        self.switched.add((epoch, sender_id))
        self._current = _Current(sender_id, epoch, OutboundAssociation(key, checksum))
        self.paused = self._low_told = False

    def seal(self, payload: bytes, source_port: int, destination_port: int) -> Numbered | None:
        """The ESP packet, or None where nothing may be sent now; counted either way."""
        current = self._ready(1)
        if current is None:
            return None
        try:
            packet = current.association.seal(payload, source_port, destination_port)
        except SequenceExhausted:
            self._count("unsent.exhausted")
            return None
        self._count("sent")
        return Numbered(packet, current.sender_id, current.epoch, int.from_bytes(packet[4:8], "big"))

    def seal_batches(self, payloads: Sequence[bytes], source_port: int, destination_port: int) -> Iterator[SealedBatch]:
        """Many at once, in as few batches as their sizes allow; send each before asking for the next."""
        current = self._ready(len(payloads))
        if current is None:
            return
        try:
            yield from current.association.seal_batches(payloads, source_port, destination_port)
        except SequenceExhausted:
            self._count("unsent.exhausted", len(payloads))
            return
        self._count("sent", len(payloads))

    def seal_numbered(
        self, amount: int, sender_id: int, inside: Callable[[Sequence[Origin]], Sequence[tuple[bytes, int, int]]]
    ) -> Iterator[tuple[Origin, SealedBatch]]:
        """What has to know its numbers (`OutboundAssociation.seal_numbered`), if that is who is sending; else nothing:
        a source's key is its sender ID's alone. Each batch comes after its first packet's numbers."""
        current = self._ready(amount)
        if current is None:
            return
        if current.sender_id != sender_id:
            self._count("unsent.source", amount)
            return
        name, seal = (current.sender_id, current.epoch), current.association.seal_numbered
        try:
            for first, batch in seal(amount, lambda numbers: inside([Origin(*name, number) for number in numbers])):
                yield Origin(*name, first), batch
        except SequenceExhausted:
            self._count("unsent.exhausted", amount)
            return
        self._count("sent", amount)

    def runs_low(self) -> bool:
        """True once for each association whose sequence numbers run out."""
        if self._current is None or self._low_told or not self._current.association.nearly_exhausted:
            return False
        self._low_told = True
        return True

    def _ready(self, amount: int) -> _Current | None:
        if self._current is None or self.paused:
            self._count("unsent.paused", amount)
            return None
        return self._current

    def _count(self, cause: str, amount: int = 1) -> None:
        self._counters[self._prefix + cause] += amount
