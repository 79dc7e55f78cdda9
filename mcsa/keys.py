"""Secret keys as types of their own.

A `Secret` never shows its bytes by accident: `repr`, `str` and formatting give a fingerprint, pickling and JSON
are refused. `reveal()` is the one way out, so that `grep reveal` finds every place where key bytes are used.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NoReturn, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from mcsa.encoding import Part, encode_parts

KEY_SIZE = 32  # bytes: every key that is drawn or derived is 256 bits (design, section 6)

Random = Callable[[int], bytes]
"""Gives so many random bytes: `os.urandom` in a service, a seeded generator in the simulator."""


class Secret:
    """Key bytes behind a door. Equal keys of the same type are equal; comparing takes constant time."""

    __slots__ = ("_raw",)
    size = KEY_SIZE

    def __init__(self, raw: bytes) -> None:
        if len(raw) != self.size:
            raise ValueError(f"{type(self).__name__} is {self.size} bytes, not {len(raw)}")
        self._raw = bytes(raw)

    @classmethod
    def draw(cls, random: Random) -> Self:
        """A fresh key."""
        return cls(random(cls.size))

    @classmethod
    def derive(cls, secret: Secret, *info: Part) -> Self:
        """A key derived from `secret` by HKDF-Expand (RFC 5869, SHA-256); `info` begins with a label."""
        return cls(HKDFExpand(algorithm=SHA256(), length=cls.size, info=encode_parts(*info)).derive(secret.reveal()))

    @classmethod
    def extract(cls, material: bytes, salt: bytes, *info: Part) -> Self:
        """A key from material that is secret but not uniform, by HKDF (RFC 5869, SHA-256)."""
        hkdf = HKDF(algorithm=SHA256(), length=cls.size, salt=salt, info=encode_parts(*info))
        return cls(hkdf.derive(material))

    def reveal(self) -> bytes:
        """The key's bytes."""
        return self._raw

    @property
    def fingerprint(self) -> str:
        """8 hexadecimal digits that name the key without telling anything of it."""
        return hashlib.sha256(b"mcsa key fingerprint" + self._raw).hexdigest()[:8]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fingerprint}>"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and isinstance(other, Secret) and hmac.compare_digest(self._raw, other._raw)

    def __hash__(self) -> int:
        return hash((type(self), self._raw))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not to be pickled")


class GroupKey(Secret):
    """The key of a group in one epoch, network layer. Never used on packets itself: senders' keys derive from it."""


class UpdateKey(Secret):
    """Protects a group's updates in one epoch, derived from that epoch's group key."""


class WrapKey(Secret):
    """Wraps other keys in a group key management protocol (a KEK)."""


class ConferenceKey(Secret):
    """The key of a conference in one key epoch, application layer. The Authorizer never has it."""


class StorageKey(Secret):
    """Seals what a service writes to disk."""
