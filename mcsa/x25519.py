"""X25519 public keys of strangers: those with which every exchange gives zero are refused (RFC 7748, section 6.1)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

_PRIME = 2**255 - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, *_ORDER_8})  # Bernstein, "Curve25519", "validate public keys", modulo p


def load_public_key(raw: bytes) -> X25519PublicKey:
    """A key that can be exchanged with; `ValueError` where it is none.

    The points of small order are known, so they are looked up: an exchange to find out costs fifty times as much.
    """
    key = X25519PublicKey.from_public_bytes(raw)
    coordinate = (int.from_bytes(raw, "little") & (2**255 - 1)) % _PRIME  # the top bit doesn't count: section 5
    if coordinate in _SMALL_ORDER:
        raise ValueError("a point of small order")
    return key
