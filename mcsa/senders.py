"""The senders of one group, as one member of it knows them: its roster, and what the packet path is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mcsa.distribution import entry_digest, roster_digest
from mcsa.path_control import SetRoster
from mcsa.v1.authorizer_pb2 import GroupUpdate
from mcsa.v1.types_pb2 import RosterEntry


@dataclass
class Senders:
    """One registration's. What is handed on is replaced, never changed in place; only what is new is looked at, since
    a group may have thousands."""

    authorizer: str
    vouched_for: bool = True
    """By the Authorizer. Else a fellow member told the roster: until an update agrees with it, nobody's key is believed
    that could prove who said something."""
    entries: dict[int, RosterEntry] = field(default_factory=dict)
    _addresses: dict[int, str] = field(default_factory=dict)  # of those that are near
    _source_keys: dict[int, bytes] = field(default_factory=dict)
    _relays: frozenset[int] = frozenset()
    _distant: frozenset[int] = frozenset()
    _authorizer_id: int | None = None

    def change(self, removed: Iterable[int], entries: Iterable[RosterEntry]) -> None:
        """Some went, some came or have changed."""
        entered = {entry.sender_id: entry for entry in entries}
        addresses, source_keys = self._addresses.copy(), self._source_keys.copy()
        relays, distant = set(self._relays), set(self._distant)
        for sender_id in removed:
            self.entries.pop(sender_id, None)
            addresses.pop(sender_id, None)
            source_keys.pop(sender_id, None)
            relays.discard(sender_id)
            distant.discard(sender_id)
        near = {sender_id: entry for sender_id, entry in entered.items() if not entry.distant}
        for sender_id, entry in near.items():
            addresses[sender_id] = entry.address
            if entry.relay:
                relays.add(sender_id)
            if entry.host == self.authorizer:
                self._authorizer_id = sender_id
        self.entries.update(entered)
        source_keys.update((sender_id, entry.source_key) for sender_id, entry in entered.items() if entry.source_key)
        self._addresses, self._source_keys, self._relays = addresses, source_keys, frozenset(relays)
        self._distant = frozenset(distant | (entered.keys() - near.keys()))

    def follow(self, update: GroupUpdate) -> bool:
        """What the Authorizer's update says of the roster; False where it contradicts what a member told."""
        self.change(self._gone(update), [*update.added, *update.changed])
        if self.vouched_for or not update.roster_digest:
            return True
        told = {sender_id: entry_digest(entry) for sender_id, entry in self.entries.items()}
        self.vouched_for = roster_digest(told) == update.roster_digest
        return self.vouched_for

    def _gone(self, update: GroupUpdate) -> list[int]:
        if not update.all_distant:
            return list(update.removed)
        distant = (sender_id for sender_id, entry in self.entries.items() if entry.distant)
        return [*update.removed, *distant]  # those that are still there are among the added

    def relay_of(self, host: str) -> int | None:
        """The sender ID under which this host relays others into the group."""
        return next((relay for relay in self._relays if self.entries[relay].host == host), None)

    def told(self, group_id: bytes, own: int | None, own_relay: int | None, announced: bytes) -> SetRoster:
        """For the packet path; see `SetRoster`."""
        authorizer = self._authorizer_id if self._authorizer_id in self._addresses else None
        near_by = group_id, self._addresses, own, authorizer
        keys = self._source_keys if self.vouched_for else {}
        return SetRoster(*near_by, self._relays, own_relay, self._distant, keys, announced)
