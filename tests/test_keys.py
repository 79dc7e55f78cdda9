import json
import pickle

import pytest

from mcsa.encoding import digest, encode_parts
from mcsa.keys import ConferenceKey, GroupKey, UpdateKey, WrapKey
from tests.world import seeded


def test_a_key_shows_a_fingerprint_and_nothing_else():
    key = GroupKey(bytes(range(32)))
    for shown in (repr(key), str(key), f"{key}", repr([key]), repr({"k": key})):
        assert key.fingerprint in shown
        assert bytes(range(32)).hex()[:8] not in shown
        assert repr(bytes(range(32)))[2:10] not in shown


def test_a_key_is_not_pickled_nor_dumped():
    key = GroupKey(bytes(32))
    with pytest.raises(TypeError):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        json.dumps(key)


def test_keys_are_equal_by_type_and_bytes():
    assert GroupKey(bytes(32)) == GroupKey(bytes(32))
    assert GroupKey(bytes(32)) != ConferenceKey(bytes(32))
    assert GroupKey(bytes(32)) != GroupKey(bytes([1] * 32))
    assert len({GroupKey(bytes(32)), GroupKey(bytes(32)), WrapKey(bytes(32))}) == 2


def test_a_key_has_its_size():
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        GroupKey(bytes(31))


def test_derived_keys_differ_with_each_part_of_the_info():
    key = GroupKey.draw(seeded(1))
    derived = {
        UpdateKey.derive(key, *info)
        for info in [("a",), ("b",), ("a", 1), ("a", 2), ("a", b"1"), ("a", "1", ""), ("a1",)]
    }
    assert len(derived) == 7


def test_parts_can_not_be_shifted_into_each_other():
    assert encode_parts("ab", "c") != encode_parts("a", "bc")
    assert encode_parts(b"", b"") != encode_parts(b"")
    assert encode_parts("x", 1) == b"\0\0\0\1x\0\0\0\x08" + bytes(7) + b"\1"
    assert digest("a", b"b") != digest("a", b"b", b"")
