"""A flat group's authority."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm.flat.keys import (
    ID_SIZE,
    REKEY,
    WELCOME,
    Keys,
    member_id,
    pairwise_kek,
    parse_public_key,
)
from mcsa.gkm.interface import Change
from mcsa.keys import GroupKey, Random, WrapKey
from mcsa.v1.gkm_flat_pb2 import FlatJoined, FlatRecord, FlatRekey, FlatWelcome


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as its authority knows it."""

    id: bytes
    pairwise_kek: WrapKey

    def __post_init__(self) -> None:
        if len(self.id) != ID_SIZE:
            raise ValueError("an id of another size")


class FlatAuthority:
    """The Authorizer's half.

    A member whose id another one has already is refused. Two that come with the same id in one batch both get in: each
    tries both parts, and no more comes of it than that two hosts share a contribution.
    """

    def __init__(self, random: Random, private: X25519PrivateKey, keys: Keys) -> None:
        self._random = random
        self._private = private
        self._keys = keys
        self._generation = 1
        self._members: dict[str, Entry] = {}
        self._ids: set[bytes] = set()

    @classmethod
    def create(cls, random: Random) -> Self:
        """See `interface.Scheme.create`."""
        private = X25519PrivateKey.from_private_bytes(random(32))
        return cls(random, private, Keys(GroupKey.draw(random), WrapKey.draw(random)))

    @classmethod
    def restore(cls, snapshot: bytes, random: Random) -> Self:
        """See `interface.Scheme.restore`."""
        authority = cls.create(bytes)
        authority.apply(snapshot)
        authority._random = random
        return authority

    @property
    def key(self) -> GroupKey:
        """The group key."""
        return self._keys.group_key

    @property
    def public_key(self) -> bytes:
        """Of the group, 32 bytes: what makes pairwise KEKs. Distributors pass it on, so it is worth signing."""
        return self._private.public_key().public_bytes_raw()

    def check_contribution(self, contribution: bytes) -> None:
        """See `interface.Authority.check_contribution`; also raises where a member has the same id already."""
        parse_public_key(contribution, "contribution")
        if member_id(contribution) in self._ids:
            raise Rejected("contribution", "another member has it")

    def change(self, joins: Mapping[str, bytes], leaves: Sequence[str], *, replace_key: bool) -> Change:
        """See `interface.Authority.change`."""
        joining = {name: self._entry(contribution) for name, contribution in joins.items()}
        left = [*dict.fromkeys([*leaves, *(name for name in joins if name in self._members)])]
        rekey, wraps = b"", 0
        if left or replace_key:
            keys = Keys(self._new_group_key(), WrapKey.draw(self._random))
            self._remove(left)
            rekey, wraps = self._replace(keys, for_each=bool(left))
        self._add(joining)
        welcomes = {name: self._welcome(entry) for name, entry in joining.items()}
        return Change(rekey, welcomes, self._record(joining, left), wraps + len(welcomes))

    def adopt(self, joined: Mapping[str, bytes]) -> bytes:
        """See `interface.Distributing.adopt`."""
        adopted = {name: self._entry(contribution) for name, contribution in joined.items()}
        ids = [entry.id for entry in adopted.values()]
        taken = {entry.id for name, entry in self._members.items() if name not in adopted}
        if len(set(ids)) < len(ids) or not taken.isdisjoint(ids):
            raise Rejected("contribution", "another member has it")
        replaced = [name for name in adopted if name in self._members]
        self._remove(replaced)
        self._add(adopted)
        return self._record(adopted, replaced)

    def apply(self, record: bytes) -> None:
        """See `interface.Authority.apply`."""
        try:
            self._repeat(FlatRecord.FromString(record))
        except (DecodeError, ValueError):
            raise Rejected("record", "malformed") from None

    def snapshot(self) -> bytes:
        """See `interface.Authority.snapshot`: a record in which everybody joins."""
        return self._record(self._members, [])

    # ---- inside

    def _new_group_key(self) -> GroupKey:
        return GroupKey.draw(self._random)

    def _entry(self, contribution: bytes) -> Entry:
        shared = self._private.exchange(parse_public_key(contribution, "contribution"))
        return Entry(member_id(contribution), pairwise_kek(shared, self.public_key, contribution))

    def _add(self, entries: Mapping[str, Entry]) -> None:
        self._members.update(entries)
        self._ids.update(entry.id for entry in entries.values())

    def _remove(self, names: Iterable[str]) -> None:
        removed = [name for name in names if self._members.pop(name, None) is not None]
        if removed:
            self._ids = {entry.id for entry in self._members.values()}

    def _replace(self, keys: Keys, *, for_each: bool) -> tuple[bytes, int]:
        """The rekey that leads there, and its wraps."""
        old, self._keys = self._keys, keys
        self._generation += 1
        rekey = FlatRekey(generation=self._generation)
        if for_each:
            rekey.parts = b"".join(
                entry.id + keys.wrap(entry.pairwise_kek, REKEY, self._generation) for entry in self._members.values()
            )
        elif self._members:
            rekey.under_group_key = keys.wrap(old.group_kek, REKEY, self._generation)
        return rekey.SerializeToString(), len(self._members) if for_each else min(1, len(self._members))

    def _welcome(self, entry: Entry) -> bytes:
        welcome = FlatWelcome(
            authority_public_key=self.public_key,
            wrapped_keys=self._keys.wrap(entry.pairwise_kek, WELCOME, self._generation),
            generation=self._generation,
        )
        return welcome.SerializeToString()

    def _record(self, joined: Iterable[str], left: Sequence[str]) -> bytes:
        return self._message(joined, left).SerializeToString()

    def _message(self, joined: Iterable[str], left: Sequence[str]) -> FlatRecord:
        members = ((name, self._members[name]) for name in joined)
        return FlatRecord(
            private_key=self._private.private_bytes_raw(),
            group_key=self._keys.group_key.reveal(),
            group_kek=self._keys.group_kek.reveal(),
            generation=self._generation,
            joined=[FlatJoined(name=n, id=entry.id, pairwise_kek=entry.pairwise_kek.reveal()) for n, entry in members],
            left=left,
        )

    def _repeat(self, message: FlatRecord) -> None:
        """`ValueError` before anything has changed."""
        private = X25519PrivateKey.from_private_bytes(message.private_key)
        keys = Keys(GroupKey(message.group_key), WrapKey(message.group_kek))
        joined = {entry.name: Entry(entry.id, WrapKey(entry.pairwise_kek)) for entry in message.joined}
        self._remove(message.left)
        self._add(joined)
        self._private, self._keys, self._generation = private, keys, message.generation
