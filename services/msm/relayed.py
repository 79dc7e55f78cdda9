"""Packets that a relaying agent brought into a group: what they have to pass beside what every packet has to."""

from __future__ import annotations

from mcsa.errors import Rejected
from mcsa.esp.origins import OriginWindows
from mcsa.esp.relayed import Origin, parse_relayed
from mcsa.updates import PORT as UPDATE_PORT
from services.msm.events import SetRoster


class RelayedPackets:
    """Finds the origin, once for each packet. One thread's.

    =====================  ==========================================================================
    `relayed-malformed`    no origin in front
    `relayed-local`        the origin is a sender of this very group: it is heard directly, or not at all
    `relayed-unknown`      the origin is no sender of any subgroup: it has left, was thrown out, or never was
    `relayed-update`       for the update port: updates and beacons are each group's own
    `relayed-replay`       seen before, by whatever agent, or older than the origin's window
    =====================  ==========================================================================
    """

    def __init__(self, window: int) -> None:
        self._windows = OriginWindows(window)

    def open(self, inside: bytes, destination_port: int, roster: SetRoster) -> tuple[Origin, bytes]:
        """The origin and its payload, of what an agent sealed into this group; `Rejected` with one of the causes."""
        origin, payload = self.look_at(inside, destination_port, roster)
        self.strike_out(origin)
        return origin, payload

    def look_at(self, inside: bytes, destination_port: int, roster: SetRoster) -> tuple[Origin, bytes]:
        """The same, but nothing is remembered before `strike_out`, so that its source can be authenticated first."""
        origin, payload = parse_relayed(inside)
        if origin.sender_id in roster.addresses:
            raise Rejected("relayed-local")
        if origin.sender_id not in roster.distant:
            raise Rejected("relayed-unknown")
        if destination_port == UPDATE_PORT:
            raise Rejected("relayed-update")
        if not self._windows.is_fresh(origin):
            raise Rejected("relayed-replay")
        return origin, payload

    def strike_out(self, origin: Origin) -> bool:
        """Its source is proved. False where it came by another way meanwhile."""
        if not self._windows.is_fresh(origin):
            return False
        self._windows.strike_out(origin)
        return True
