"""Room for what others say: bounded in all and for each source, so that nobody's flood drowns anybody else.

Where it is full, what was heard only once goes first (a flood is said once, what lives is repeated), of that what
belongs to the source that has most, of that the oldest. Each step costs as much as there are sources, not entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class _Share(Generic[Key]):
    """Of one source: sizes of what was heard once, and of what was repeated, each the oldest first."""

    once: dict[Key, int] = field(default_factory=dict)
    repeated: dict[Key, int] = field(default_factory=dict)


class Room(Generic[Key]):
    """`size` bytes in all, `per_source` for one source."""

    def __init__(self, size: int, per_source: int) -> None:
        self._size, self._per_source = size, per_source
        self._shares: dict[str, _Share[Key]] = {}
        self._once: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()
        self.taken = 0

    def taken_by(self, source: str) -> int:
        """Bytes."""
        return self._taken[source]

    def put(self, key: Key, source: str, size: int, *, repeated: bool = False) -> list[Key]:
        """Takes it in; what had to go for it, which may be itself only where it alone is too large."""
        gone = list(self._make_way(source, size))
        share = self._shares.setdefault(source, _Share())
        (share.repeated if repeated else share.once)[key] = size
        self._once[source] += 0 if repeated else size
        self._taken[source] += size
        self.taken += size
        return gone

    def heard_again(self, key: Key, source: str) -> None:
        """It lives, and is the youngest."""
        share = self._shares[source]
        if key in share.once:
            self._once[source] -= share.once[key]
            share.repeated[key] = share.once.pop(key)
        else:
            share.repeated[key] = share.repeated.pop(key)

    def remove(self, key: Key, source: str) -> None:
        """It may not be there."""
        share = self._shares.get(source)
        if share is None:
            return
        if key in share.once:
            size = share.once.pop(key)
            self._once[source] -= size
        elif key in share.repeated:
            size = share.repeated.pop(key)
        else:
            return
        self._taken[source] -= size
        self.taken -= size
        if not share.once and not share.repeated:
            del self._shares[source], self._once[source], self._taken[source]

    def _make_way(self, source: str, wanted: int) -> Iterator[Key]:
        while self._shares.get(source) and self._taken[source] + wanted > self._per_source:
            yield self._drop(source)
        while self._shares and self.taken + wanted > self._size:
            greediest = max(self._once, key=self._once.__getitem__)
            yield self._drop(greediest if self._once[greediest] else max(self._taken, key=self._taken.__getitem__))

    def _drop(self, source: str) -> Key:
        share = self._shares[source]
        key = next(iter(share.once or share.repeated))
        self.remove(key, source)
        return key
