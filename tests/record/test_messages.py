"""Fragments that no entry of a record can consist of."""

from __future__ import annotations

import pytest

from mcsa.control.fragments import sign_fragment
from mcsa.errors import Rejected
from mcsa.record.messages import Streams
from mcsa.v1.conference_pb2 import Fragment
from tests.record.parts import Conference


def rejected(one: Conference, fragments: list[Fragment]) -> str:
    with pytest.raises(Rejected) as caught:
        Streams(one.id, one.world.trust()).take(2, one.now, fragments)
    return caught.value.cause


def test_no_fragments_are_no_message():
    assert rejected(Conference(), []) == "pieces"


def test_a_fragment_has_its_lengths_and_its_place():
    one = Conference()
    alice = one.world.user("alice")
    assert rejected(one, [sign_fragment(alice, one.id, bytes(16), 1, 0, 1, b"")]) == "fragment"
    assert rejected(one, [sign_fragment(alice, one.id, b"short", 1, 0, 1, b"body")]) == "fragment"
    assert rejected(one, [sign_fragment(alice, one.id, bytes(16), 0, 1, 1, b"body")]) == "place"


def test_a_message_longer_than_any_is_refused():
    one = Conference()
    alice = one.world.user("alice")
    pieces = [sign_fragment(alice, one.id, bytes(16), 1, index, 2, bytes(40_000)) for index in range(2)]
    assert rejected(one, pieces) == "message"


def test_fragments_of_two_conferences_are_no_message():
    one = Conference()
    alice = one.world.user("alice")
    ids = (one.id, bytes(16))
    pieces = [sign_fragment(alice, ids[index], bytes(16), 1, index, 2, b"body") for index in range(2)]
    assert rejected(one, pieces) == "pieces"
