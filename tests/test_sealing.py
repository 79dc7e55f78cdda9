"""HPKE: what is sealed opens for its owner only; keys that nothing can be sealed to are found before."""

from __future__ import annotations

import pytest

from mcsa.errors import Rejected
from mcsa.sealing import SUITES, SealingKey, check_public_key, seal_to


@pytest.mark.parametrize("suite", SUITES)
def test_what_is_sealed_opens(suite: str) -> None:
    key = SealingKey.generate(suite)
    check_public_key(suite, key.public)
    assert key.open(seal_to(suite, key.public, b"secret", b"info"), b"info") == b"secret"
    assert key.public.hex() not in repr(key)


@pytest.mark.parametrize("suite", SUITES)
def test_what_was_sealed_otherwise_does_not(suite: str) -> None:
    key, other = SealingKey.generate(suite), SealingKey.generate(suite)
    sealed = seal_to(suite, key.public, b"secret", b"info")
    for opener, raw, info in ((other, sealed, b"info"), (key, sealed, b"else"), (key, sealed[:-1], b"info")):
        with pytest.raises(Rejected, match="sealing"):
            opener.open(raw, info)


@pytest.mark.parametrize("suite", SUITES)
def test_keys_that_nothing_can_be_sealed_to(suite: str) -> None:
    public = SealingKey.generate(suite).public
    for bad in (b"", public[:-1], public + b"\0", public[:-32] + bytes(32)):  # the last of small order
        with pytest.raises(Rejected, match="suite"):
            check_public_key(suite, bad)
        with pytest.raises(Rejected, match="suite"):
            seal_to(suite, bad, b"secret", b"info")


def test_an_ml_kem_key_out_of_range() -> None:
    """FIPS 203, section 7.2: each coefficient is below 3,329."""
    public = SealingKey.generate("x-wing").public
    with pytest.raises(Rejected, match="suite"):
        check_public_key("x-wing", b"\xff" * 1184 + public[1184:])


def test_an_unknown_suite() -> None:
    with pytest.raises(Rejected, match="suite"):
        SealingKey.generate("rot13")
    with pytest.raises(Rejected, match="suite"):
        check_public_key("rot13", bytes(32))
    with pytest.raises(Rejected, match="suite"):
        seal_to("rot13", bytes(32), b"", b"")
