from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mcsa.x25519 import _ORDER_8, load_public_key

PRIME = 2**255 - 19
SMALL_ORDER = [0, 1, PRIME - 1, PRIME, PRIME + 1, *_ORDER_8]


@pytest.mark.parametrize("top_bit", [0, 2**255])
@pytest.mark.parametrize("coordinate", SMALL_ORDER)
def test_openssl_refuses_to_exchange_with_them_and_we_to_load_them(coordinate: int, top_bit: int) -> None:
    raw = (coordinate + top_bit).to_bytes(32, "little")
    with pytest.raises(ValueError, match="shared key"):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(raw))
    with pytest.raises(ValueError, match="small order"):
        load_public_key(raw)


@pytest.mark.parametrize(
    "raw",
    [*[n.to_bytes(32, "little") for n in (2, 9, PRIME - 2, PRIME + 2)], os.urandom(32)],
    ids=["2", "9", "prime - 2", "prime + 2", "random"],
)
def test_others_can_be_exchanged_with(raw: bytes) -> None:
    assert any(X25519PrivateKey.generate().exchange(load_public_key(raw)))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_other_sizes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        load_public_key(bytes([9] * size))
