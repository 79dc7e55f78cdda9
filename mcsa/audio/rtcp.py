"""What a sender says of its stream: RTCP sender reports, descriptions, goodbyes. RFC 3550 section 6. Sans-I/O.

On the same port as RTP (RFC 5761). The description has two private items (section 6.5.8) that other programs ignore:
`rtpmap`, payload type and format as in SDP, and `RTP-Info`, sequence number and timestamp of the first packet, as in
RTSP (RFC 2326 section 12.33). So a receiver needs nothing but the socket, and knows whether the beginning was lost;
the packet count of the report that comes with the goodbye says whether the end was.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from mcsa.audio.format import AudioFormat
from mcsa.errors import Rejected

SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, GOODBYE = 200, 201, 202, 203
_CNAME, _PRIVATE = 1, 8  # section 12.2
_HEAD = struct.Struct(">BBHI")  # version and count, type, length in words less one, SSRC
_REPORT = struct.Struct(">QIII")  # NTP timestamp, RTP timestamp, packets, bytes of payload
_NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970: section 4
_RTP_INFO = re.compile(r"seq=([0-9]{1,5});rtptime=([0-9]{1,10})")


class First(NamedTuple):
    """The first packet of a stream."""

    sequence: int
    timestamp: int


class Control(NamedTuple):
    """What one compound packet said. Counts are None where it was no sender's report."""

    ssrc: int
    packets: int | None = None
    octets: int | None = None
    rtpmap: tuple[int, AudioFormat] | None = None
    first: First | None = None
    goodbye: bool = False


def encode_report(ssrc: int, now: float, timestamp: int, packets: int, octets: int) -> bytes:
    """A sender report without reception blocks; `packets` and `octets` (of payload) sent so far, modulo 2^32."""
    ntp = round((now + _NTP_EPOCH) * 2**32) & (2**64 - 1)
    return _packet(SENDER_REPORT, 0, ssrc, _REPORT.pack(ntp, timestamp, packets & 0xFFFFFFFF, octets & 0xFFFFFFFF))


def encode_description(ssrc: int, cname: str, audio_format: AudioFormat, first: First) -> bytes:
    """CNAME, `rtpmap` and `RTP-Info`."""
    items = _item(_CNAME, cname.encode())
    items += _private(b"rtpmap", f"{audio_format.payload_type} {audio_format}".encode())
    items += _private(b"RTP-Info", f"seq={first.sequence};rtptime={first.timestamp}".encode())
    return _packet(DESCRIPTION, 1, ssrc, items + bytes(4 - len(items) % 4))  # ends with one to four zero bytes


def encode_goodbye(ssrc: int) -> bytes:
    """The stream is over."""
    return _packet(GOODBYE, 1, ssrc, b"")


def parse_rtcp(datagram: bytes) -> Control:
    """A compound packet, as far as it speaks of its sender. `Rejected("rtcp")` where it is none."""
    packets = list(_split(datagram))
    if not packets or packets[0][0] not in (SENDER_REPORT, RECEIVER_REPORT):  # section 6.1
        raise Rejected("rtcp", "compound")
    said = Control(packets[0][1])
    for kind, ssrc, body in packets:
        if ssrc != said.ssrc:
            continue
        if kind == SENDER_REPORT:
            if len(body) < _REPORT.size:
                raise Rejected("rtcp", "report")
            _ntp, _timestamp, count, octets = _REPORT.unpack_from(body)
            said = said._replace(packets=count, octets=octets)
        elif kind == DESCRIPTION:
            said = _described(said, body)
        elif kind == GOODBYE:
            said = said._replace(goodbye=True)
    return said


def _split(datagram: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, first SSRC and the rest of each packet; those that have no SSRC (a goodbye of nobody) are left out."""
    at = 0
    while at < len(datagram):
        if len(datagram) < at + 4:
            raise Rejected("rtcp", "length")
        size = 4 + 4 * int.from_bytes(datagram[at + 2 : at + 4], "big")
        if datagram[at] >> 6 != 2 or at + size > len(datagram):
            raise Rejected("rtcp", "version or length")
        if size >= _HEAD.size:
            _first, kind, _length, ssrc = _HEAD.unpack_from(datagram, at)
            yield kind, ssrc, datagram[at + _HEAD.size : at + size]
        at += size


def _described(said: Control, items: bytes) -> Control:
    """The private items of the first chunk."""
    at = 0
    while at + 1 < len(items) and items[at]:
        kind, text = items[at], items[at + 2 : at + 2 + items[at + 1]]
        at += 2 + items[at + 1]
        if kind != _PRIVATE or not text or len(text) < 1 + text[0]:
            continue
        prefix, value = text[1 : 1 + text[0]], text[1 + text[0] :].decode(errors="replace")
        if prefix == b"rtpmap":
            said = said._replace(rtpmap=_parse_rtpmap(value))
        elif prefix == b"RTP-Info":
            said = said._replace(first=_parse_rtp_info(value))
    return said


def _parse_rtpmap(value: str) -> tuple[int, AudioFormat]:
    number, _, audio_format = value.partition(" ")
    if not (number.isascii() and number.isdecimal()) or int(number) > 127:
        raise Rejected("rtcp", "rtpmap")
    return int(number), AudioFormat.parse(audio_format)


def _parse_rtp_info(value: str) -> First:
    found = _RTP_INFO.fullmatch(value)
    if found is None or int(found[1]) >= 2**16 or int(found[2]) >= 2**32:
        raise Rejected("rtcp", "RTP-Info")
    return First(int(found[1]), int(found[2]))


def _packet(kind: int, count: int, ssrc: int, body: bytes) -> bytes:
    return _HEAD.pack(2 << 6 | count, kind, (_HEAD.size + len(body)) // 4 - 1, ssrc) + body


def _item(kind: int, text: bytes) -> bytes:
    return bytes([kind, len(text)]) + text


def _private(prefix: bytes, value: bytes) -> bytes:
    return _item(_PRIVATE, bytes([len(prefix)]) + prefix + value)
