"""Updates on their groups' multicast: a few datagrams at a time, each update three times. Sans-I/O.

What is too much for the multicast goes over the bus alone, and is counted:

- "multicast.too-large": an update above `UPDATE_MAX`, 256 KiB. That much takes 145 ms at this pace, so that all three
  times are over within the half second for which members hold packets of an epoch that they have still to learn of
  (`services/msm/path.py`); where the network loses one datagram in a hundred, a member misses one such update in 4,000.
- "multicast.behind": one of a group that changes faster than this pace tells.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from mcsa.endpoint import Count
from mcsa.update_parts import PARTS_MAX, UPDATE_MAX, split_update
from services.authorizer.events import SendToGroup

SENT_AFTER = (0.0, 0.05, 0.15)  # seconds after the update
AT_ONCE = 8  # datagrams of a group: 10 kB, which the buffers of switches and receivers take
PAUSE = 0.005  # seconds until the next so many: 16 Mbit/s at most
WAITING_MAX = 4 * len(SENT_AFTER) * PARTS_MAX  # datagrams of a group


@dataclass(slots=True)
class _Sending:
    """All of an update, once."""

    at: float
    epoch: int
    datagrams: tuple[bytes, ...]
    sent: int = 0


@dataclass(slots=True)
class _Line:
    """What a group has still to be sent, in the order in which it is due."""

    sendings: list[_Sending] = field(default_factory=list)
    free_at: float = 0.0

    @property
    def waiting(self) -> int:
        return sum(len(sending.datagrams) - sending.sent for sending in self.sendings)

    @property
    def next_at(self) -> float:
        return max(self.free_at, self.sendings[0].at)

    def take(self, now: float) -> list[tuple[int, bytes]]:
        """The next few datagrams that are due, each with its epoch."""
        taken: list[tuple[int, bytes]] = []
        while self.sendings and now >= self.sendings[0].at and len(taken) < AT_ONCE:
            first = self.sendings[0]
            few = first.datagrams[first.sent : first.sent + AT_ONCE - len(taken)]
            taken += [(first.epoch, datagram) for datagram in few]
            first.sent += len(few)
            if first.sent == len(first.datagrams):
                del self.sendings[0]
        self.free_at = now + PAUSE
        return taken


class PacedUpdates:
    """See the module."""

    def __init__(self) -> None:
        self._lines: dict[bytes, _Line] = {}

    def begin(self, group_id: bytes, epoch: int, number: int, sealed: bytes, now: float) -> list[Any]:
        """An update, sealed in this epoch, is to be sent; its first datagrams at once, unless others are before it."""
        line = self._lines.setdefault(group_id, _Line())
        if len(sealed) > UPDATE_MAX:
            return [Count("multicast.too-large")]
        if line.waiting >= WAITING_MAX:
            return [Count("multicast.behind")]
        datagrams = split_update(number, sealed)
        for after in SENT_AFTER:
            insort(line.sendings, _Sending(now + after, epoch, datagrams), key=attrgetter("at"))
        return self.woken(now)

    def end(self, group_id: bytes) -> None:
        """A group is sent nothing more."""
        self._lines.pop(group_id, None)

    def pending(self, group_id: bytes, epoch: int) -> bool:
        """Whether something is still to be sent under this epoch."""
        line = self._lines.get(group_id)
        return line is not None and any(sending.epoch == epoch for sending in line.sendings)

    def woken(self, now: float) -> list[Any]:
        """What is due."""
        due = [(group_id, line) for group_id, line in self._lines.items() if line.sendings and now >= line.next_at]
        return [SendToGroup(group_id, *datagram) for group_id, line in due for datagram in line.take(now)]

    def wake_at(self) -> float | None:
        """When `woken` is wanted."""
        return min((line.next_at for line in self._lines.values() if line.sendings), default=None)
