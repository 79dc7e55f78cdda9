"""Packets of an epoch that may come: kept for a moment, since an ejection switches senders at once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

HOLD_FOR = 0.5  # seconds
HELD_AT_ONCE = 512
HELD_BYTES = 1 << 20  # of all held packets together: who holds no key may have sent them


@dataclass(frozen=True, slots=True)
class Held:
    """A packet as it came."""

    datagram: bytes
    source: str
    until: float


class HeldPackets:
    """Where there are too many the oldest goes. What goes unopened is counted: `held-too-long`, `held-too-many`."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._held: deque[Held] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held)

    def hold(self, datagram: bytes, source: str, now: float) -> None:
        """One more."""
        self.put_back(Held(datagram, source, now + HOLD_FOR))
        while self._held[0].until < now:
            self._let_go("held-too-long")
        while len(self._held) > HELD_AT_ONCE or self._bytes > HELD_BYTES:
            self._let_go("held-too-many")

    def put_back(self, packet: Held) -> None:
        """One that was taken, and whose epoch hasn't come yet."""
        self._held.append(packet)
        self._bytes += len(packet.datagram)

    def take(self, now: float) -> list[Held]:
        """All that are not too old, out of here."""
        while self._held and self._held[0].until < now:
            self._let_go("held-too-long")
        taken = list(self._held)
        self._held.clear()
        self._bytes = 0
        return taken

    def _let_go(self, cause: str) -> None:
        self._bytes -= len(self._held.popleft().datagram)
        self._counters[cause] += 1
