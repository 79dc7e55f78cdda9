"""Envelopes: from bytes to something one may believe, in steps that can't be skipped.

    bytes --parse_envelope--> Received --Received.verify--> Verified

`Received` has nothing to read but what is needed to verify it; only `Verified` has the message. The checks, in this
order, each with the cause under which it is counted:

1. size and format                              "malformed"
2. version                                      "version"
3. the message type is one expected here        "message-type"
4. it is meant for us                           "recipient"
5. the deadline has not passed ("late"), nor is it further away than 60 s plus 30 s of clock skew ("deadline")
6. an answer is to the request it claims        "in-reply-to"
7. certificate chain, revocation, kind          see `mcsa.trust`
8. the sender is who the certificate says       "sender"
9. the signature                                "signature"
10. the payload                                 "malformed"

The cheap ones come first. The bytes received are verified, never a re-serialisation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf.message import DecodeError, Message

from mcsa.errors import Rejected
from mcsa.identity import Credentials, Identity
from mcsa.trust import Trust
from mcsa.v1.envelope_pb2 import Envelope

VERSION = 1
LABEL = "mcsa envelope v1"
MAX_SIZE = 512 * 1024  # bytes; half of what NATS carries by default
MAX_LIFETIME = 60.0  # seconds from sending to deadline (design, section 5)
CLOCK_SKEW = 30.0  # seconds by which clocks may differ (design, section 5)
REQUEST_ID_SIZE = 16

Types = Mapping[str, type[Message]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a receiver is ready to believe."""

    recipients: Sequence[str]
    types: Types
    kinds: Sequence[str]
    in_reply_to: bytes = b""
    peers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # kinds of senders of other domains, by domain


@dataclass(frozen=True, slots=True)
class Verified:
    """A message that its sender signed for us, in time."""

    sender: Identity
    message: Message
    request_id: bytes
    payload_hash: bytes
    deadline_at: float


class Signed(NamedTuple):
    """An envelope's bytes, and the SHA-256 of its payload, which an answer to it names."""

    raw: bytes
    payload_hash: bytes


class Received:
    """An envelope of which nothing is believed yet."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope

    @property
    def request_id(self) -> bytes:
        """For matching an answer with its request before verifying it."""
        return self._envelope.request_id

    @property
    def deadline_at(self) -> float:
        """Seconds since 1970, as it says itself."""
        return self._envelope.deadline_ms / 1000

    def verify(self, trust: Trust, expected: Expected, now: float) -> Verified:
        """The message; raises `Rejected` with the causes above."""
        envelope = self._envelope
        if envelope.version != VERSION:
            raise Rejected("version", str(envelope.version))
        message_class = expected.types.get(envelope.message_type)
        if message_class is None:
            raise Rejected("message-type", envelope.message_type[:80])
        if envelope.recipient not in expected.recipients:
            raise Rejected("recipient", envelope.recipient[:80])
        _check_deadline(envelope.deadline_ms / 1000, now)
        if envelope.in_reply_to != expected.in_reply_to:
            raise Rejected("in-reply-to")
        sender = _verify_sender(envelope, trust, expected, now)
        if str(sender.id) != envelope.sender:
            raise Rejected("sender", envelope.sender[:80])
        sender.check_signature(envelope.signature, LABEL, *_signed_parts(envelope))
        try:
            message = message_class.FromString(envelope.payload)
        except DecodeError:
            raise Rejected("malformed", "payload") from None
        payload_hash = hashlib.sha256(envelope.payload).digest()
        return Verified(sender, message, envelope.request_id, payload_hash, envelope.deadline_ms / 1000)


def parse_envelope(raw: bytes) -> Received:
    """The envelope in `raw`; `Rejected("malformed")` where there is none."""
    if len(raw) > MAX_SIZE:
        raise Rejected("malformed", "size")
    try:
        envelope = Envelope.FromString(raw)
    except DecodeError:
        raise Rejected("malformed", "envelope") from None
    if len(envelope.request_id) != REQUEST_ID_SIZE:
        raise Rejected("malformed", "request id")
    return Received(envelope)


def sign_envelope(
    credentials: Credentials,
    message: Message,
    recipient: str,
    request_id: bytes,
    deadline_at: float,
    in_reply_to: bytes = b"",
) -> Signed:
    """An envelope with this message."""
    payload = message.SerializeToString()
    raw = write_envelope(
        credentials, type_name(type(message)), payload, recipient, request_id, deadline_at, in_reply_to
    )
    return Signed(raw, hashlib.sha256(payload).digest())


def write_envelope(
    credentials: Credentials,
    message_type: str,
    payload: bytes,
    recipient: str,
    request_id: bytes,
    deadline_at: float,
    in_reply_to: bytes = b"",
) -> bytes:
    """An envelope with a message that is serialised already."""
    envelope = Envelope(
        version=VERSION,
        message_type=message_type,
        payload=payload,
        sender=str(credentials.id),
        recipient=recipient,
        request_id=request_id,
        deadline_ms=round(deadline_at * 1000),
        certificate_chain=credentials.chain,
        in_reply_to=in_reply_to,
    )
    envelope.signature = credentials.sign(LABEL, *_signed_parts(envelope))
    return envelope.SerializeToString()


def payload_hash(message: Message) -> bytes:
    """SHA-256 of a message as `sign_envelope` serialises it, for messages without maps."""
    return hashlib.sha256(message.SerializeToString()).digest()


def type_name(message_class: type[Message]) -> str:
    """The full protobuf name, as in `Envelope.message_type`."""
    return message_class.DESCRIPTOR.full_name


def _signed_parts(envelope: Envelope) -> tuple[bytes | str | int, ...]:
    return (
        envelope.version,
        envelope.message_type,
        envelope.sender,
        envelope.recipient,
        envelope.request_id,
        envelope.deadline_ms,
        envelope.in_reply_to,
        envelope.payload,
        *envelope.certificate_chain,  # DER signatures have more than one encoding
    )


def _verify_sender(envelope: Envelope, trust: Trust, expected: Expected, now: float) -> Identity:
    """Of the own domain, one of the kinds; of a peer, one of those that are expected of that very domain."""
    sender = trust.verify_chain(envelope.certificate_chain, now, peers=bool(expected.peers))
    own = sender.id.domain == trust.domain
    if sender.id.kind not in (expected.kinds if own else expected.peers.get(sender.id.domain, ())):
        raise Rejected("kind", str(sender.id))
    return sender


def _check_deadline(deadline_at: float, now: float) -> None:
    if now > deadline_at + CLOCK_SKEW:
        raise Rejected("late")
    if deadline_at > now + MAX_LIFETIME + CLOCK_SKEW:
        raise Rejected("deadline", "too far away")
