"""The key of one source: a P-256 pair that a sending host draws for each registration.

The public half goes into the registration, which the host's own key signs, and from there into the Authorizer's signed
roster: that makes it the source's. The private half signs packets and never leaves the service that drew it.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcsa.errors import Rejected

PUBLIC_SIZE = 33  # bytes: a compressed point (SEC 1, section 2.3.3)
SIGNATURE_SIZE = 64  # raw r || s of P-256
_CURVE = ec.SECP256R1()
_ECDSA = ec.ECDSA(SHA256())


class SourceKey:
    """The private half."""

    __slots__ = ("_key", "public")

    def __init__(self, revealed: bytes = b"") -> None:
        """A fresh pair, or one that was revealed."""
        number = int.from_bytes(revealed, "big")
        self._key = ec.derive_private_key(number, _CURVE) if revealed else ec.generate_private_key(_CURVE)
        self.public = self._key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        """33 bytes."""

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-256, raw r || s, 64 bytes."""
        r, s = decode_dss_signature(self._key.sign(message, _ECDSA))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def reveal(self) -> bytes:
        """The private number, 32 bytes, as `mcsa.keys.Secret` reveals: for another process of the same service."""
        return self._key.private_numbers().private_value.to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"<SourceKey {self.public.hex()[:8]}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a SourceKey is not to be pickled")


class SourcePublicKey:
    """The public half, as the roster has it; `Rejected("source-key")` for bytes that are no point of the curve."""

    __slots__ = ("_verify", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != PUBLIC_SIZE:
            raise Rejected("source-key", f"{len(raw)} bytes, not {PUBLIC_SIZE}")
        try:
            self._verify = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, raw).verify
        except ValueError:
            raise Rejected("source-key", "no point of P-256") from None
        self.raw = raw

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the source signed this message: 64 bytes, raw r || s."""
        der = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            self._verify(der, message, _ECDSA)
        except InvalidSignature:
            return False
        return True
