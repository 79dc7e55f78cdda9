"""SAP packets, RFC 2974 section 6.

V=1 (3 bits) | A R T E C (1 each) | auth len (8) | message id hash (16)
originating source (4 bytes, 16 where A is set) | auth data (auth len * 4) | [payload type, 0] | payload
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from mcsa.errors import Rejected

PORT = 9875
GLOBAL, ORGANISATION, LOCAL = "224.2.127.254", "239.195.255.255", "239.255.255.255"
LINK = "224.0.0.56"
ADDRESSES = (GLOBAL, ORGANISATION, LOCAL, LINK)
"""RFC 2974 section 3: the global scope's address, and the highest of each administrative scope. The last is where
PulseAudio and PipeWire announce; we only listen there."""

PAYLOAD_TYPE = b"application/sdp\0"
_VERSION, _IPV6, _DELETION, _ENCRYPTED, _COMPRESSED = 0x20, 0x10, 0x04, 0x02, 0x01
_HEAD = struct.Struct(">BBH")


@dataclass(frozen=True, slots=True)
class SapPacket:
    """An announcement or its deletion. `hash` is not 0, except in packets of version 0 senders, which we drop."""

    origin: str
    hash: int
    payload: bytes
    deletion: bool = False

    def encode(self) -> bytes:
        """With the payload type, without authentication data: real listeners drop packets that have some."""
        origin = ipaddress.ip_address(self.origin)
        flags = _VERSION | (_DELETION if self.deletion else 0) | (_IPV6 if origin.version == 6 else 0)
        return _HEAD.pack(flags, 0, self.hash) + origin.packed + PAYLOAD_TYPE + self.payload


def parse_packet(raw: bytes) -> SapPacket:
    """Raises `Rejected`: "sap" (truncated, empty), "sap-version", "sap-encrypted", "sap-compressed",
    "sap-payload-type"."""
    if len(raw) < _HEAD.size:
        raise Rejected("sap", "truncated")
    flags, auth_words, message_hash = _HEAD.unpack_from(raw)
    if flags & 0xE0 != _VERSION:
        raise Rejected("sap-version", str(flags >> 5))
    if flags & _ENCRYPTED:
        raise Rejected("sap-encrypted")
    if flags & _COMPRESSED:
        raise Rejected("sap-compressed")
    size = 16 if flags & _IPV6 else 4
    start = _HEAD.size + size + 4 * auth_words
    if len(raw) <= start:
        raise Rejected("sap", "truncated")
    origin = str(ipaddress.ip_address(raw[_HEAD.size : _HEAD.size + size]))
    return SapPacket(origin, message_hash, _payload(raw[start:]), bool(flags & _DELETION))


def _payload(rest: bytes) -> bytes:
    if rest.startswith((b"v=0", b"o=")):  # the payload type may be left out
        return rest
    kind, separator, payload = rest.partition(b"\0")
    if not separator or kind.lower() != b"application/sdp":
        raise Rejected("sap-payload-type", kind[:40].decode("ascii", "replace"))
    return payload


def address_for(group: str) -> str:
    """Where a session of this group's scope is announced."""
    address = ipaddress.ip_address(group)
    if address in ipaddress.ip_network("239.255.0.0/16"):
        return LOCAL
    if address in ipaddress.ip_network("239.192.0.0/14"):
        return ORGANISATION
    return GLOBAL
