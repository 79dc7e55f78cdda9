"""What a session directory has heard (RFC 2974, sections 4 and 5). Sans-I/O.

A source address can be forged, so every rule here asks what a forger gains:

    one entry per source, origin and session: another source never replaces an entry
    a session with a commitment in its text (a=mcsa-withdraw; all of ours have one) is never replaced at all. Another
    text is another entry, as section 5 of the RFC has it where nothing can be verified; the MSM finds out which one
    the Coordinator signed
    such a session is deleted only by the preimage of its commitment, and then for good: nobody brings it back by
    replaying it. This is our signed deletion: the commitment is inside what the Coordinator signed, so whoever has
    the preimage speaks for whoever signed, and the directory needs no user's certificate to see it
    of the sessions without, versions (o=) only rise, and a deletion comes from the same source with the same hash
    others' texts have so much room, each source a part of it; what was heard only once goes first, then what belongs to
    the source that has most
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.sap.packet import SapPacket
from mcsa.sap.sdp import Sdp

ROOM = 256 * 1024  # bytes of others' entries: with ours, a list is one envelope (mcsa.envelope.MAX_SIZE)
ROOM_PER_SOURCE = ROOM // 4
ENTRY_OVERHEAD = 128  # bytes around a text in a list: addresses, hash, times
FORGET_PERIODS = 10  # RFC 2974, section 4
WITHDRAWAL = "mcsa-withdraw"  # attribute: base64 of the SHA-256 of what deletes the session
WITHDRAWN_KEPT = 1_000

Key = tuple[str, ...]


@dataclass(slots=True)
class Entry:
    """A session as it was heard. Times are seconds since 1970; `interval` is 0 until it was heard twice."""

    packet: SapPacket
    source: str
    sdp: Sdp
    first_heard_at: float
    last_heard_at: float
    interval: float = 0.0
    repeated: bool = False

    @property
    def size(self) -> int:
        """Bytes in a list, at most."""
        return len(self.packet.payload) + ENTRY_OVERHEAD

    def expires_at(self, floor: float) -> float:
        """By its own end, or when nothing was heard for long."""
        silent_at = self.last_heard_at + max(floor, FORGET_PERIODS * self.interval)
        return min(silent_at, self.sdp.end) if self.sdp.end else silent_at


class Cache:
    """See the module. What `is_own` says is ours is never dropped for others' sake."""

    def __init__(self, forget_after: float, is_own: Callable[[Entry], bool]) -> None:
        self._forget_after = forget_after
        self._is_own = is_own
        self._entries: dict[Key, Entry] = {}
        self._withdrawn: dict[str, None] = {}  # commitments, oldest first

    def hear(self, packet: SapPacket, sdp: Sdp, source: str, now: float) -> None:
        """An announcement. Raises `Rejected`: "expired", "withdrawn", "stale" (an older version, or another text of
        the same)."""
        if sdp.end and sdp.end <= now:
            raise Rejected("expired", sdp.title[:40])
        if self.is_withdrawn(sdp):
            raise Rejected("withdrawn", sdp.title[:40])
        key = _key(packet, sdp, source)
        known = self._entries.get(key)
        if known is None:
            self._keep(key, Entry(packet, source, sdp, now, now))
        elif packet.payload != known.packet.payload:
            if _version(sdp) <= _version(known.sdp):
                raise Rejected("stale", sdp.title[:40])
            del self._entries[key]
            self._keep(key, Entry(packet, source, sdp, known.first_heard_at, now, repeated=known.repeated))
        else:
            known.interval, known.last_heard_at, known.repeated = now - known.last_heard_at, now, True

    def delete(self, packet: SapPacket, source: str) -> None:
        """A deletion. Raises `Rejected("deletion")`: of what is not there, or not its announcer's."""
        opened = _opened(packet.payload)
        announcer = (source, packet.origin, packet.hash)
        deleted = False
        for key, entry in list(self._entries.items()):
            commitment = entry.sdp.attribute(WITHDRAWAL)
            if commitment is None:
                meant = (entry.source, entry.packet.origin, entry.packet.hash) == announcer
            else:  # whatever the header says: a forger may have been the first to say this text, under another hash
                meant = commitment == opened
            if meant:
                deleted = True
                self._entries.pop(key, None)
                self._withdraw(commitment)
        if not deleted:
            raise Rejected("deletion", source)

    def is_withdrawn(self, sdp: Sdp) -> bool:
        """Whether the preimage of its commitment has been heard."""
        return sdp.attribute(WITHDRAWAL) in self._withdrawn

    def expire(self, now: float) -> None:
        """What has expired is forgotten."""
        self._entries = {
            key: entry for key, entry in self._entries.items() if now < entry.expires_at(self._forget_after)
        }

    def expires_at(self) -> float | None:
        """When `expire` is wanted."""
        return min((entry.expires_at(self._forget_after) for entry in self._entries.values()), default=None)

    def sessions(self, now: float) -> list[Entry]:
        """In the order of their first hearing."""
        kept = (entry for entry in self._entries.values() if now < entry.expires_at(self._forget_after))
        return sorted(kept, key=lambda entry: entry.first_heard_at)

    def bits(self) -> int:
        """Of all texts together."""
        return 8 * sum(len(entry.packet.payload) for entry in self._entries.values())

    def _withdraw(self, commitment: str | None) -> None:
        if commitment is None:
            return
        self._withdrawn[commitment] = None
        if len(self._withdrawn) > WITHDRAWN_KEPT:
            del self._withdrawn[next(iter(self._withdrawn))]
        # Copies that others made of it say that they are withdrawn, too.
        self._entries = {key: entry for key, entry in self._entries.items() if not self.is_withdrawn(entry.sdp)}

    # ---- room

    def _keep(self, key: Key, new: Entry) -> None:
        wanted = 0 if self._is_own(new) else new.size  # what was ours and is not any more counts as others', too
        others = {key: entry for key, entry in self._entries.items() if not self._is_own(entry)}
        if wanted:
            same = {key: entry for key, entry in others.items() if entry.source == new.source}
            self._drop(same, wanted, ROOM_PER_SOURCE)
        self._drop({key: entry for key, entry in others.items() if key in self._entries}, wanted, ROOM)
        self._entries[key] = new

    def _drop(self, candidates: dict[Key, Entry], wanted: int, room: int) -> None:
        taken = wanted + _taken(candidates.values())
        while taken > room:
            key = _least_useful(candidates)
            taken -= candidates.pop(key).size
            del self._entries[key]


def _taken(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)


def _least_useful(candidates: dict[Key, Entry]) -> Key:
    """Of what was heard once, of the source that has most of it, the oldest. A flood is said once; what lives is
    repeated."""
    once = {key: entry for key, entry in candidates.items() if not entry.repeated} or candidates
    share: Counter[str] = Counter()
    for entry in once.values():
        share[entry.source] += entry.size
    greediest = share.most_common(1)[0][0]
    return min(
        (key for key, entry in once.items() if entry.source == greediest), key=lambda key: once[key].last_heard_at
    )


def _key(packet: SapPacket, sdp: Sdp, source: str) -> Key:
    """The session: o= without its version names it (RFC 8866, section 5.2), the source says who says so."""
    parts = sdp.origin.split()
    which = ""
    if sdp.attribute(WITHDRAWAL) is not None:
        which = hashlib.sha256(packet.payload).hexdigest()
    elif parts[1:3] == ["0", "0"]:  # ffmpeg's, whatever the session: only its hash tells them apart
        which = str(packet.hash)
    return (source, packet.origin, *parts[:2], *parts[3:], which)


def _version(sdp: Sdp) -> int:
    try:
        return int(sdp.origin.split()[2])
    except (IndexError, ValueError):
        return 0


def _opened(payload: bytes) -> str | None:
    """The commitment whose preimage a deletion has."""
    _, _, rest = payload.partition(f"a={WITHDRAWAL}:".encode())
    try:
        secret = bytes.fromhex(rest.split()[0].decode())
    except (ValueError, IndexError):
        return None
    return base64.b64encode(hashlib.sha256(secret).digest()).decode()
