"""What was withdrawn, so that nobody brings it back by replaying it: commitments whose preimage was heard.

Anybody can announce and withdraw as much as he likes, also in another's name. So there is a bound for each source and
one in all, what goes first is what was announced for the shortest time, and own ones are apart from all others'.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PER_SOURCE = 512
IN_ALL = 8_192
OWN = 8_192  # of the hosts that announce through this directory: 192 at once at most


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A commitment; whose announcement it was, how long that had been heard (seconds), and whether it was our own."""

    commitment: str
    source: str
    lived_for: float
    own: bool = False


class Withdrawn:
    """See the module."""

    def __init__(self) -> None:
        self._own: dict[str, Withdrawal] = {}
        self._others: dict[str, Withdrawal] = {}
        self._count: Counter[str] = Counter()  # of each source
        self._all = _Shortest()
        self._by_source: dict[str, _Shortest] = {}

    def __contains__(self, commitment: object) -> bool:
        return commitment in self._own or commitment in self._others

    def __len__(self) -> int:
        return len(self._own) + len(self._others)

    def __iter__(self) -> Iterator[Withdrawal]:
        yield from self._own.values()
        yield from self._others.values()

    def add(self, withdrawal: Withdrawal) -> None:
        """Once more changes nothing."""
        if withdrawal.commitment in self:
            return
        if withdrawal.own:
            self._own[withdrawal.commitment] = withdrawal
            if len(self._own) > OWN:
                del self._own[next(iter(self._own))]
            return
        source = withdrawal.source
        self._others[withdrawal.commitment] = withdrawal
        self._count[source] += 1
        theirs = self._by_source.setdefault(source, _Shortest())
        theirs.push(withdrawal, self._others, self._count[source])
        self._all.push(withdrawal, self._others, len(self._others))
        if self._count[source] > PER_SOURCE:
            self._drop(theirs)
        elif len(self._others) > IN_ALL:
            self._drop(self._all)

    def _drop(self, shortest: _Shortest) -> None:
        withdrawal = shortest.pop(self._others)
        del self._others[withdrawal.commitment]
        source = withdrawal.source
        self._count[source] -= 1
        if not self._count[source]:
            del self._count[source], self._by_source[source]


class _Shortest:
    """The ones that were announced for the shortest time first; of those the oldest."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Withdrawal]] = []
        self._next = 0

    def push(self, withdrawal: Withdrawal, kept: Mapping[str, Withdrawal], live: int) -> None:
        """`live` of those here are kept; the others are cleared away when they are too many."""
        self._next += 1
        heapq.heappush(self._heap, (withdrawal.lived_for, self._next, withdrawal))
        if len(self._heap) > 2 * live + 64:
            self._heap = [each for each in self._heap if kept.get(each[2].commitment) is each[2]]
            heapq.heapify(self._heap)

    def pop(self, kept: Mapping[str, Withdrawal]) -> Withdrawal:
        """The first that is kept still: what went by the other order is passed over."""
        while True:
            withdrawal = heapq.heappop(self._heap)[2]
            if kept.get(withdrawal.commitment) is withdrawal:
                return withdrawal
