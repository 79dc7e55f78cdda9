import pytest

from mcsa.envelope import Expected, parse_envelope, sign_envelope, type_name
from mcsa.errors import Rejected
from mcsa.v1.envelope_pb2 import Envelope
from mcsa.v1.sd_pb2 import AnnounceRequest, ListRequest
from tests.world import NOW, World, seeded

ID = bytes(range(16))


@pytest.fixture
def raw(world: World) -> bytes:
    """alpha tells the directory something."""
    return sign_envelope(world.host("alpha"), AnnounceRequest(sdp=b"v=0"), "dir", ID, NOW + 10).raw


EXPECTED = Expected(["dir"], {type_name(AnnounceRequest): AnnounceRequest}, ["host"])


def cause(world: World, raw: bytes, expected: Expected = EXPECTED, now: float = NOW) -> str:
    with pytest.raises(Rejected) as caught:
        parse_envelope(raw).verify(world.trust(), expected, now)
    return caught.value.cause


def changed(raw: bytes, **fields: object) -> bytes:
    envelope = Envelope.FromString(raw)
    for name, value in fields.items():
        if isinstance(value, list):
            envelope.ClearField(name)  # type: ignore[arg-type]
            getattr(envelope, name).extend(value)
        else:
            setattr(envelope, name, value)
    return envelope.SerializeToString()


def test_a_good_one_is_believed(world: World, raw: bytes):
    verified = parse_envelope(raw).verify(world.trust(), EXPECTED, NOW)
    assert verified.sender.id.name == "alpha"
    assert verified.message == AnnounceRequest(sdp=b"v=0")
    assert verified.request_id == ID
    assert verified.deadline_at == NOW + 10


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"version": 2}, "version"),
        ({"message_type": "mcsa.v1.ListRequest"}, "message-type"),
        ({"recipient": "another"}, "recipient"),
        ({"in_reply_to": b"x"}, "in-reply-to"),
        ({"certificate_chain": []}, "certificate"),
        ({"sender": "spiffe://example.org/host/beta"}, "sender"),
        ({"payload": b"\n\3v=1"}, "signature"),
        ({"signature": b""}, "signature"),
        ({"signature": bytes(64)}, "signature"),
        ({"deadline_ms": int((NOW + 11) * 1000)}, "signature"),
        ({"deadline_ms": int((NOW - 31) * 1000)}, "late"),
        ({"deadline_ms": int((NOW + 91) * 1000)}, "deadline"),
        ({"request_id": b"short"}, "malformed"),
        ({"request_id": bytes(16)}, "signature"),
    ],
)
def test_what_was_changed_is_rejected(world: World, raw: bytes, fields: dict[str, object], expected: str):
    assert cause(world, changed(raw, **fields)) == expected


def test_every_truncation_and_every_flipped_byte_is_rejected(world: World, raw: bytes):
    trust = world.trust()
    for position in range(len(raw)):
        for broken in (raw[:position], raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]):
            with pytest.raises(Rejected):
                parse_envelope(broken).verify(trust, EXPECTED, NOW)


def test_garbage_is_rejected(world: World):
    random = seeded(7)
    for size in (0, 1, 10, 100, 1000):
        with pytest.raises(Rejected):
            parse_envelope(random(size))
    with pytest.raises(Rejected):
        parse_envelope(bytes(600_000))


def test_a_clock_may_differ_by_half_a_minute(world: World, raw: bytes):
    parse_envelope(raw).verify(world.trust(), EXPECTED, NOW + 39)
    assert cause(world, raw, now=NOW + 41) == "late"


def test_kind_and_type_are_the_receivers_choice(world: World, raw: bytes):
    assert cause(world, raw, Expected(["dir"], EXPECTED.types, ["authorizer"])) == "kind"
    assert cause(world, raw, Expected(["dir"], {type_name(ListRequest): ListRequest}, ["host"])) == "message-type"


def test_a_payload_that_is_none_is_rejected(world: World):
    envelope = Envelope.FromString(sign_envelope(world.host("alpha"), ListRequest(), "dir", ID, NOW + 10).raw)
    envelope.message_type = type_name(AnnounceRequest)
    envelope.payload = b"\xff\xff"
    alpha = world.host("alpha")
    parts = (1, envelope.message_type, envelope.sender, "dir", ID, envelope.deadline_ms, b"", envelope.payload)
    envelope.signature = alpha.sign("mcsa envelope v1", *parts, *alpha.chain)
    assert cause(world, envelope.SerializeToString()) == "malformed"


def test_a_sender_of_a_peer_domain_is_expected_by_domain_and_kind_or_not_at_all():
    world, peer, other = World("a.example"), World("b.example"), World("c.example")
    world.peers += [peer, other]

    def raw_of(sender: World, kind: str) -> bytes:
        credentials = sender.credentials(kind, "main")
        return sign_envelope(credentials, AnnounceRequest(sdp=b"v=0"), "dir", ID, NOW + 10).raw

    named = Expected(["dir"], EXPECTED.types, ["host"], peers={"b.example": ["authorizer"]})
    assert cause(world, raw_of(peer, "authorizer")) == "certificate"
    assert parse_envelope(raw_of(peer, "authorizer")).verify(world.trust(), named, NOW).sender.id.domain == "b.example"
    assert parse_envelope(raw_of(world, "host")).verify(world.trust(), named, NOW).sender.id.domain == "a.example"
    assert cause(world, raw_of(peer, "host"), named) == "kind"
    assert cause(world, raw_of(world, "authorizer"), named) == "kind"
    assert cause(world, raw_of(other, "authorizer"), named) == "kind"
    assert cause(world, raw_of(World("d.example"), "authorizer"), named) == "certificate"
