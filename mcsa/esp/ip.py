"""IP and UDP headers as applications' packets have them at a TUN interface: read, and written.

    IPv4: version 4 and header length 5 (1) | TOS (1) | total length (2) | id (2) | flags and fragment offset (2)
          | TTL (1) | protocol (1) | header checksum (2) | source (4) | destination (4)              RFC 791
    IPv6: version 6, traffic class, flow label (4) | payload length (2) | next header (1) | hop limit (1)
          | source (16) | destination (16)                                                          RFC 8200
    UDP:  source port (2) | destination port (2) | length (2) | checksum (2)                        RFC 768

Addresses are bytes, 4 or 16 of them. Who reads many packets compares `alike` first: packets of one stream differ in
nothing else than what it leaves out.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from mcsa.errors import Rejected

UDP = 17  # IANA protocol numbers
_FRAGMENT_HEADER = 44  # RFC 8200 section 4.5
UDP_HEADER_SIZE = 8
IPV4_HEADER_SIZE = 20
IPV6_HEADER_SIZE = 40
LARGEST_IP = 65_535  # bytes: the length field's

_IPV4 = struct.Struct(">BBHHHBBH4s4s")
_IPV6 = struct.Struct(">IHBB16s16s")
_PORTS = struct.Struct(">HHHH")
_ALIKE_4 = struct.Struct("4s2x4s2x14s")  # all of both headers but the IP id and the checksums
_ALIKE_6 = struct.Struct("46s")
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF
_DONT_FRAGMENT = 0x4000
_IHL_5 = 0x45  # version 4, no options

Buffer = bytes | bytearray | memoryview
Alike = tuple[bytes, ...]


class Datagram(NamedTuple):
    """What the headers of a UDP datagram say, and where its payload lies in the packet."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    traffic_class: int  # TOS or traffic class: DSCP and ECN
    hop_limit: int  # TTL or hop limit
    start: int
    end: int


def alike(packet: Buffer, offset: int) -> Alike | None:
    """Equal for two packets where `parse_datagram` would say the same of both; None where there isn't room for headers.

    `offset`: where the IP header begins.
    """
    room = len(packet) - offset
    if room < IPV4_HEADER_SIZE + UDP_HEADER_SIZE:
        return None
    if packet[offset] == _IHL_5:
        return _ALIKE_4.unpack_from(packet, offset)
    return _ALIKE_6.unpack_from(packet, offset) if room >= IPV6_HEADER_SIZE + UDP_HEADER_SIZE else None


def parse_datagram(packet: Buffer, offset: int, end: int) -> Datagram:
    """The UDP datagram in `packet[offset:end]`. Raises `Rejected`:

    ==============  =====================================================================
    `short`         no room for an IP header, or it says another length than there is
    `protocol`      not UDP: IGMP, MLD, ICMP, router solicitations ... of this very host
    `fragment`      a part of a datagram
    ==============  =====================================================================

    A checksum is not looked at: the packet comes from this host's kernel, which leaves it to the device.
    """
    version = packet[offset] >> 4 if end > offset else 0
    if version == 4:
        return _parse_ipv4(packet, offset, end)
    if version == 6:
        return _parse_ipv6(packet, offset, end)
    raise Rejected("short")


def _parse_ipv4(packet: Buffer, offset: int, end: int) -> Datagram:
    if end - offset < IPV4_HEADER_SIZE:
        raise Rejected("short")
    first, tos, total, _, fragment, ttl, protocol, _, source, destination = _IPV4.unpack_from(packet, offset)
    header_size = 4 * (first & 15)
    if total != end - offset or header_size < IPV4_HEADER_SIZE:
        raise Rejected("short")
    if protocol != UDP:
        raise Rejected("protocol")
    if fragment & _MORE_FRAGMENTS_OR_OFFSET:
        raise Rejected("fragment")
    ports = _parse_udp(packet, offset + header_size, end)
    return Datagram(source, destination, *ports, tos, ttl, offset + header_size + UDP_HEADER_SIZE, end)


def _parse_ipv6(packet: Buffer, offset: int, end: int) -> Datagram:
    if end - offset < IPV6_HEADER_SIZE:
        raise Rejected("short")
    first, size, protocol, hop_limit, source, destination = _IPV6.unpack_from(packet, offset)
    if size != end - offset - IPV6_HEADER_SIZE:
        raise Rejected("short")
    if protocol == _FRAGMENT_HEADER:
        raise Rejected("fragment")
    if protocol != UDP:
        raise Rejected("protocol")
    start = offset + IPV6_HEADER_SIZE
    ports = _parse_udp(packet, start, end)
    return Datagram(source, destination, *ports, first >> 20 & 0xFF, hop_limit, start + UDP_HEADER_SIZE, end)


def _parse_udp(packet: Buffer, start: int, end: int) -> tuple[int, int]:
    if end - start < UDP_HEADER_SIZE:
        raise Rejected("short")
    source_port, destination_port, size, _ = _PORTS.unpack_from(packet, start)
    if size != end - start:
        raise Rejected("short")
    return source_port, destination_port


@lru_cache(maxsize=1024)
def write_headers(
    source: bytes,
    destination: bytes,
    source_port: int,
    destination_port: int,
    traffic_class: int,
    hop_limit: int,
    payload_size: int,
) -> bytes:
    """IP and UDP headers for a payload of so many bytes. The UDP checksum is the pseudo-header's sum only, for whoever
    takes the packet to complete (as Linux has it between its stack and a device). Media repeat a few: cached.

    The id is 0 and the packet not to be fragmented: an atomic datagram (RFC 6864 section 4).
    """
    udp_size = UDP_HEADER_SIZE + payload_size
    ports = _PORTS.pack(source_port, destination_port, udp_size, _pseudo_header_sum(source, destination, udp_size))
    if len(source) == 16:
        ip = _IPV6.pack(6 << 28 | traffic_class << 20, udp_size, UDP, hop_limit, source, destination)
        return ip + ports
    fields = [_IHL_5, traffic_class, IPV4_HEADER_SIZE + udp_size, 0, _DONT_FRAGMENT, hop_limit, UDP, 0]
    fields[-1] = checksum(_IPV4.pack(*fields, source, destination))
    return _IPV4.pack(*fields, source, destination) + ports


def checksum(content: bytes) -> int:
    """The Internet checksum of RFC 1071: one's complement of the one's complement sum of 16-bit words."""
    return _sum(content) ^ 0xFFFF


def _sum(content: bytes) -> int:
    """One's complement addition is addition modulo 2^16 - 1, with two zeros: only a content of zeros sums to +0."""
    number = int.from_bytes(content + bytes(len(content) % 2), "big")
    return number % 65_535 or (65_535 if number else 0)


def _pseudo_header_sum(source: bytes, destination: bytes, udp_size: int) -> int:
    """RFC 768 and RFC 8200 section 8.1: the same sum, since the zeros between don't count."""
    return _sum(source + destination + struct.pack(">HH", UDP, udp_size))


def headers_size(address: bytes) -> int:
    """Bytes of IP and UDP headers, for an address of that family."""
    return (IPV6_HEADER_SIZE if len(address) == 16 else IPV4_HEADER_SIZE) + UDP_HEADER_SIZE


_ICMP = struct.Struct(">BBHHH")


def too_big(packet: Buffer, offset: int, mtu: int, source: bytes) -> bytes | None:
    """The ICMP message "fragmentation needed" (RFC 1191) about the IPv4 packet that begins there, to its sender; None
    of another packet, or of a later fragment."""
    head = bytes(packet[offset : offset + IPV4_HEADER_SIZE + UDP_HEADER_SIZE])
    if len(head) < IPV4_HEADER_SIZE + UDP_HEADER_SIZE or head[0] != _IHL_5 or int.from_bytes(head[6:8], "big") & 0x1FFF:
        return None
    body = _ICMP.pack(3, 4, 0, 0, mtu) + head
    icmp = body[:2] + checksum(body).to_bytes(2, "big") + body[4:]
    fields = [_IHL_5, 0, IPV4_HEADER_SIZE + len(icmp), 0, 0, 64, 1, 0]
    fields[-1] = checksum(_IPV4.pack(*fields, source, head[12:16]))
    return _IPV4.pack(*fields, source, head[12:16]) + icmp
