"""Packets that a relaying agent brought into a group: what they have to pass beside what every packet has to."""

from __future__ import annotations

from collections.abc import Container

from mcsa.errors import Rejected
from mcsa.esp.origins import OriginWindows
from mcsa.esp.relayed import Origin, parse_relayed
from mcsa.updates import PORT as UPDATE_PORT


class RelayedPackets:
    """Finds the origin, once for each packet. One thread's.

    =====================  ==========================================================================
    `relayed-malformed`    no origin in front
    `relayed-local`        the origin is a sender of this very group: it is heard directly, or not at all
    `relayed-update`       for the update port: updates and beacons are each group's own
    `relayed-replay`       seen before, by whatever agent, or older than the origin's window
    =====================  ==========================================================================
    """

    def __init__(self, window: int) -> None:
        self._windows = OriginWindows(window)

    def open(self, inside: bytes, destination_port: int, senders: Container[int]) -> tuple[Origin, bytes]:
        """The origin and its payload, of what an agent sealed; `Rejected` with one of the causes.

        `senders` are the sender IDs of this group.
        """
        origin, payload = parse_relayed(inside)
        if origin.sender_id in senders:
            raise Rejected("relayed-local")
        if destination_port == UPDATE_PORT:
            raise Rejected("relayed-update")
        if not self._windows.is_fresh(origin):
            raise Rejected("relayed-replay")
        self._windows.strike_out(origin)
        return origin, payload
