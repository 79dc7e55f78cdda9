"""SAP packets, RFC 2974 section 6.

V=1 (3 bits) | A R T E C (1 each) | auth len (8) | message id hash (16)
originating source (4 bytes, 16 where A is set) | auth data (auth len * 4) | [payload type, 0] | payload

Of what others compress (C, zlib) as much is unpacked as a description may be long; we never compress. Encrypted ones
are nobody's who listens here.
"""

from __future__ import annotations

import ipaddress
import struct
import zlib
from dataclasses import dataclass

from mcsa.errors import Rejected
from mcsa.sap.sdp import LARGEST_HEARD

PORT = 9875
PAYLOAD_TYPE = b"application/sdp\0"
LARGEST_PAYLOAD_TYPE = 64  # bytes that we look for its end in
_VERSION, _IPV6, _DELETION, _ENCRYPTED, _COMPRESSED = 0x20, 0x10, 0x04, 0x02, 0x01
_HEAD = struct.Struct(">BBH")


@dataclass(frozen=True, slots=True)
class SapPacket:
    """An announcement or its deletion. `authenticated`: it came with authentication data, which nobody checked."""

    origin: str
    hash: int
    payload: bytes
    deletion: bool = False
    authenticated: bool = False

    def encode(self) -> bytes:
        """With the payload type, without authentication data: real listeners drop packets that have some."""
        origin = ipaddress.ip_address(self.origin)
        flags = _VERSION | (_DELETION if self.deletion else 0) | (_IPV6 if origin.version == 6 else 0)
        return _HEAD.pack(flags, 0, self.hash) + origin.packed + PAYLOAD_TYPE + self.payload


def parse_packet(raw: bytes) -> SapPacket:
    """Raises `Rejected`: "sap" (truncated, empty), "sap-version", "sap-encrypted", "sap-compressed" (no zlib, or longer
    than a description may be), "sap-payload-type"."""
    if len(raw) < _HEAD.size:
        raise Rejected("sap", "truncated")
    flags, auth_words, message_hash = _HEAD.unpack_from(raw)
    if flags & 0xE0 != _VERSION:
        raise Rejected("sap-version", str(flags >> 5))
    if flags & _ENCRYPTED:
        raise Rejected("sap-encrypted")
    size = 16 if flags & _IPV6 else 4
    start = _HEAD.size + size + 4 * auth_words
    if len(raw) <= start:
        raise Rejected("sap", "truncated")
    origin = str(ipaddress.ip_address(raw[_HEAD.size : _HEAD.size + size]))
    rest = raw[start:]
    if flags & _COMPRESSED:
        rest = _unpack(rest)
    return SapPacket(origin, message_hash, _payload(rest), bool(flags & _DELETION), bool(auth_words))


def _unpack(compressed: bytes) -> bytes:
    """Payload type and payload (RFC 2974 section 6: both are compressed); never more than we would take unpacked."""
    unpacker = zlib.decompressobj()
    try:
        rest = unpacker.decompress(compressed, LARGEST_PAYLOAD_TYPE + LARGEST_HEARD)
    except zlib.error as error:
        raise Rejected("sap-compressed", str(error)[:60]) from None
    if not unpacker.eof:
        raise Rejected("sap-compressed", "cut off, or longer than a description may be")
    return rest


def _payload(rest: bytes) -> bytes:
    if rest.startswith((b"v=0", b"o=")):  # the payload type may be left out
        return rest
    kind, separator, payload = rest[:LARGEST_PAYLOAD_TYPE].partition(b"\0")
    if not separator or kind.lower() != b"application/sdp":
        raise Rejected("sap-payload-type", kind[:40].decode("ascii", "replace"))
    return payload + rest[LARGEST_PAYLOAD_TYPE:]
