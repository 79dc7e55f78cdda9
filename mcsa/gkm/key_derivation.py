"""How the keys of a key tree come of each other: BLAKE2b (RFC 7693), and nothing else.

A key that leads to another is used once. What it gives and the key that takes its place are halves of the same output,
and whoever has the key does the same: so nobody who is given a key later can follow what it was used for before.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct

from mcsa.keys import KEY_SIZE

NONCE_SIZE = 16
CONFIRMATION_SIZE = 16

PARENT = b"mcsa lkh parent"  # gives the key of the node above
WRAP = b"mcsa lkh wrap"  # gives a pad that hides that key
AGED = b"mcsa lkh aged"  # gives nothing: all that is wanted is the successor
GROWN = b"mcsa lkh grown"  # gives the key of a new root above the root
GROUP = b"mcsa lkh group"  # gives the group key

halves = Struct(f"{KEY_SIZE}s{KEY_SIZE}s").unpack


def spend(key: bytes, nonce: bytes, purpose: bytes) -> tuple[bytes, bytes]:
    """What a key gives, and its successor: the halves of BLAKE2b over key (32 bytes) || nonce (16) || purpose.

    That is one block of the hash, 128 bytes. BLAKE2 has no length extension and its inputs here are all of one form, so
    that with the key first it is a pseudorandom function; its keyed mode takes two blocks, HMAC four, HKDF more, and
    there are 18,000 of these in a rekey after 1,000 leaves.
    """
    return halves(blake2b(key + nonce + purpose).digest())


def grown(root: bytes) -> bytes:
    """The key of a new root above a root: whoever has the old one's has it without being told.

    The old one's successor is not wanted: a tree grows where no place is free, and once one is, that key was replaced.
    """
    return spend(root, bytes(NONCE_SIZE), GROWN)[0]


def confirm(root: bytes, nonce: bytes, tree_change: bytes) -> bytes:
    """16 bytes that show that whoever wrote a tree change knows the root key that it leads to."""
    return blake2b(tree_change, digest_size=CONFIRMATION_SIZE, key=root, salt=nonce, person=b"mcsa lkh rekey").digest()


def chain(root: bytes, history: bytes, membership_change: bytes) -> tuple[bytes, bytes]:
    """16 bytes that confirm a membership change as the next one after `history`, the change's before; and the nonce
    with which keys are spent in it, 16 bytes, which no other change in this state or another has.
    """
    size = CONFIRMATION_SIZE + NONCE_SIZE
    digest = blake2b(membership_change, digest_size=size, key=root, salt=history, person=b"mcsa lkh record").digest()
    return digest[:CONFIRMATION_SIZE], digest[CONFIRMATION_SIZE:]
