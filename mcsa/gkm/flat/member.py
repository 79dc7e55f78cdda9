"""A flat group's member: follows rekeys, and welcomes newcomers near by."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from google.protobuf.message import DecodeError

from mcsa.errors import Rejected
from mcsa.gkm.flat.keys import (
    PART_SIZE,
    REKEY,
    WELCOME,
    Keys,
    member_id,
    pairwise_kek,
    parse_public_key,
    parts_of,
    welcome_kek,
)
from mcsa.gkm.interface import Excluded
from mcsa.keys import GroupKey, Random, WrapKey
from mcsa.v1.gkm_flat_pb2 import FlatRekey, FlatWelcome


@dataclass(frozen=True, slots=True)
class Place:
    """What stays of a member's join for as long as it is one."""

    id: bytes
    pairwise_kek: WrapKey
    authority_public_key: bytes


class FlatMember:
    """A member's half; of a distributor too."""

    def __init__(self, random: Random, place: Place, keys: Keys, generation: int) -> None:
        self._random = random
        self._place = place
        self._keys = keys
        self._generation = generation

    @property
    def key(self) -> GroupKey:
        """The group key."""
        return self._keys.group_key

    @property
    def keys_held(self) -> int:
        """Group key, group KEK, pairwise KEK."""
        return 3

    @property
    def authority_public_key(self) -> bytes:
        """See `interface.Distributor.authority_public_key`."""
        return self._place.authority_public_key

    def process(self, rekey: bytes) -> GroupKey:
        """See `interface.Member.process`.

        `Excluded` also where somebody left before the authority adopted this member.
        """
        try:
            message = FlatRekey.FromString(rekey)
        except DecodeError:
            raise Rejected("rekey", "malformed") from None
        if message.generation <= self._generation:
            raise Rejected("rekey", "stale")
        keys = self._open(message)
        if keys is None:
            raise Rejected("rekey", "does not unwrap")
        self._keys, self._generation = keys, message.generation
        return keys.group_key

    def welcome(self, contribution: bytes) -> bytes:
        """See `interface.Distributor.welcome`."""
        newcomer = parse_public_key(contribution, "contribution")
        private = X25519PrivateKey.from_private_bytes(self._random(32))
        public_key, authority = private.public_key().public_bytes_raw(), self._place.authority_public_key
        kek = welcome_kek(private.exchange(newcomer), public_key, contribution, authority)
        welcome = FlatWelcome(
            authority_public_key=authority,
            distributor_public_key=public_key,
            wrapped_keys=self._keys.wrap(kek, WELCOME, self._generation),
            generation=self._generation,
        )
        return welcome.SerializeToString()

    def _open(self, message: FlatRekey) -> Keys | None:
        if message.under_group_key:
            return Keys.unwrap(message.under_group_key, self._keys.group_kek, REKEY, message.generation)
        if len(message.parts) % PART_SIZE:
            raise Rejected("rekey", "malformed")
        wrapped = list(parts_of(self._place.id, message.parts))
        if not wrapped:
            raise Excluded
        tried = (Keys.unwrap(each, self._place.pairwise_kek, REKEY, message.generation) for each in wrapped)
        return next((keys for keys in tried if keys is not None), None)


class FlatCandidate:
    """A member's half before it is one."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._private = X25519PrivateKey.from_private_bytes(random(32))

    @property
    def contribution(self) -> bytes:
        """The member's fresh X25519 public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    def finish(self, welcome: bytes) -> FlatMember:
        """See `interface.Joining.finish`: a welcome of the authority's or of a distributor's."""
        try:
            message = FlatWelcome.FromString(welcome)
        except DecodeError:
            raise Rejected("welcome", "malformed") from None
        contribution, authority_key = self.contribution, message.authority_public_key
        shared = self._private.exchange(parse_public_key(authority_key, "welcome"))
        pairwise = pairwise_kek(shared, authority_key, contribution)
        kek = self._distributor_kek(message) if message.distributor_public_key else pairwise
        keys = Keys.unwrap(message.wrapped_keys, kek, WELCOME, message.generation)
        if keys is None:
            raise Rejected("welcome", "does not unwrap")
        place = Place(member_id(contribution), pairwise, authority_key)
        return FlatMember(self._random, place, keys, message.generation)

    def _distributor_kek(self, message: FlatWelcome) -> WrapKey:
        public_key = message.distributor_public_key
        shared = self._private.exchange(parse_public_key(public_key, "welcome"))
        return welcome_kek(shared, public_key, self.contribution, message.authority_public_key)
