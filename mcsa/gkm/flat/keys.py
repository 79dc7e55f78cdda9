"""The keys of a flat group, and how they are wrapped.

Each KEK wraps through keys that derive from it for one purpose and one generation, so that neither can be changed and
no wrap means something elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mcsa.errors import Rejected
from mcsa.keys import KEY_SIZE, GroupKey, WrapKey
from mcsa.x25519 import load_public_key

ID_SIZE = 8
WRAPPED_SIZE = 2 * KEY_SIZE + 8
PART_SIZE = ID_SIZE + WRAPPED_SIZE

WELCOME = "mcsa flat welcome v1"  # purposes
REKEY = "mcsa flat rekey v1"


@dataclass(frozen=True, slots=True)
class Keys:
    """A group's two keys."""

    group_key: GroupKey
    group_kek: WrapKey

    def wrap(self, kek: WrapKey, purpose: str, generation: int) -> bytes:
        """Both under a KEK (RFC 3394), 72 bytes."""
        raw = self.group_key.reveal() + self.group_kek.reveal()
        return aes_key_wrap(WrapKey.derive(kek, purpose, generation).reveal(), raw)

    @classmethod
    def unwrap(cls, wrapped: bytes, kek: WrapKey, purpose: str, generation: int) -> Keys | None:
        """The other way; None where they were not wrapped so."""
        try:
            raw = aes_key_unwrap(WrapKey.derive(kek, purpose, generation).reveal(), wrapped)
            return cls(GroupKey(raw[:KEY_SIZE]), WrapKey(raw[KEY_SIZE:]))
        except (InvalidUnwrap, ValueError):
            return None


def pairwise_kek(shared: bytes, authority_public_key: bytes, contribution: bytes) -> WrapKey:
    """A member's KEK, from its exchange with the authority."""
    return WrapKey.extract(shared, authority_public_key + contribution, "mcsa flat pairwise kek v1")


def welcome_kek(
    shared: bytes, distributor_public_key: bytes, contribution: bytes, authority_public_key: bytes
) -> WrapKey:
    """For one welcome by a distributor, from its exchange with the newcomer; bound to the authority it speaks for."""
    salt = distributor_public_key + contribution
    return WrapKey.extract(shared, salt, "mcsa flat distributor kek v1", authority_public_key)


def member_id(contribution: bytes) -> bytes:
    """8 bytes by which a member finds its part of a rekey."""
    return hashlib.sha256(contribution).digest()[:ID_SIZE]


def parts_of(member: bytes, parts: bytes) -> Iterator[bytes]:
    """The wrapped keys for the member of that id: more than one where two share it, which then see by trying."""
    at = parts.find(member)
    while at >= 0:
        if at % PART_SIZE == 0:
            yield parts[at + ID_SIZE : at + PART_SIZE]
        at = parts.find(member, at + 1)


def parse_public_key(raw: bytes, cause: str) -> X25519PublicKey:
    """`Rejected(cause)` where an exchange with it would make no secret."""
    try:
        return load_public_key(raw)
    except ValueError:
        raise Rejected(cause, "not an X25519 public key") from None
