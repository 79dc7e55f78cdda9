"""A session directory: announces, hears, forgets. Sans-I/O (RFC 2974).

What is listed came out of the socket, our own announcements too. Everything in it is a hint: whose a session is, the
MSM finds out. What is done here is that nobody on the network can fill, empty or overwrite the list:

    one entry per source, origin and session, so that another source never replaces an entry
    versions (o=) only rise
    a session of ours is deleted only by the preimage of the hash in its signed text (a=mcsa-withdraw), others by a
    deletion from the same source with the same hash
    so many entries per source, so many in all; when full, the source with the most loses its oldest
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.keys import Random
from mcsa.sap.packet import SapPacket, address_for, parse_packet
from mcsa.sap.sdp import Sdp, parse_sdp

ENTRIES_PER_SOURCE = 128
ENTRIES = 2_000
BITS_PER_SECOND = 4_000  # all announcements of a scope together, RFC 2974 section 3.1
INTERVAL = 300.0  # seconds at least between announcements of one session, by the same
FORGET_AFTER = 3_600.0  # seconds at least after the last announcement, RFC 2974 section 4
FORGET_PERIODS = 10
WITHDRAWAL = "mcsa-withdraw"  # attribute: base64 of the SHA-256 of what deletes the session
DELETIONS = 3  # times that a deletion is said: it is not repaired


@dataclass(slots=True)
class Entry:
    """A session as it was heard. Times are seconds since 1970."""

    packet: SapPacket
    source: str
    sdp: Sdp
    first_heard_at: float
    last_heard_at: float
    interval: float = 0.0

    def expires_at(self, floor: float) -> float:
        """By its own end, or when nothing was heard for long."""
        silent_at = self.last_heard_at + max(floor, FORGET_PERIODS * self.interval)
        return min(silent_at, self.sdp.end) if self.sdp.end else silent_at


@dataclass(slots=True)
class _Own:
    packet: SapPacket
    address: str
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
        self._entries: dict[tuple[str, ...], Entry] = {}

    # ---- announcing

    def announce(self, sdp: bytes, now: float) -> tuple[int, list[Send]]:
        """Announces a description from now on; its hash. `Rejected` as `parse_sdp`."""
        parsed = parse_sdp(sdp)
        known = self._own.get(sdp)
        if known is not None:
            return known.packet.hash, []
        packet = SapPacket(self._origin, self._free_hash(sdp), sdp)
        own = self._own[sdp] = _Own(packet, address_for(parsed.media[0].address), now)
        return packet.hash, self._say(own, now)

    def withdraw(self, sdp: bytes, secret: bytes) -> list[Send]:
        """Stops announcing, and says so, with the preimage that makes others believe it."""
        own = self._own.pop(sdp, None)
        if own is None:
            return []
        origin_line = next(line for line in sdp.split(b"\r\n") if line.startswith(b"o="))
        payload = origin_line + b"\r\n" + f"a={WITHDRAWAL}:{secret.hex()}\r\n".encode()
        deletion = SapPacket(self._origin, own.packet.hash, payload, deletion=True)
        return [Send(own.address, deletion.encode())] * DELETIONS

    def due(self, now: float) -> list[Send]:
        """Announcements whose time has come; what has expired is forgotten."""
        for key, entry in list(self._entries.items()):
            if now >= entry.expires_at(self._forget_after):
                del self._entries[key]
        return [send for own in list(self._own.values()) if now >= own.at for send in self._say(own, now)]

    def wake_at(self) -> float | None:
        """When `due` is wanted."""
        times = [own.at for own in self._own.values()]
        times += [entry.expires_at(self._forget_after) for entry in self._entries.values()]
        return min(times, default=None)

    def _say(self, own: _Own, now: float) -> list[Send]:
        """The interval grows with the number of announcements, and is off by up to a third (RFC 2974 section 3.1)."""
        bits = 8 * sum(len(entry.packet.payload) for entry in self._entries.values())
        interval = max(self._interval, bits / BITS_PER_SECOND)
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
        """A datagram. Raises `Rejected` as `parse_packet` and `parse_sdp`, "stale" (an older version, or another text
        of the same), "deletion" (of what is not there, or not its announcer's), "expired"."""
        packet = parse_packet(raw)
        if packet.deletion:
            self._delete(packet, source)
            return
        sdp = parse_sdp(packet.payload)
        if sdp.end and sdp.end <= now:
            raise Rejected("expired", sdp.title[:40])
        key = _key(sdp, source, packet.origin)
        known = self._entries.get(key)
        if known is None:
            self._make_room(source)
            self._entries[key] = Entry(packet, source, sdp, now, now)
            return
        if packet.payload != known.packet.payload:
            if _version(sdp) <= _version(known.sdp):
                raise Rejected("stale", sdp.title[:40])
            self._entries[key] = Entry(packet, source, sdp, known.first_heard_at, now)
            return
        known.interval = now - known.last_heard_at
        known.last_heard_at = now

    def sessions(self, now: float) -> list[Entry]:
        """In the order of their first hearing."""
        return [entry for entry in self._entries.values() if now < entry.expires_at(self._forget_after)]

    def _delete(self, packet: SapPacket, source: str) -> None:
        for key, entry in list(self._entries.items()):
            if (entry.source, entry.packet.origin, entry.packet.hash) != (source, packet.origin, packet.hash):
                continue
            commitment = entry.sdp.attribute(WITHDRAWAL)
            if commitment is None or _opens(commitment, packet.payload):
                del self._entries[key]
                return
        raise Rejected("deletion", source)

    def _make_room(self, source: str) -> None:
        per_source = Counter(entry.source for entry in self._entries.values())
        if per_source[source] >= ENTRIES_PER_SOURCE:
            self._drop_oldest(lambda entry: entry.source == source)
        elif len(self._entries) >= ENTRIES:
            greediest = per_source.most_common(1)[0][0]
            self._drop_oldest(lambda entry: entry.source == greediest)

    def _drop_oldest(self, which: Callable[[Entry], bool]) -> None:
        """What was heard last longest ago; a flood's own entries, which are said once."""
        candidates = [key for key, entry in self._entries.items() if which(entry)]
        del self._entries[min(candidates, key=lambda key: self._entries[key].last_heard_at)]


def _key(sdp: Sdp, source: str, origin: str) -> tuple[str, ...]:
    """The session: o= without its version names it (RFC 8866 section 5.2), the source says who says so."""
    parts = sdp.origin.split()
    return (source, origin, *parts[:2], *parts[3:], sdp.attribute("mcsa") or "")


def _version(sdp: Sdp) -> int:
    try:
        return int(sdp.origin.split()[2])
    except (IndexError, ValueError):
        return 0


def _opens(commitment: str, payload: bytes) -> bool:
    """Whether a deletion has the preimage."""
    start = payload.find(f"a={WITHDRAWAL}:".encode())
    try:
        secret = bytes.fromhex(payload[start:].split(b":", 1)[1].split()[0].decode())
        return start >= 0 and base64.b64decode(commitment, validate=True) == hashlib.sha256(secret).digest()
    except (ValueError, IndexError, binascii.Error):
        return False
