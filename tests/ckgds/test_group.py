"""The prime-order group: vectors of RFC 8032, encodings that must not get in, proofs."""

from __future__ import annotations

import hashlib

import pytest

from mcsa.ckgds.group import (
    IDENTITY,
    ORDER,
    add,
    check_element,
    check_equality,
    draw_scalar,
    multiply,
    multiply_base,
    parse_scalar,
    prove_equality,
    subtract,
)
from mcsa.errors import Rejected
from tests.world import seeded

RFC8032_KEYS = [  # section 7.1, tests 1 to 3: secret key, public key
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ),
]


@pytest.mark.parametrize(("secret", "public"), RFC8032_KEYS)
def test_multiples_of_the_base_are_those_of_rfc_8032(secret: str, public: str):
    digest = bytearray(hashlib.sha512(bytes.fromhex(secret)).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    assert multiply_base(int.from_bytes(digest, "little")).hex() == public


def test_addition_and_multiplication_agree():
    one, other = draw_scalar(seeded(1)), draw_scalar(seeded(2))
    total = add(multiply_base(one), multiply_base(other))
    assert total == multiply_base(one + other)
    assert subtract(total, multiply_base(other)) == multiply_base(one)
    assert multiply(one, multiply_base(other)) == multiply(other, multiply_base(one))
    assert multiply(ORDER, multiply_base(one)) == multiply_base(ORDER) == IDENTITY
    assert multiply(one, IDENTITY) == IDENTITY


SMALL_ORDER = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"  # a point of order 8


@pytest.mark.parametrize(
    "raw",
    [
        IDENTITY,
        bytes(32),
        bytes.fromhex(SMALL_ORDER),
        b"\xff" * 32,
        (2**255 - 19 + 1).to_bytes(32, "little"),
        bytes([2]) + bytes(31),
        multiply_base(5)[:31],
        multiply_base(5) + b"\0",
        add(multiply_base(5), bytes.fromhex(SMALL_ORDER)),
    ],
    ids=["identity", "order 4", "order 8", "ones", "not canonical", "off the curve", "short", "long", "mixed order"],
)
def test_what_is_no_element_of_the_group_is_rejected(raw: bytes):
    with pytest.raises(Rejected) as caught:
        check_element(raw)
    assert caught.value.cause == "invalid-element"


def test_a_scalar_is_reduced_and_of_one_size():
    assert parse_scalar((ORDER - 1).to_bytes(32, "little")) == ORDER - 1
    for raw in (ORDER.to_bytes(32, "little"), bytes(31), bytes(33)):
        with pytest.raises(Rejected):
            parse_scalar(raw)


def proven(secret: int = 7, context: bytes = b"run") -> tuple[bytes, bytes, bytes, bytes]:
    base = multiply_base(11)
    return prove_equality(secret, base, context, seeded(3)), multiply_base(secret), base, multiply(secret, base)


def test_an_honest_proof_is_accepted():
    proof, over_base, base, over_other = proven()
    check_equality(proof, over_base, base, over_other, b"run")


@pytest.mark.parametrize("place", [0, 31, 32, 63])
def test_a_proof_with_one_bit_changed_is_rejected(place: int):
    proof, over_base, base, over_other = proven()
    forged = bytearray(proof)
    forged[place] ^= 1
    with pytest.raises(Rejected):
        check_equality(bytes(forged), over_base, base, over_other, b"run")


def test_a_proof_of_something_else_is_rejected():
    proof, over_base, base, over_other = proven()
    for wrong in (
        (proof, multiply_base(8), base, over_other, b"run"),
        (proof, over_base, multiply_base(12), over_other, b"run"),
        (proof, over_base, base, multiply(8, base), b"run"),
        (proof, over_base, base, over_other, b"another run"),
    ):
        with pytest.raises(Rejected) as caught:
            check_equality(*wrong)
        assert caught.value.cause == "wrong-proof"
    with pytest.raises(Rejected):
        check_equality(proof[:63], over_base, base, over_other, b"run")
