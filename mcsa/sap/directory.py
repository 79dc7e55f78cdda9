"""A session directory: announces, hears, forgets. Sans-I/O (RFC 2974).

What is listed came out of the socket, our own announcements too. Everything in it is a hint: whose a session is, the
MSM finds out. What is believed, and that nobody on the network can fill, empty or overwrite the list: `cache.py`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.keys import Random
from mcsa.sap.cache import FORGET_PERIODS, WITHDRAWAL, Cache, Entry
from mcsa.sap.packet import SapPacket, address_for, parse_packet
from mcsa.sap.sdp import parse_sdp

BITS_PER_SECOND = 4_000  # all announcements of a scope together, RFC 2974 section 3.1
INTERVAL = 300.0  # seconds at least between announcements of one session, by the same
FORGET_AFTER = 3_600.0  # seconds at least after the last announcement, RFC 2974 section 4
DELETIONS = 3  # times that a deletion is said: it is not repaired


@dataclass(slots=True)
class _Own:
    packet: SapPacket
    address: str
    ends_at: float
    at: float


@dataclass(frozen=True, slots=True)
class Send:
    """A SAP packet for one of the SAP addresses."""

    address: str
    payload: bytes


class Directory:
    """See the module. `origin` is the own address; `interval` and `forget_after` are the RFC's floors, or shorter
    ones of a network that is ours."""

    def __init__(
        self, origin: str, random: Random, interval: float = INTERVAL, forget_after: float = FORGET_AFTER
    ) -> None:
        self._origin = origin
        self._random = random
        self._interval = interval
        self._forget_after = forget_after
        self._own: dict[bytes, _Own] = {}
        self._cache = Cache(forget_after, self._is_own)

    # ---- announcing

    def announce(self, sdp: bytes, now: float) -> tuple[int, list[Send]]:
        """Announces a description from now on to its end; its hash. `Rejected` as `parse_sdp`, "expired",
        "withdrawn"."""
        parsed = parse_sdp(sdp)
        if parsed.end and parsed.end <= now:
            raise Rejected("expired", parsed.title[:40])
        if self._cache.is_withdrawn(parsed):
            raise Rejected("withdrawn", parsed.title[:40])
        known = self._own.get(sdp)
        if known is not None:
            return known.packet.hash, []
        packet = SapPacket(self._origin, self._free_hash(sdp), sdp)
        own = self._own[sdp] = _Own(packet, address_for(parsed.media[0].address), parsed.end or math.inf, now)
        return packet.hash, self._say(own, now)

    def withdraw(self, sdp: bytes, secret: bytes) -> list[Send]:
        """Stops announcing, and says so, with the preimage that makes others believe it."""
        own = self._own.pop(sdp, None)
        if own is None:
            return []
        payload = f"o={parse_sdp(sdp).origin}\r\na={WITHDRAWAL}:{secret.hex()}\r\n".encode()
        deletion = SapPacket(self._origin, own.packet.hash, payload, deletion=True)
        return [Send(own.address, deletion.encode())] * DELETIONS

    def announces(self, sdp: bytes) -> bool:
        """Whether this is announced still."""
        return sdp in self._own

    def due(self, now: float) -> list[Send]:
        """Announcements whose time has come; what has ended or expired is forgotten."""
        self._cache.expire(now)
        self._own = {sdp: own for sdp, own in self._own.items() if now < own.ends_at}
        return [send for own in self._own.values() if now >= own.at for send in self._say(own, now)]

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        times = [min(own.at, own.ends_at) for own in self._own.values()]
        expires_at = self._cache.expires_at()
        return min(times if expires_at is None else [*times, expires_at], default=None)

    def _say(self, own: _Own, now: float) -> list[Send]:
        """The interval grows with the number of announcements, and is off by up to a third (RFC 2974 section 3.1)."""
        # A flood makes it longer too, but never so long that listeners like us would forget ours.
        longest = self._forget_after / FORGET_PERIODS
        interval = max(self._interval, min(self._cache.bits() / BITS_PER_SECOND, longest))
        own.at = now + interval * (2 / 3 + 2 / 3 * int.from_bytes(self._random(2), "big") / 65_536)
        return [Send(own.address, own.packet.encode())]

    def _free_hash(self, sdp: bytes) -> int:
        """Never 0, changes with the text, and no two sessions of ours share one (RFC 2974 section 6)."""
        taken = {own.packet.hash for own in self._own.values()} | {0}
        value = int.from_bytes(hashlib.sha256(sdp).digest()[:2], "big")
        while value in taken:
            value = (value + 1) % 65_536
        return value

    # ---- hearing

    def arrived(self, raw: bytes, source: str, now: float) -> None:
        """A datagram. Raises `Rejected` as `parse_packet`, `parse_sdp`, `Cache.hear` and `Cache.delete`."""
        packet = parse_packet(raw)
        if packet.deletion:
            self._cache.delete(packet, source)
        else:
            self._cache.hear(packet, parse_sdp(packet.payload), source, now)

    def sessions(self, now: float) -> list[Entry]:
        """In the order of their first hearing."""
        return self._cache.sessions(now)

    def _is_own(self, entry: Entry) -> bool:
        """One entry for each of ours: as it was sent from here."""
        own = self._own.get(entry.packet.payload)
        return own is not None and entry.source == self._origin and entry.packet == own.packet
