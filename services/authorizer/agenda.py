"""What is due when. Sans-I/O; what comes next is found without looking at all that comes later."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_SPARE = 64  # entries of times that don't hold any more, before they are cleared away


class Agenda(Generic[_K]):
    """One time for each of many things."""

    def __init__(self) -> None:
        self._times: dict[_K, float] = {}
        self._heap: list[tuple[float, int, _K]] = []
        self._numbers = itertools.count()  # what has the same time comes in the order in which it was set

    def set(self, what: _K, at: float) -> None:
        """From now on at this time."""
        if self._times.get(what) == at:
            return
        self._times[what] = at
        heapq.heappush(self._heap, (at, next(self._numbers), what))
        if len(self._heap) > 2 * len(self._times) + _SPARE:
            self._heap = [entry for entry in self._heap if self._holds(entry)]
            heapq.heapify(self._heap)

    def remove(self, what: _K) -> None:
        """Not at all, where it was to be."""
        self._times.pop(what, None)

    def due(self, now: float) -> list[_K]:
        """What was to be by now, in order; it isn't on the agenda any more."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if self._holds(entry):
                del self._times[entry[2]]
                found.append(entry[2])
        return found

    def next_at(self) -> float | None:
        """When something will be due."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _holds(self, entry: tuple[float, int, _K]) -> bool:
        return self._times.get(entry[2]) == entry[0]
