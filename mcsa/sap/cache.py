"""What a session directory has heard (RFC 2974, sections 4 and 5). Sans-I/O.

A source address can be forged, so every rule here asks what a forger gains:

    one entry per source, origin and session: another source never replaces an entry
    a session with a commitment in its text (a=mcsa-withdraw; all of ours have one) is never replaced at all. Another
    text is another entry, as section 5 of the RFC has it where nothing can be verified; the MSM finds out which one
    the Coordinator signed
    such a session is deleted only by the preimage of its commitment, and then for good: nobody brings it back by
    replaying it. This is our signed deletion: the commitment is inside what the Coordinator signed, so whoever has
    the preimage speaks for whoever signed, and the directory needs no user's certificate to see it
    one with a SAP authentication header, which nobody here can check, is neither replaced nor deleted either: it ends
    of the sessions without, versions (o=) only rise, and a deletion comes from the same source with the same hash
    others' texts have so much room, each source a part of it (`room.py`)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from typing import TypeVar

from mcsa.errors import Rejected
from mcsa.sap.entry import FORGET_PERIODS, WITHDRAWAL, Announcer, Entry, Key, opened_commitment
from mcsa.sap.packet import SapPacket
from mcsa.sap.room import Room
from mcsa.sap.sdp import Sdp, canonical
from mcsa.sap.withdrawn import Withdrawal, Withdrawn

ROOM = 256 * 1024  # bytes of others' entries: with ours, a list is one envelope (mcsa.envelope.MAX_SIZE)
ROOM_PER_SOURCE = ROOM // 4
Name = TypeVar("Name", bound=Hashable)

__all__ = ["FORGET_PERIODS", "ROOM", "ROOM_PER_SOURCE", "Cache"]


class Cache:
    """See the module. What `is_own` says is ours is never dropped for others' sake."""

    def __init__(self, forget_after: float, is_own: Callable[[SapPacket, str], bool]) -> None:
        self._forget_after = forget_after
        self._is_own = is_own
        self._entries: dict[Key, Entry] = {}
        self._datagrams: dict[tuple[str, bytes], Entry] = {}
        self._committed: dict[str, set[Key]] = {}
        self._announced: dict[Announcer, set[Key]] = {}
        self._by_group: Counter[str] = Counter()
        self._room: Room[Key] = Room(ROOM, ROOM_PER_SOURCE)
        self._expires_at = math.inf  # or later: what is heard again lives longer
        self.withdrawn = Withdrawn()

    # ---- hearing

    def hear_again(self, datagram: bytes, source: str, group: str, now: float) -> bool:
        """Whether this very datagram is known: then it has been heard again, and nothing else need be looked at."""
        entry = self._datagrams.get((source, datagram))
        if entry is None or now >= entry.expires_at(self._forget_after):
            return False
        self._refresh(entry, group, now)
        return True

    def hear(self, entry: Entry, now: float) -> None:
        """An announcement. Raises `Rejected`: "expired", "withdrawn", "stale" (an older version, or another text of
        the same)."""
        sdp = entry.sdp
        if entry.ends_at and entry.ends_at <= now:
            raise Rejected("expired", sdp.title[:40])
        if entry.commitment in self.withdrawn:
            raise Rejected("withdrawn", sdp.title[:40])
        key = entry.key
        known = self._entries.get(key)
        if known is not None and now >= known.expires_at(self._forget_after):
            self._remove(key)
            known = None
        if known is None:
            self._keep(key, entry)
        elif canonical(entry.packet.payload) == canonical(known.packet.payload):
            self._same(known, entry, now)
        else:
            self._modify(key, known, entry)

    def _same(self, known: Entry, entry: Entry, now: float) -> None:
        """The same text in another datagram: another hash, or other line ends."""
        (group,) = entry.groups
        self._refresh(known, group, now)

    def _modify(self, key: Key, known: Entry, entry: Entry) -> None:
        """RFC 2974 section 5: by the same host, and a hash that has changed where the version hasn't."""
        older = entry.sdp.version < known.sdp.version
        same = entry.sdp.version == known.sdp.version and entry.packet.hash == known.packet.hash
        if older or same:
            raise Rejected("stale", entry.sdp.title[:40])
        entry.first_heard_at, entry.repeated = known.first_heard_at, known.repeated
        self._remove(key)
        self._keep(key, entry)

    def _refresh(self, entry: Entry, group: str, now: float) -> None:
        if group not in entry.groups:
            self._by_group[group] += 1
        entry.heard_again(group, now)
        if not entry.own and entry.repeated:
            self._room.heard_again(entry.key, entry.source)

    # ---- deletion

    def delete(self, packet: SapPacket, source: str) -> None:
        """A deletion. Raises `Rejected("deletion")`: of what is not there, or not its announcer's.

        Of a session with a commitment the header says nothing: a forger may have been the first to say this text, under
        another hash.
        """
        opened = opened_commitment(packet.payload)
        if opened is not None and opened in self._committed:
            self.withdraw(opened)
            return
        announcer = (source, packet.origin, packet.hash)
        keys = [key for key in self._announced.get(announcer, ()) if _is_plain(self._entries[key])]
        if not keys:
            raise Rejected("deletion", source)
        for key in keys:
            self._remove(key)

    def withdraw(self, commitment: str, own_source: str = "") -> None:
        """Its preimage is known. Copies that others made of the session say that they are withdrawn, too. `own_source`
        where it was announced from here."""
        entries = [self._entries[key] for key in self._committed.get(commitment, ())]
        if own_source:
            self.withdrawn.add(Withdrawal(commitment, own_source, 0.0, own=True))
        elif entries:
            first = min(entries, key=lambda entry: (not entry.own, entry.first_heard_at))
            lived_for = first.last_heard_at - first.first_heard_at
            self.withdrawn.add(Withdrawal(commitment, first.source, lived_for, first.own))
        for entry in entries:
            self._remove(entry.key)

    def is_withdrawn(self, sdp: Sdp) -> bool:
        """Whether the preimage of its commitment has been heard."""
        return sdp.attribute(WITHDRAWAL) in self.withdrawn

    # ---- time

    def expire(self, now: float) -> None:
        """What has expired is forgotten. A clock that was set back makes nothing live longer."""
        for entry in list(self._entries.values()):
            entry.first_heard_at = min(entry.first_heard_at, now)
            entry.last_heard_at = min(entry.last_heard_at, now)
            if now >= entry.expires_at(self._forget_after):
                self._remove(entry.key)
        self._expires_at = min((self.expires_at_of(entry) for entry in self._entries.values()), default=math.inf)

    def expires_at(self) -> float | None:
        """When `expire` is wanted, or before."""
        return None if self._expires_at == math.inf else self._expires_at

    def expires_at_of(self, entry: Entry) -> float:
        """When this one will be forgotten, if it isn't heard again."""
        return entry.expires_at(self._forget_after)

    # ---- looking

    def sessions(self, now: float) -> list[Entry]:
        """In the order of their first hearing."""
        kept = (entry for entry in self._entries.values() if now < entry.expires_at(self._forget_after))
        return sorted(kept, key=lambda entry: entry.first_heard_at)

    def count(self, group: str) -> int:
        """Sessions that are announced at this SAP address."""
        return self._by_group[group]

    def announcers(self, commitment: str | None, sdp: bytes) -> set[str]:
        """The sources that say exactly this (RFC 2974 section 3: several may announce one session)."""
        entries = [self._entries[key] for key in self._committed.get(commitment or "", ())]
        return {entry.source for entry in entries if entry.packet.payload == sdp}

    def using(self, addresses: Collection[str], now: float) -> list[Entry]:
        """Sessions that have one of these multicast addresses, oldest first."""
        return [entry for entry in self.sessions(now) if not entry.addresses.isdisjoint(addresses)]

    # ---- inside

    def refile(self, sdp: bytes) -> None:
        """It has become ours, or is ours no longer: then it takes others' room."""
        for key, entry in list(self._entries.items()):
            if key in self._entries and canonical(entry.packet.payload) == canonical(sdp):
                self._remove(key)
                self._keep(key, entry)

    def _keep(self, key: Key, entry: Entry) -> None:
        entry.own = self._is_own(entry.packet, entry.source)
        if not entry.own:
            for gone in self._room.put(key, entry.source, entry.size, repeated=entry.repeated):
                self._remove(gone)
        self._entries[key] = entry
        self._datagrams[entry.source, entry.datagram] = entry
        self._announced.setdefault(entry.announcer, set()).add(key)
        if entry.commitment is not None:
            self._committed.setdefault(entry.commitment, set()).add(key)
        self._by_group.update(entry.groups)
        self._expires_at = min(self._expires_at, self.expires_at_of(entry))

    def _remove(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self._room.remove(key, entry.source)
        self._datagrams.pop((entry.source, entry.datagram), None)
        _discard(self._announced, entry.announcer, key)
        if entry.commitment is not None:
            _discard(self._committed, entry.commitment, key)
        self._by_group.subtract(entry.groups)
        for group in entry.groups:
            if not self._by_group[group]:
                del self._by_group[group]


def _is_plain(entry: Entry) -> bool:
    return entry.commitment is None and not entry.packet.authenticated


def _discard(index: dict[Name, set[Key]], name: Name, key: Key) -> None:
    index[name].discard(key)
    if not index[name]:
        del index[name]
