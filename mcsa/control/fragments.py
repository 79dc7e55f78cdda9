"""The datagram of a control group: one `Fragment`, signed by its user, at most `DATAGRAM_MAX` bytes."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from google.protobuf.message import DecodeError

from mcsa.encoding import Part
from mcsa.errors import Refused, Rejected
from mcsa.identity import SIGNATURE_SIZE, Credentials, Identity, name_in
from mcsa.v1.conference_pb2 import Fragment

FRAGMENT_LABEL = "mcsa fragment v1"
ID_SIZE = 16  # bytes of a conference's and of a process's id
DATAGRAM_MAX = 1_300  # bytes: with a proof of its source, an origin, ESP, UDP and IPv6 around it below Ethernet's 1,500
MESSAGE_MAX = 64 * 1024  # bytes of a serialised ControlMessage
BODY_MIN = 104  # bytes beside the chain at least: a Status that makes progress (own stream and two others) fits
FRAGMENTS_MAX = -(-MESSAGE_MAX // BODY_MIN)  # of one message
_BODY_HEAD = 3  # bytes of protobuf tag and length before a body


def sign_fragment(
    user: Credentials, conference_id: bytes, process_id: bytes, sequence: int, index: int, count: int, body: bytes
) -> Fragment:
    """One signed fragment; with the chain where `sequence` is 0 (Status) or 1 (a stream's first message)."""
    fragment = Fragment(
        conference_id=conference_id,
        process_id=process_id,
        user=str(user.id),
        sequence=sequence,
        index=index,
        count=count,
        body=body,
        certificate_chain=user.chain if sequence <= 1 else (),
    )
    fragment.signature = user.sign(FRAGMENT_LABEL, *_signed_parts(fragment, user.identity.fingerprint))
    return fragment


def check_fragment(fragment: Fragment, identity: Identity) -> None:
    """Raises `Rejected("user")` (it names another) or `Rejected("signature")` unless `identity` signed it."""
    if fragment.user != str(identity.id):
        raise Rejected("user", fragment.user[:80])
    identity.check_signature(fragment.signature, FRAGMENT_LABEL, *_signed_parts(fragment, identity.fingerprint))


def verify_fragment(fragment: Fragment, certificate: bytes) -> Fragment:
    """The fragment, signed by the owner of this leaf certificate (DER).

    For evidence and records, where a certificate that was verified before is at hand: whether it is to be believed is
    not asked here. Raises `Rejected`: "certificate" (malformed), "name", "user", "signature".
    """
    try:
        leaf = x509.load_der_x509_certificate(certificate)
    except ValueError:
        raise Rejected("certificate", "malformed") from None
    check_fragment(fragment, Identity(name_in(leaf), leaf, (certificate,)))
    return fragment


def body_room(user: Credentials, sequence: int) -> int:
    """How many bytes of a message one datagram takes, with the chain where it goes along.

    `Refused("chain-too-long")` where less than `BODY_MIN` is left.
    """
    widest = Fragment(
        conference_id=bytes(ID_SIZE),
        process_id=bytes(ID_SIZE),
        user=str(user.id),
        sequence=2**32 - 1,
        index=FRAGMENTS_MAX,
        count=FRAGMENTS_MAX,
        signature=bytes(SIGNATURE_SIZE),
        certificate_chain=user.chain if sequence <= 1 else (),
    )
    room = DATAGRAM_MAX - widest.ByteSize() - _BODY_HEAD
    if room < BODY_MIN:
        raise Refused(
            "chain-too-long",
            "a certificate chain goes with one datagram",
            f"The certificate chain of {user.id} is {BODY_MIN - room} bytes too long: take shorter names, or fewer "
            "intermediate certificates.",
        )
    return room


def split(raw: bytes, room: int) -> list[bytes]:
    """A serialised ControlMessage in pieces of at most `room` bytes (`body_room`).

    `Refused("message-too-long")` above `MESSAGE_MAX`.
    """
    if len(raw) > MESSAGE_MAX:
        raise Refused(
            "message-too-long",
            "a control message is at most 64 KiB",
            f"This message is {len(raw)} bytes long: send it in parts of at most {MESSAGE_MAX}.",
        )
    return [raw[start : start + room] for start in range(0, len(raw), room)]


def sign_message(
    user: Credentials, conference_id: bytes, process_id: bytes, sequence: int, raw: bytes
) -> tuple[Fragment, ...]:
    """All fragments of one serialised ControlMessage."""
    bodies = split(raw, body_room(user, sequence))
    return tuple(
        sign_fragment(user, conference_id, process_id, sequence, index, len(bodies), body)
        for index, body in enumerate(bodies)
    )


def join(fragments: Iterable[Fragment]) -> bytes:
    """The serialised ControlMessage that these fragments, in their order, are pieces of."""
    return b"".join(fragment.body for fragment in fragments)


def parse_fragment(datagram: bytes) -> Fragment:
    """What a datagram says, well-formed but not yet believed; fields that we don't know are left out.

    Raises `Rejected`: "oversize", "fragment" (no fragment, or wrong lengths), "place" (index and count that can't be),
    "chain" (missing where it has to be, or there where it has nothing to do).
    """
    if len(datagram) > DATAGRAM_MAX:
        raise Rejected("oversize", f"{len(datagram)} bytes")
    fragment = Fragment()
    try:
        fragment.ParseFromString(datagram)
    except DecodeError:
        raise Rejected("fragment", "no protobuf") from None
    fragment.DiscardUnknownFields()  # no signature covers them
    check_shape(fragment)
    if bool(fragment.certificate_chain) != (fragment.sequence <= 1):
        raise Rejected("chain", f"at sequence {fragment.sequence}")
    return fragment


def check_shape(fragment: Fragment) -> None:
    """Raises `Rejected("fragment")` or `Rejected("place")` for lengths and numbers that can't be."""
    ids = (len(fragment.conference_id), len(fragment.process_id))
    if ids != (ID_SIZE, ID_SIZE) or len(fragment.signature) != SIGNATURE_SIZE or not fragment.body:
        raise Rejected("fragment", "lengths")
    if not fragment.index < fragment.count <= FRAGMENTS_MAX:
        raise Rejected("place", f"{fragment.index} of {fragment.count}")


def differ(one: Fragment, other: Fragment) -> bool:
    """Whether two fragments of one place say different things: the signature may differ, ECDSA is not unique."""
    return one.count != other.count or one.body != other.body


def _signed_parts(fragment: Fragment, fingerprint: bytes) -> tuple[Part, ...]:
    return (
        fragment.conference_id,
        fragment.process_id,
        fragment.sequence,
        fragment.index,
        fragment.count,
        fragment.body,
        fingerprint,
    )
