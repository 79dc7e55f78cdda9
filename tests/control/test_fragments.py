"""The datagram: what fits, what a signature covers, what is no fragment at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mcsa.authority import CertificationAuthority
from mcsa.control.fragments import (
    BODY_MIN,
    DATAGRAM_MAX,
    FRAGMENTS_MAX,
    MESSAGE_MAX,
    body_room,
    join,
    parse_fragment,
    sign_fragment,
    sign_message,
    split,
    verify_fragment,
)
from mcsa.control.status import status_parts
from mcsa.errors import Refused, Rejected
from mcsa.identity import Credentials
from mcsa.v1.conference_pb2 import Fragment, StreamPosition
from tests.control.parts import CONFERENCE, PROCESS, changed, introduction, piece, sealed
from tests.world import NOW, World

LONGEST = ".".join(["x" * 31, "y" * 31])  # 63 characters, as a name may have


@pytest.mark.parametrize("name", ["ann", LONGEST])
@pytest.mark.parametrize("sequence", [0, 1, 2, 2**32 - 1])
def test_each_datagram_fits(world: World, name: str, sequence: int):
    user = world.user(name)
    raw = bytes(MESSAGE_MAX)
    pieces = sign_message(user, CONFERENCE, PROCESS, sequence, raw)
    assert max(len(fragment.SerializeToString()) for fragment in pieces) <= DATAGRAM_MAX
    assert max(len(fragment.SerializeToString()) for fragment in pieces) > DATAGRAM_MAX - 16
    assert join(pieces) == raw
    assert len(pieces) <= FRAGMENTS_MAX


def test_status_with_chain_fits(world: World):
    user = world.user(LONGEST)
    others = [StreamPosition(process_id=i.to_bytes(16, "big"), sequence=2**32 - 1) for i in range(200)]
    own = StreamPosition(process_id=PROCESS, sequence=2**32 - 1)
    parts = status_parts(own, others, 2**32 - 1, 2**32 - 1, body_room(user, 0))
    for index, body in enumerate(parts):
        fragment = sign_fragment(user, CONFERENCE, PROCESS, 0, index, len(parts), body)
        assert len(fragment.SerializeToString()) <= DATAGRAM_MAX


def test_too_long_a_message_is_refused():
    with pytest.raises(Refused) as refused:
        split(bytes(MESSAGE_MAX + 1), 1_000)
    assert refused.value.code == "message-too-long"


def test_a_chain_that_fits_in_no_datagram_is_refused(world: World):
    user = world.user("ann")
    bearer = Credentials(user.private_key, [user.chain[0]] * 3)
    with pytest.raises(Refused) as refused:
        body_room(bearer, 1)
    assert refused.value.code == "chain-too-long"
    assert body_room(bearer, 2) > BODY_MIN


def test_chain_goes_with_introduction_and_status_only(world: World):
    user = world.user("ann")
    for sequence, there in ((0, True), (1, True), (2, False)):
        fragment = sign_fragment(user, CONFERENCE, PROCESS, sequence, 0, 1, b"body")
        assert (list(fragment.certificate_chain) == list(user.chain)) == there


@pytest.mark.parametrize(
    "fields",
    [
        {"conference_id": b"d" * 16},
        {"process_id": b"q" * 16},
        {"sequence": 3},
        {"index": 0},
        {"count": 4},
        {"body": b"other"},
        {"signature": bytes(64)},
    ],
)
def test_the_signature_covers_all(world: World, fields: dict[str, object]):
    user = world.user("ann")
    datagram = piece(user, 2, b"body", index=1, count=3)
    assert verify_fragment(parse_fragment(datagram), user.chain[0]).body == b"body"
    with pytest.raises(Rejected) as rejected:
        verify_fragment(parse_fragment(changed(datagram, **fields)), user.chain[0])
    assert rejected.value.cause == "signature"


def test_the_signature_covers_the_certificate(world: World):
    """A second certificate of the same key and name doesn't make another's signature of it."""
    user = world.user("ann")
    fragment = parse_fragment(piece(user, 2, b"body"))
    renewed = world.authority.issue("user", "ann", NOW)
    with pytest.raises(Rejected) as rejected:
        verify_fragment(fragment, renewed.chain[0])
    assert rejected.value.cause == "signature"


def test_user_must_be_the_certificates(world: World):
    fragment = parse_fragment(piece(world.user("ann"), 2, b"body"))
    with pytest.raises(Rejected) as rejected:
        verify_fragment(fragment, world.user("bob").chain[0])
    assert rejected.value.cause == "user"


def test_what_is_no_certificate_is_rejected(world: World):
    fragment = parse_fragment(piece(world.user("ann"), 2, b"body"))
    with pytest.raises(Rejected) as rejected:
        verify_fragment(fragment, b"no certificate")
    assert rejected.value.cause == "certificate"


def test_a_certificate_of_nobody_is_rejected(world: World):
    fragment = parse_fragment(piece(world.user("ann"), 2, b"body"))
    anchor = CertificationAuthority.create("example.org", NOW).certificate
    with pytest.raises(Rejected) as rejected:
        verify_fragment(fragment, anchor.public_bytes(Encoding.DER))
    assert rejected.value.cause == "name"


@pytest.mark.parametrize(
    ("cause", "fields"),
    [
        ("fragment", {"conference_id": b"short"}),
        ("fragment", {"process_id": b""}),
        ("fragment", {"signature": bytes(63)}),
        ("fragment", {"body": b""}),
        ("place", {"count": 0}),
        ("place", {"index": 3}),
        ("place", {"count": FRAGMENTS_MAX + 1}),
        ("chain", {"sequence": 1}),
        ("chain", {"sequence": 0}),
        ("chain", {"certificate_chain": [b"der"]}),
        ("oversize", {"body": bytes(DATAGRAM_MAX)}),
    ],
)
def test_what_is_no_fragment_is_rejected(world: World, cause: str, fields: dict[str, object]):
    datagram = piece(world.user("ann"), 2, b"body", index=1, count=3)
    with pytest.raises(Rejected) as rejected:
        parse_fragment(changed(datagram, **fields))
    assert rejected.value.cause == cause


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 20, b"\x0a\x10", bytes(500)])
def test_garbage_is_rejected(garbage: bytes):
    with pytest.raises(Rejected) as rejected:
        parse_fragment(garbage)
    assert rejected.value.cause == "fragment"


def test_every_truncation_is_rejected(world: World):
    user = world.user("ann")
    datagram = piece(user, 2, sealed(b"text"))
    for size in range(len(datagram)):
        with pytest.raises(Rejected):
            verify_fragment(parse_fragment(datagram[:size]), user.chain[0])


def test_unknown_fields_are_left_out(world: World):
    datagram = piece(world.user("ann"), 1, introduction())
    assert parse_fragment(datagram + b"\xfa\x7f\x05extra") == Fragment.FromString(datagram)
    assert parse_fragment(datagram + b"\xfa\x7f\x05extra").SerializeToString() == datagram
