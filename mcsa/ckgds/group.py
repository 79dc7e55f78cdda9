"""A group of prime order: the subgroup of edwards25519 that has order `ORDER` (RFC 8032, section 5.1).

Elements are 32-byte encodings, scalars 32 bytes little-endian below L, arithmetic libsodium's. Written additively: what
papers write as g^x is `x * G` here. X25519 would not do: schemes need inverses and sums.
"""

from __future__ import annotations

import hashlib

from nacl import bindings

from mcsa.encoding import Part, encode_parts
from mcsa.errors import Rejected
from mcsa.keys import Random

ELEMENT_SIZE = 32
SCALAR_SIZE = 32
ORDER = 2**252 + 27742317777372353535851937790883648493
IDENTITY = bytes([1]) + bytes(31)
PROOF_SIZE = 2 * SCALAR_SIZE


def draw_scalar(random: Random) -> int:
    """A uniform scalar, never zero."""
    while True:
        scalar = int.from_bytes(random(64), "little") % ORDER
        if scalar:
            return scalar


def check_element(raw: bytes) -> bytes:
    """An element other than the identity; `Rejected("invalid-element")` for anything else.

    Not canonical, not on the curve, of small or mixed order: each would let a party steer or learn the key.
    """
    if len(raw) != ELEMENT_SIZE or not bindings.crypto_core_ed25519_is_valid_point(raw):
        raise Rejected("invalid-element")
    return raw


def multiply(scalar: int, element: bytes) -> bytes:
    """scalar * element; the identity stays what it is."""
    scalar %= ORDER
    if element == IDENTITY or scalar == 0:
        return IDENTITY
    result: bytes = bindings.crypto_scalarmult_ed25519_noclamp(scalar.to_bytes(SCALAR_SIZE, "little"), element)
    return result


def multiply_base(scalar: int) -> bytes:
    """scalar * G."""
    scalar %= ORDER
    if scalar == 0:
        return IDENTITY
    result: bytes = bindings.crypto_scalarmult_ed25519_base_noclamp(scalar.to_bytes(SCALAR_SIZE, "little"))
    return result


def add(one: bytes, other: bytes) -> bytes:
    """The sum of two elements."""
    result: bytes = bindings.crypto_core_ed25519_add(one, other)
    return result


def subtract(one: bytes, other: bytes) -> bytes:
    """The difference of two elements."""
    result: bytes = bindings.crypto_core_ed25519_sub(one, other)
    return result


def parse_scalar(raw: bytes) -> int:
    """A scalar as it is sent; `Rejected("malformed")` where it isn't reduced."""
    scalar = int.from_bytes(raw, "little")
    if len(raw) != SCALAR_SIZE or scalar >= ORDER:
        raise Rejected("malformed", "scalar")
    return scalar


def prove_equality(secret: int, base: bytes, context: bytes, random: Random) -> bytes:
    """Proof that log_G(secret*G) = log_base(secret*base), without showing it (Chaum and Pedersen 1992, made
    non-interactive by Fiat and Shamir): challenge and response, 64 bytes. Bound to `context`."""
    nonce = draw_scalar(random)
    commitments = multiply_base(nonce), multiply(nonce, base)
    challenge = _challenge(context, base, multiply_base(secret), multiply(secret, base), *commitments)
    response = (nonce + challenge * secret) % ORDER
    return challenge.to_bytes(SCALAR_SIZE, "little") + response.to_bytes(SCALAR_SIZE, "little")


def check_equality(proof: bytes, over_base: bytes, base: bytes, over_other: bytes, context: bytes) -> None:
    """Raises `Rejected("wrong-proof")` unless log_G(over_base) = log_base(over_other) was proven in this context."""
    if len(proof) != PROOF_SIZE:
        raise Rejected("malformed", "proof")
    challenge, response = parse_scalar(proof[:SCALAR_SIZE]), parse_scalar(proof[SCALAR_SIZE:])
    first = subtract(multiply_base(response), multiply(challenge, over_base))
    second = subtract(multiply(response, base), multiply(challenge, over_other))
    if challenge != _challenge(context, base, over_base, over_other, first, second):
        raise Rejected("wrong-proof")


def _challenge(*parts: Part) -> int:
    wide = hashlib.sha512(encode_parts("mcsa equality proof v1", *parts)).digest()
    return int.from_bytes(wide, "little") % ORDER
