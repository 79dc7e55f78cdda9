"""Packets that were not their sender's, as this host's CSM and operators are shown them.

What such a packet proves: somebody who holds the group key of its epoch made it. That is any member, and the
Authorizer, and whoever shows it; it doesn't say which. It is for people who look for the intruder with other means:
when, from which address as the network says, in whose name, by which relaying agent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mcsa.membership import Membership
from mcsa.v1.msm_pb2 import SourceForgery
from services.msm.events import SourceForged

KEPT = 16  # of each group
KEPT_BYTES = 128 << 10  # of all groups together: an answer with all of them has to fit into an envelope


class Forgeries:
    """The last ones, each with the id of the group that was asked for. The oldest goes for the newest."""

    def __init__(self) -> None:
        self._kept: deque[tuple[bytes, SourceForgery]] = deque()

    def take(self, event: SourceForged, membership: Membership, now: float) -> SourceForgery:
        """One more, with what the roster says of those it names."""
        claimed, relay = membership.roster.get(event.origin.sender_id), membership.roster.get(event.relay or 0)
        forgery = SourceForgery(
            sender_id=event.origin.sender_id,
            host="" if claimed is None else claimed.host,
            epoch=event.origin.epoch,
            sequence=event.origin.sequence,
            cause=event.cause,
            source=event.source,
            relay="" if event.relay is None or relay is None else relay.host,
            packet=event.packet,
            time_ms=round(now * 1000),
        )
        asked_id = membership.asked.group_id
        self._kept.append((asked_id, forgery))
        if len(self.of(asked_id)) > KEPT:
            self._kept.remove((asked_id, self.of(asked_id)[0]))
        while sum(each.ByteSize() for _, each in self._kept) > KEPT_BYTES:
            self._kept.popleft()
        return forgery

    def of(self, asked_id: bytes) -> Sequence[SourceForgery]:
        """The oldest first."""
        return [forgery for group_id, forgery in self._kept if group_id == asked_id]

    def forget(self, asked_id: bytes) -> None:
        """This host has left."""
        self._kept = deque(each for each in self._kept if each[0] != asked_id)


def remark(forgery: SourceForgery) -> str:
    """For people."""
    whose = forgery.host or f"sender {forgery.sender_id}"
    by = f", by the relaying agent {forgery.relay}" if forgery.relay else ""
    return f"a member sent in the name of {whose}, from {forgery.source}{by}: {forgery.cause}; it was dropped"
