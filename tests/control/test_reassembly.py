"""Whole messages, in order, each once; bounds that hold against the signer."""

from __future__ import annotations

import itertools

import pytest

from mcsa.control.fragments import MESSAGE_MAX
from mcsa.control.reassembly import PENDING_BYTES, WINDOW, Reassembly
from mcsa.errors import Rejected
from mcsa.v1.conference_pb2 import Fragment
from tests.control.parts import introduction, sealed, status


def fragments(sequence: int, raw: bytes, size: int = 1_000) -> list[Fragment]:
    bodies = [raw[start : start + size] for start in range(0, len(raw), size)]
    return [Fragment(sequence=sequence, index=i, count=len(bodies), body=body) for i, body in enumerate(bodies)]


def begun() -> Reassembly:
    incoming = Reassembly()
    incoming.take(*fragments(1, introduction()))
    assert [whole.sequence for whole in incoming.ready()] == [1]
    return incoming


def rejected_by(incoming: Reassembly, fragment: Fragment) -> str:
    with pytest.raises(Rejected) as rejected:
        incoming.take(fragment)
    return rejected.value.cause


def test_any_order_gives_the_same():
    pieces = [*fragments(2, sealed(bytes(1_500))), *fragments(3, sealed(bytes(1_200)))]
    for order in itertools.permutations(pieces):
        incoming = begun()
        out = []
        for fragment in order:
            incoming.take(fragment)
            out += [(whole.sequence, len(whole.message.sealed.sframe), whole.fragments) for whole in incoming.ready()]
        assert out == [(2, 1_500, tuple(pieces[:2])), (3, 1_200, tuple(pieces[2:]))]
        assert incoming.complete == 3


def test_count_changed_in_mid_message():
    incoming = begun()
    incoming.take(Fragment(sequence=2, index=0, count=2, body=b"a"))
    assert rejected_by(incoming, Fragment(sequence=2, index=1, count=3, body=b"b")) == "count"


def test_a_piece_more_of_what_was_delivered():
    incoming = begun()
    assert rejected_by(incoming, Fragment(sequence=1, index=1, count=2, body=b"b")) == "count"


def test_message_oversize():
    incoming = begun()
    pieces = fragments(2, bytes(MESSAGE_MAX + 1))
    for fragment in pieces[:-1]:
        incoming.take(fragment)
    assert rejected_by(incoming, pieces[-1]) == "oversize"


@pytest.mark.parametrize(
    ("sequence", "raw"), [(2, b"\xff\xff"), (2, introduction()), (2, status(1)), (1, sealed(b"")), (1, b"\xff\xff")]
)
def test_what_can_not_stand_there_ends_the_stream(sequence: int, raw: bytes):
    incoming = begun() if sequence == 2 else Reassembly()
    incoming.take(*fragments(sequence + 1, sealed(b"later")))
    assert rejected_by(incoming, *fragments(sequence, raw)) == "message"
    assert rejected_by(incoming, *fragments(sequence, sealed(b"better"))) == "message"
    assert list(incoming.ready()) == []
    assert incoming.complete == sequence - 1


def test_a_body_of_a_newer_version_passes():
    incoming = begun()
    incoming.take(*fragments(2, b"\xfa\x7f\x03new"))
    (whole,) = incoming.ready()
    assert whole.message.WhichOneof("body") is None
    assert whole.raw == b"\xfa\x7f\x03new"


def test_reach():
    incoming = begun()
    for sequence, out in ((1, False), (2, False), (1 + WINDOW, False), (2 + WINDOW, True)):
        assert incoming.out_of_reach(Fragment(sequence=sequence)) == out
    incoming.skip_to(10)
    assert incoming.out_of_reach(Fragment(sequence=9))
    assert not incoming.out_of_reach(Fragment(sequence=10))


def test_pending_is_bounded_and_earlier_goes_first():
    """More than the bound, from the end: what is kept is the beginning, and the stream goes on."""
    incoming = begun()
    messages = {sequence: fragments(sequence, sealed(bytes(8_000))) for sequence in range(2, 102)}
    for sequence in reversed(range(3, 102)):
        for fragment in messages[sequence]:
            incoming.take(fragment)
    kept = [fragment for message in messages.values() for fragment in message if incoming.known(fragment)]
    assert 0 < sum(fragment.ByteSize() for fragment in kept) <= PENDING_BYTES
    for fragment in messages[2]:
        incoming.take(fragment)
    delivered = [whole.sequence for whole in incoming.ready()]
    assert delivered[:20] == list(range(2, 22))


def test_skipping_forward_drops_what_is_before():
    incoming = begun()
    incoming.take(Fragment(sequence=3, index=0, count=2, body=b"a"))
    incoming.take(*fragments(5, sealed(b"five")))
    incoming.skip_to(5)
    assert [whole.sequence for whole in incoming.ready()] == [5]
    incoming.skip_to(2)
    assert incoming.complete == 5


def test_known_places():
    incoming = begun()
    piece = Fragment(sequence=2, index=1, count=2, body=b"b")
    incoming.take(piece)
    assert incoming.known(Fragment(sequence=2, index=1)) == piece
    assert incoming.known(Fragment(sequence=2, index=0)) is None
    assert incoming.known(Fragment(sequence=1, index=0)) == fragments(1, introduction())[0]
    assert incoming.known(Fragment(sequence=1, index=1)) is None
