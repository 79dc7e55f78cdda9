"""Processor cores that threads of the packet path are pinned to, where the operator asks for it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import cycle

from mcsa.errors import Refused


class Cores:
    """Deals them out in turn, one to each thread that asks. From any thread."""

    def __init__(self, wanted: Sequence[int] = ()) -> None:
        """None: no thread is pinned. `Refused` where this process may not use one of them."""
        missing = sorted(set(wanted) - _usable())
        if missing:
            there = ", ".join(map(str, sorted(_usable())))
            raise Refused("cores", "affinity", f"This process can't use core {missing[0]}. There are: {there}.")
        self._wanted = tuple(wanted)
        self._turns = cycle(wanted)
        self._change = threading.Lock()

    def pin(self) -> None:
        """The calling thread stays on its core from now on, and what it starts does too."""
        with self._change:
            core = next(self._turns, None)
        if core is not None:
            os.sched_setaffinity(0, {core})  # of the calling thread alone: sched_setaffinity(2)

    def beginning_with(self, turn: int) -> Cores:
        """The same ones, dealt out from another turn on: for the threads of another process."""
        first = turn % max(1, len(self._wanted))
        return Cores(self._wanted[first:] + self._wanted[:first])

    def __reduce__(self) -> tuple[type[Cores], tuple[Sequence[int]]]:
        return Cores, (self._wanted,)


def _usable() -> set[int]:
    return os.sched_getaffinity(os.getpid())
