from __future__ import annotations

import pytest

from mcsa.errors import Refused
from mcsa.esp.suite import ICV_SIZE, IV_SIZE, SALT_SIZE, SUITES, suite_named
from mcsa.policy import DEFAULTS


def test_sizes_are_those_of_the_rfcs() -> None:
    assert (SALT_SIZE, IV_SIZE, ICV_SIZE) == (4, 8, 16)
    # RFC 4106 section 8.1: 20 octets for AES-128, 36 for AES-256; RFC 7634 section 2: 36
    sizes = {name: suite.keymat_size for name, suite in SUITES.items()}
    assert sizes == {"aes-128-gcm": 20, "aes-256-gcm": 36, "chacha20-poly1305": 36}


def test_the_default_policy_names_a_suite() -> None:
    assert suite_named(DEFAULTS.suite).key_size == 32


def test_an_unknown_suite_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        suite_named("null")
    assert refused.value.rule == "group-policy.suite"
