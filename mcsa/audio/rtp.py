"""The RTP packet: RFC 3550 section 5.1. Sans-I/O."""

from __future__ import annotations

import struct
from typing import NamedTuple

from mcsa.errors import Rejected

_HEADER = struct.Struct(">BBHII")
_EXTENSION = struct.Struct(">HH")
_VERSION = 2


class RtpPacket(NamedTuple):
    """Payload type (7 bits), sequence number (16), timestamp (32, in frames), SSRC (32), payload."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    def encode(self) -> bytes:
        """No padding, no extension, no CSRC, marker 0 (RFC 3551 section 4.1: nothing is left out in silence)."""
        head = _HEADER.pack(_VERSION << 6, self.payload_type, self.sequence, self.timestamp, self.ssrc)
        return head + self.payload


def parse_rtp(datagram: bytes) -> RtpPacket:
    """Any sender's packet; padding, extension and CSRCs are taken off. `Rejected("rtp")` where it is none."""
    if len(datagram) < _HEADER.size:
        raise Rejected("rtp", "length")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(datagram)
    if first >> 6 != _VERSION:
        raise Rejected("rtp", "version")
    start = _HEADER.size + 4 * (first & 0x0F)
    if first & 0x10:
        start += _extension_size(datagram, start)
    end = len(datagram)
    if first & 0x20:
        end -= datagram[-1] or end  # a padding of 0 bytes is none
    if start > end:
        raise Rejected("rtp", "padding, extension or CSRCs")
    return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, datagram[start:end])


def is_rtcp(datagram: bytes) -> bool:
    """True where the second byte is one of RTCP's when both share a port: RFC 5761 section 4."""
    return len(datagram) > 1 and 192 <= datagram[1] <= 223


def _extension_size(datagram: bytes, start: int) -> int:
    if len(datagram) < start + _EXTENSION.size:
        raise Rejected("rtp", "extension")
    _profile, words = _EXTENSION.unpack_from(datagram, start)
    return _EXTENSION.size + 4 * int(words)
