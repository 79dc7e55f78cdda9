"""A group's members at its Authorizer, compact enough for a million: about 60 bytes each.

A member has a place; by that it is found in columns, which are flat arrays of the seconds at which leases end and of
sender IDs, and in rows of text (`services.authorizer.member_rows`). Which place a host has is looked up in an index of
keyed hashes (`mcsa.gkm.places`), so that no choice of names makes it slow. Places that members left are given again.
What never shrinks after many left: the index's slots, and free places before the last one that is taken.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from mcsa.encoding import encode_parts
from mcsa.errors import Rejected
from mcsa.gkm.places import FREE, Places
from services.authorizer.member_rows import PAGE, Row, Rows

KEY_SIZE = 32  # bytes
_NONE = 2**32 - 1  # in a column: no sender ID; no lease, or nobody there
_FORMAT = b"members 1"
_PARTS = 8
_LENGTH_SIZE = 4


@dataclass(slots=True)
class Member:
    """A host in the group. A value: what is changed in it takes effect with `Members.put`."""

    host: str
    address: str
    sender_id: int | None  # below 2^32 - 1
    users: set[str] = field(default_factory=set)
    lease_ends_at: float = math.inf  # seconds since 1970, kept as whole ones, rounded up; from 2^32 - 1 on: never


class Members:
    """Members by host. Order is that of their places, which follows from what was put and removed, one by one."""

    def __init__(self, key: bytes) -> None:
        """An empty table. `key` is 32 random bytes for the index; who knows them can choose names that make it slow."""
        if len(key) != KEY_SIZE:
            raise ValueError(f"the key is {KEY_SIZE} bytes, not {len(key)}")
        self._places = Places(key)
        self._rows = Rows()
        self._sender_ids = array("I")
        self._lease_ends = array("I")

    def __len__(self) -> int:
        return self._places.members

    def __contains__(self, host: str) -> bool:
        return self._find(host) is not None

    def __iter__(self) -> Iterator[Member]:
        """All of them; they must not change meanwhile."""
        return (self._member(place, row) for place, row in self._rows.walk())

    def get(self, host: str) -> Member | None:
        """A member as it is now."""
        place = self._find(host)
        return None if place is None else self._member(place, self._rows[place])

    def put(self, member: Member) -> None:
        """Adds a member, or takes it for what was known of this host."""
        tag = self._places.tag(member.host)
        place = self._places.find(tag)
        if place is None:
            place = self._places.next_free(_NONE)
            self._places.put(tag, place)
            if place == len(self._rows):
                self._grow()
        self._rows.put(place, Row(member.host, member.address, member.users))
        self._sender_ids[place] = _NONE if member.sender_id is None else member.sender_id
        self._lease_ends[place] = _whole_seconds(member.lease_ends_at)

    def remove(self, host: str) -> Member | None:
        """Takes a member off and returns it; None where there is none."""
        place = self._find(host)
        if place is None:
            return None
        member = self._member(place, self._rows[place])
        self._places.remove(place)
        self._rows.clear(place)
        self._sender_ids[place] = self._lease_ends[place] = _NONE
        self._places.trim()
        self._rows.truncate(self._places.size)
        del self._sender_ids[len(self._rows) :], self._lease_ends[len(self._rows) :]
        return member

    def renew(self, host: str, lease_ends_at: float) -> bool:
        """Sets when a lease ends, at no cost to speak of; False where the host is no member."""
        place = self._find(host)
        if place is None:
            return False
        self._lease_ends[place] = _whole_seconds(lease_ends_at)
        return True

    def renew_all(self, lease_ends_at: float) -> None:
        """Sets when everybody's lease ends."""
        self._lease_ends = array("I", [_whole_seconds(lease_ends_at)]) * len(self._rows)
        for place in self._rows.free():
            self._lease_ends[place] = _NONE

    def senders(self) -> Iterator[Member]:
        """Those with a sender ID."""
        for start in range(0, len(self._sender_ids), PAGE):
            sender_ids = self._sender_ids[start : start + PAGE]
            if sender_ids.count(_NONE) < PAGE:  # one look at each page; in a large group most have none
                places = (start + at for at, sender_id in enumerate(sender_ids) if sender_id != _NONE)
                yield from (self._member(place, self._rows[place]) for place in places)

    def lapsed(self, now: float) -> list[str]:
        """The hosts whose lease ended at `now` or before."""
        found = []
        for start in range(0, len(self._lease_ends), PAGE):
            ends = self._lease_ends[start : start + PAGE]
            if min(ends) <= now:  # one look at each page; most have nobody
                found += [start + at for at, end in enumerate(ends) if end <= now and end != _NONE]
        return [self._rows[place].host for place in found]

    def hosts_of(self, user: str) -> list[str]:
        """The hosts with this user on them."""
        return self._rows.hosts_of(user)

    # ---- written down

    def pack(self) -> bytes:
        """All of it, for `unpack`, with the key: to be sealed. The same table gives the same bytes.

        They are eight parts (`mcsa.encoding.encode_parts`: each after its length, 4 bytes, big-endian):

            "members 1"
            key, tags, slots      the index, as in `mcsa.gkm.places`: 32 bytes; 10 a place; 4 a slot
            prefixes, pages       the text, as in `member_rows`
            sender IDs            4 bytes for each row, little-endian; 2^32 - 1 for none
            lease ends            likewise, seconds since 1970; 2^32 - 1 for never, and in free rows
        """
        columns = _dump(self._sender_ids), _dump(self._lease_ends)
        return encode_parts(_FORMAT, *self._places.dump(), *self._rows.dump(), *columns)

    @classmethod
    def unpack(cls, raw: bytes) -> Members:
        """The other way; `Rejected("record")` where the bytes make no sense.

        That the index leads to the right rows is not looked at: who could write it wrong could write any member.
        """
        form, key, tags, slots, prefixes, pages, sender_ids, lease_ends = _cut_parts(raw)
        if form != _FORMAT or len(key) != KEY_SIZE:
            raise Rejected("record", "no members")
        members = cls(key)
        members._places = Places.load(key, tags, slots)
        members._rows = Rows.load(prefixes, pages)
        members._sender_ids = _load(sender_ids, len(members._rows))
        members._lease_ends = _load(lease_ends, len(members._rows))
        members._check_free()
        return members

    def _check_free(self) -> None:
        """Index, rows and leases have to tell of the same free places: what is free is never read."""
        free = list(self._rows.free())
        if len(self._rows) != -(-self._places.size // PAGE) * PAGE or len(free) != len(self._rows) - len(self):
            raise Rejected("record", "the index doesn't fit the rows")
        for place in free:
            if self._places.tag_at(place) not in (FREE, b"") or self._lease_ends[place] != _NONE:
                raise Rejected("record", "something is left of who isn't there")

    # ---- inside

    def _find(self, host: str) -> int | None:
        return self._places.find(self._places.tag(host))

    def _member(self, place: int, row: Row) -> Member:
        sender_id, lease_end = self._sender_ids[place], self._lease_ends[place]
        return Member(
            *row[:2],
            sender_id=None if sender_id == _NONE else sender_id,
            users=row.users,
            lease_ends_at=math.inf if lease_end == _NONE else lease_end,
        )

    def _grow(self) -> None:
        self._rows.grow()
        for column in (self._sender_ids, self._lease_ends):
            column.extend([_NONE] * PAGE)


def _whole_seconds(lease_ends_at: float) -> int:
    return _NONE if lease_ends_at >= _NONE else max(0, math.ceil(lease_ends_at))


def _cut_parts(raw: bytes) -> list[bytes]:
    parts, at = [], 0
    for _ in range(_PARTS):
        start = at + _LENGTH_SIZE
        at = start + int.from_bytes(raw[at:start], "big")
        if start > len(raw) or at > len(raw):
            raise Rejected("record", "cut short")
        parts.append(raw[start:at])
    if at != len(raw):
        raise Rejected("record", "bytes left over")
    return parts


def _dump(column: array[int]) -> bytes:
    column = column[:]
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _load(raw: bytes, rows: int) -> array[int]:
    if len(raw) != 4 * rows:
        raise Rejected("record", "a column doesn't fit the rows")
    column = array("I", raw)
    if sys.byteorder == "big":
        column.byteswap()
    return column
