"""Netlink's own framing (linux/netlink.h, RFC 3549): messages, attributes, acknowledgements."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mcsa.errors import Rejected

REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300  # NLM_F_*
ERROR, DONE = 2, 3  # NLMSG_*: every answer is one of these, or a message of the family's own
CAPPED, ACK_TLVS = 0x100, 0x200  # NLM_F_CAPPED: the request is left off; NLM_F_ACK_TLVS: attributes follow
_ERROR_SENTENCE = 1  # NLMSGERR_ATTR_MSG
_HEADER = struct.Struct("=IHHII")  # length with the header, type, flags, number, port


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the kernel's: what follows its 16-byte header, and what the header says."""

    kind: int
    flags: int
    number: int
    body: bytes


def encode_message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """A request; 16 bytes of header (length, type, flags, number, sender's port: 0, the kernel fills it in)."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body


def encode_attribute(kind: int, value: bytes) -> bytes:
    """struct nlattr: length with these 4 bytes, type, value, padded to 4."""
    raw = struct.pack("=HH", 4 + len(value), kind) + value
    return raw + b"\0" * (-len(raw) % 4)


def parse_messages(raw: bytes) -> Iterator[Message]:
    """The messages of one datagram of the kernel's. `Rejected` where their lengths don't fit."""
    at = 0
    while at < len(raw):
        if len(raw) - at < _HEADER.size:
            raise Rejected("netlink", "half a header")
        length, kind, flags, number, _ = _HEADER.unpack_from(raw, at)
        if not _HEADER.size <= length <= len(raw) - at:
            raise Rejected("netlink", "a message that is longer than the datagram")
        yield Message(kind, flags, number, raw[at + _HEADER.size : at + length])
        at += length + -length % 4


def parse_attributes(raw: bytes) -> dict[int, bytes]:
    """Type to value; the last of each type."""
    found, at = {}, 0
    while at + 4 <= len(raw):
        length, kind = struct.unpack_from("=HH", raw, at)
        if not 4 <= length <= len(raw) - at:
            raise Rejected("netlink", "an attribute that is longer than its message")
        found[kind] = raw[at + 4 : at + length]
        at += length + -length % 4
    return found


def parse_acknowledgement(message: Message) -> tuple[int, str]:
    """The error number (0: it is done) and the kernel's sentence, where it gives one.

    struct nlmsgerr: negative error number, the request's header, the request itself unless left off; then attributes.
    """
    if len(message.body) < 4 + _HEADER.size:
        raise Rejected("netlink", "half an acknowledgement")
    (error,) = struct.unpack_from("=i", message.body)
    if not message.flags & ACK_TLVS:
        return -error, ""
    (length,) = struct.unpack_from("=I", message.body, 4)
    after = 4 + (_HEADER.size if message.flags & CAPPED else length + -length % 4)
    sentence = parse_attributes(message.body[after:]).get(_ERROR_SENTENCE, b"")
    return -error, sentence.rstrip(b"\0").decode("ascii", "replace")
