"""nkeys: the Ed25519 key pairs by which identities log in to the broker.

The seed is text of 58 characters that begins with SU, in a file only its owner may read; the public key begins with U
and stands in the broker's configuration. An nkey proves nothing end to end: that is the envelope's signature.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import nkeys

from mcsa.errors import Refused
from mcsa.keys import Random, Secret
from mcsa.shell.sealed_file import read_private_file, write_atomically


class NkeySeed(Secret):
    """The seed of a user's nkey, as ASCII text. `ValueError` where it is none."""

    __slots__ = ("public",)
    size = 58

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        try:
            prefix, seed = nkeys.decode_seed(raw)
            intact = bytes(nkeys.encode_seed(seed, prefix)) == raw  # decode_seed does not look at the checksum
        except (nkeys.NkeysError, ValueError):
            intact = False
        if not intact or prefix != nkeys.PREFIX_BYTE_USER:
            raise ValueError("not the seed of a user's nkey")
        self.public: str = nkeys.from_seed(bytearray(raw)).public_key.decode()

    @classmethod
    def draw(cls, random: Random) -> Self:
        """A fresh nkey."""
        return cls(bytes(nkeys.encode_seed(random(32), nkeys.PREFIX_BYTE_USER)))


def load_nkey(path: Path) -> NkeySeed:
    """The nkey in a file of mode 0600; `Refused("key-file")` otherwise."""
    try:
        return NkeySeed(read_private_file(path).strip())
    except ValueError as error:
        raise Refused("key-file", str(path), f"{path} holds no nkey: {error}.") from None


def load_or_make_nkey(path: Path) -> NkeySeed:
    """The nkey in a file, which is made where it isn't there yet."""
    if path.exists():
        return load_nkey(path)
    seed = NkeySeed.draw(os.urandom)
    write_atomically(path, seed.reveal() + b"\n")
    return seed
