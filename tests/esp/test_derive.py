from __future__ import annotations

import hashlib
import hmac
import pickle

import pytest

from mcsa.encoding import encode_parts
from mcsa.esp.derive import TrafficKey, derive_traffic_key
from mcsa.esp.spi import EPOCH_TAGS, spi_for
from mcsa.esp.suite import suite_named
from mcsa.keys import GroupKey
from tests.esp.parts import DOMAIN, EPOCH, GROUP_ID, KEY, OTHER_KEY, SENDER, SUITES, traffic_key

SUITE = suite_named("aes-256-gcm")


def test_it_is_hkdf_expand_over_what_the_design_says() -> None:
    info = encode_parts("mcsa esp v1", DOMAIN, GROUP_ID, EPOCH, "aes-256-gcm", spi_for(EPOCH, SENDER))
    first = hmac.digest(KEY.reveal(), info + b"\x01", hashlib.sha256)  # RFC 5869 section 2.3, by hand
    second = hmac.digest(KEY.reveal(), first + info + b"\x02", hashlib.sha256)
    assert traffic_key().reveal() == (first + second)[:36]
    assert traffic_key().salt == second[:4]


@pytest.mark.parametrize(
    ("key", "domain", "group_id", "epoch", "suite", "sender"),
    [
        (OTHER_KEY, DOMAIN, GROUP_ID, EPOCH, SUITE, SENDER),
        (KEY, "example.net", GROUP_ID, EPOCH, SUITE, SENDER),
        (KEY, DOMAIN, bytes(16), EPOCH, SUITE, SENDER),
        (KEY, DOMAIN, GROUP_ID, EPOCH + 1, SUITE, SENDER),
        (KEY, DOMAIN, GROUP_ID, EPOCH + EPOCH_TAGS, SUITE, SENDER),  # the same SPI
        (KEY, DOMAIN, GROUP_ID, EPOCH, suite_named("chacha20-poly1305"), SENDER),  # the same sizes
        (KEY, DOMAIN, GROUP_ID, EPOCH, suite_named("aes-128-gcm"), SENDER),
        (KEY, DOMAIN, GROUP_ID, EPOCH, SUITE, SENDER + 1),
    ],
)
def test_every_input_changes_key_and_salt(
    key: GroupKey, domain: str, group_id: bytes, epoch: int, suite: object, sender: int
) -> None:
    other = derive_traffic_key(key, domain, group_id, epoch, suite, sender)  # type: ignore[arg-type]
    assert other.reveal()[:16] != traffic_key().reveal()[:16]
    assert other.salt != traffic_key().salt


@pytest.mark.parametrize("suite", SUITES)
def test_sizes_follow_the_suite(suite: str) -> None:
    key = traffic_key(suite)
    assert len(key.reveal()) == suite_named(suite).keymat_size
    assert len(key.salt) == 4
    assert key.spi == spi_for(EPOCH, SENDER)


def test_it_is_a_secret() -> None:
    key = traffic_key()
    assert key.reveal().hex() not in repr(key)
    assert key.fingerprint in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_wrong_sizes_are_our_bug() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        derive_traffic_key(KEY, DOMAIN, b"short", EPOCH, SUITE, SENDER)
    with pytest.raises(ValueError, match="36 bytes"):
        TrafficKey(bytes(32), SUITE, spi_for(EPOCH, SENDER))
