"""How much a group, and one flush of it, may be: all that is told of it has to fit into messages.

    an update               an envelope, 512 KiB: the rekey, senders that came, users that went
    the answer to a joiner  likewise: the roster, all senders
    the answer to a repair  likewise: updates
    a flush's record        1,008 KiB: the update, who came and went, their keys

A rekey gets 350 kB of an update: so much is a flat protocol's for as many members as it holds
(`mcsa.gkm.Scheme.members_at_most`), or that of a tree of ten million for `LEAVES_AT_ONCE`, even where each of them
makes somebody else move. Names get the rest; in a record they stand four times at most (update, member, admission,
GKM).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mcsa.distribution import entry_digest, roster_digest
from mcsa.errors import Refused
from mcsa.gkm import Scheme
from mcsa.v1.types_pb2 import RosterEntry

LEAVES_AT_ONCE = 256
NAMES_AT_ONCE = 150_000  # bytes, of one flush: a thousand joins of names as they are, 370 of the longest there can be
CHANGE_SIZE = 50  # bytes that stand around the names of one change, once
ROSTER_SIZE = 400_000  # bytes: about 3,800 senders with names of 40 letters
REPAIR_SIZE = 450_000  # bytes of updates in one answer, but one update at least
USERS_OF_HOST = 100
ENTRY_SIZE = 400  # bytes of a newcomer's entry in the roster, at most


class Room:
    """What one flush has room for."""

    def __init__(self) -> None:
        self._leaves = LEAVES_AT_ONCE
        self._size = NAMES_AT_ONCE

    def take(self, names: Iterable[str], *, leaves: bool) -> bool:
        """One change more; once one is too many, so are all that follow."""
        self._leaves -= leaves
        self._size -= CHANGE_SIZE + sum(map(len, names))
        return self._leaves >= 0 and self._size >= 0


class Roster:
    """A group's senders by sender ID."""

    def __init__(self) -> None:
        self._entries: dict[int, RosterEntry] = {}
        self._at: dict[str, set[int]] = {}  # by address
        self._digests: dict[int, bytes] = {}  # of entries, once they were asked for
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, sender_id: int) -> bool:
        return sender_id in self._entries

    def __getitem__(self, sender_id: int) -> RosterEntry:
        return self._entries[sender_id]

    def values(self) -> Iterator[RosterEntry]:
        """The entries, in the order in which their sender IDs came."""
        return iter(self._entries.values())

    def put(self, entry: RosterEntry) -> None:
        """Adds a sender, or takes it for what was known under this sender ID."""
        self._forget(self._entries.get(entry.sender_id))
        self.size += entry.ByteSize()
        self._entries[entry.sender_id] = entry
        self._at.setdefault(entry.address, set()).add(entry.sender_id)

    def drop(self, sender_id: int) -> None:
        """Takes a sender off, where there is one."""
        self._forget(self._entries.pop(sender_id, None))

    def _forget(self, entry: RosterEntry | None) -> None:
        if entry is None:
            return
        self.size -= entry.ByteSize()
        self._digests.pop(entry.sender_id, None)
        there = self._at[entry.address]
        there.discard(entry.sender_id)
        if not there:
            del self._at[entry.address]

    def digest(self) -> bytes:
        """See `mcsa.distribution.roster_digest`. Only entries that are new are looked at."""
        new = ((sender_id, entry) for sender_id, entry in self._entries.items() if sender_id not in self._digests)
        self._digests |= {sender_id: entry_digest(entry) for sender_id, entry in new}
        return roster_digest(self._digests)

    def senders_at(self, address: str) -> Collection[int]:
        """Whose packets come from there."""
        return self._at.get(address, ())


def check_members(scheme: Scheme, members: int) -> None:
    """`Refused("too-many")` where a group of so many has no room for one more."""
    if scheme.members_at_most is not None and members >= scheme.members_at_most:
        sentence = (
            f"a group keyed by '{scheme.name}' has {scheme.members_at_most} members at most: where one leaves, all "
            "others' keys go into one message; convene anew with a key tree, gkm 'lkh'"
        )
        raise Refused("too-many", "members", sentence)


def check_users(users: int) -> None:
    """The same of users on one host."""
    if users > USERS_OF_HOST:
        raise Refused("too-many", "users", f"a host speaks for {USERS_OF_HOST} users at most; use another host")


def check_roster(size: int) -> None:
    """The same of senders, in bytes of a roster."""
    if size > ROSTER_SIZE:
        sentence = (
            "this group's senders are as many as can be listed to a newcomer; join as a receiver, or convene with "
            "several groups and spread the senders over them"
        )
        raise Refused("too-many", "senders", sentence)
