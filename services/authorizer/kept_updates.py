"""The last updates of a group, for members that missed some. Sans-I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate

from mcsa.v1.authorizer_log_pb2 import KeptUpdate
from mcsa.v1.authorizer_pb2 import Beacon
from services.authorizer.room import REPAIR_SIZE

UPDATES_KEPT = 256  # who missed more registers again
BYTES_KEPT = 4 << 20  # of the same, in a protocol whose updates are long


class KeptUpdates:
    """By number, without gaps."""

    def __init__(self, updates: Sequence[KeptUpdate] = (), last: int = 0) -> None:
        """As they were written down; the last one is number `last`."""
        first = last - len(updates) + 1
        self._updates = deque(enumerate((_copy(kept) for kept in updates), first))
        self._size = sum(len(kept.sealed) for kept in updates)

    def add(self, number: int, epoch: int, sealed: bytes) -> None:
        """The next one, and the epoch after it."""
        self._updates.append((number, KeptUpdate(epoch=epoch, sealed=sealed)))
        self._size += len(sealed)
        while len(self._updates) > UPDATES_KEPT or (self._size > BYTES_KEPT and len(self._updates) > 1):
            self._size -= len(self._updates.popleft()[1].sealed)

    def since(self, number: int, told: int) -> list[bytes] | None:
        """Those after `number` up to `told`, in order, the first of them where they are too long for one answer; None
        where they are not all there."""
        missing = [kept.sealed for at, kept in self._updates if number < at <= told]
        if len(missing) != told - number:
            return None
        lengths = accumulate(map(len, missing))
        return missing[: max(1, sum(length <= REPAIR_SIZE for length in lengths))]

    def contradict(self, beacon: Beacon) -> bool:
        """The update that the beacon names led to another epoch than it says."""
        return any(number == beacon.update_number and kept.epoch != beacon.epoch for number, kept in self._updates)

    def pack(self) -> list[KeptUpdate]:
        """To be written down."""
        return [kept for _, kept in self._updates]


def _copy(kept: KeptUpdate) -> KeptUpdate:
    """By itself: a part of a message keeps all of it in memory, and a snapshot is long."""
    copy = KeptUpdate()
    copy.CopyFrom(kept)
    return copy
