"""The ciphers that a group's policy can name: AEADs with a 4-byte salt, an 8-byte IV and a 16-byte ICV.

AES-GCM-16 in ESP is RFC 4106, ChaCha20-Poly1305 in ESP is RFC 7634. Both lay packets out alike: nonce = salt | IV,
associated data = SPI | sequence number, and KEYMAT = key | salt.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from mcsa.errors import Refused

SALT_SIZE = 4  # bytes; RFC 4106 section 4, RFC 7634 section 2
IV_SIZE = 8  # bytes; RFC 4106 section 3.1, RFC 7634 section 2
ICV_SIZE = 16  # bytes; RFC 4106 section 6, RFC 7634 section 2

Cipher = AESGCM | ChaCha20Poly1305


@dataclass(frozen=True, slots=True)
class Suite:
    """One cipher: its name in the group's policy and its key size in bytes."""

    name: str
    key_size: int
    construct: type[AESGCM] | type[ChaCha20Poly1305]

    @property
    def keymat_size(self) -> int:
        """Bytes of key and salt together."""
        return self.key_size + SALT_SIZE


SUITES = {
    suite.name: suite
    for suite in (
        Suite("aes-256-gcm", 32, AESGCM),
        Suite("aes-128-gcm", 16, AESGCM),
        Suite("chacha20-poly1305", 32, ChaCha20Poly1305),
    )
}


def suite_named(name: str) -> Suite:
    """The suite of this name; `Refused("policy")` where there is none, which `mcsa.policy` should have caught."""
    try:
        return SUITES[name]
    except KeyError:
        raise Refused("policy", "group-policy.suite", f"there is no suite '{name[:40]}'") from None
