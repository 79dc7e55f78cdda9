"""Addresses for new groups."""

from __future__ import annotations

import pytest

from mcsa.errors import Refused
from services.authorizer.creating import give_address

POOL = "239.1.1.0/30"
ALL = [f"239.1.1.{number}" for number in range(4)]


def test_an_address_that_seems_to_be_in_use_is_given_last() -> None:
    for group in range(16):
        group_id = bytes([0] * 7 + [group]) + bytes(8)
        assert give_address("", group_id, POOL, set(), ALL[:3]) == ALL[3]
        assert give_address("", group_id, POOL, {ALL[3]}, ALL[:3]) in ALL[:3]  # liars can't use the pool up
    with pytest.raises(Refused) as caught:
        give_address("", bytes(16), POOL, set(ALL), ALL)
    assert caught.value.rule == "pool"


def test_an_address_that_the_coordinator_asks_for_is_its_own_choice() -> None:
    assert give_address(ALL[0], bytes(16), POOL, set(), ALL) == ALL[0]
    with pytest.raises(Refused) as caught:
        give_address(ALL[0], bytes(16), POOL, {ALL[0]})
    assert caught.value.rule == "in-use"
