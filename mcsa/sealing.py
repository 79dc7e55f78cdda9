"""HPKE (RFC 9180, base mode) with the two suites that a group's policy can name.

`x25519` is DHKEM(X25519, HKDF-SHA256); `x-wing` is ML-KEM-768 with X25519 (KEM id 0x647a), safe against a later
quantum computer. Both with HKDF-SHA256 and AES-256-GCM. Base mode authenticates nobody: the sender is
bound by a signature outside, the context by `info`.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from mcsa.errors import Rejected
from mcsa.x25519 import load_public_key

SUITES = {
    "x25519": Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
    "x-wing": Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM),
}
DEFAULT_SUITE = "x25519"
_MLKEM768_PUBLIC_SIZE = 1184  # FIPS 203, table 3
_X25519_SIZE = 32

PrivateKey = X25519PrivateKey | MLKEM768X25519PrivateKey
PublicKey = X25519PublicKey | MLKEM768X25519PublicKey


@dataclass(frozen=True, slots=True, repr=False)
class SealingKey:
    """A fresh key pair for one answer. Forgetting it makes the answer forward secret."""

    suite: str
    private: PrivateKey
    public: bytes  # 32 bytes for x25519; 1,216 for x-wing (ML-KEM-768, then X25519; X-Wing draft, section 5.3)

    @classmethod
    def generate(cls, suite: str) -> SealingKey:
        """A new pair of the named suite; `Rejected("suite")` where there is none of that name."""
        if suite == "x25519":
            x25519 = X25519PrivateKey.generate()
            return cls(suite, x25519, x25519.public_key().public_bytes_raw())
        if suite == "x-wing":
            mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
            public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
            return cls(suite, MLKEM768X25519PrivateKey(mlkem, x25519), public)
        raise Rejected("suite", suite[:20])

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """What was sealed to this key with this `info`; `Rejected("sealing")` otherwise."""
        try:
            return SUITES[self.suite].decrypt(sealed, self.private, info=info)
        except (InvalidTag, ValueError):
            raise Rejected("sealing", "does not open") from None

    def __repr__(self) -> str:
        return f"<SealingKey {self.suite}>"


def seal_to(suite: str, public: bytes, plaintext: bytes, info: bytes) -> bytes:
    """Encapsulated key and ciphertext for who holds the private key; `Rejected("suite")` for a malformed key."""
    try:
        key = _load_public(suite, public)
        return SUITES[suite].encrypt(plaintext, key, info=info)
    except ValueError:
        raise Rejected("suite", "public key") from None


def check_public_key(suite: str, public: bytes) -> None:
    """Raises `Rejected("suite")` where nothing could be sealed to this key."""
    try:
        _load_public(suite, public)
    except ValueError:
        raise Rejected("suite", "public key") from None


def _load_public(suite: str, public: bytes) -> PublicKey:
    if suite not in SUITES:
        raise ValueError(suite)
    if suite == "x25519":
        return load_public_key(public)
    mlkem = MLKEM768PublicKey.from_public_bytes(public[:_MLKEM768_PUBLIC_SIZE])
    return MLKEM768X25519PublicKey(mlkem, load_public_key(public[_MLKEM768_PUBLIC_SIZE:]))
