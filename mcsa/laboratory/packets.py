"""Captured frames: pcap files, what kind a frame is, and what an IGMPv3 or MLDv2 report says. Pure.

For people and tests; not part of any protocol: nothing is decided by it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from mcsa.errors import Rejected

# The classic format, draft-ietf-opsawg-pcap: header, then records, here little-endian with microseconds.
_FILE_HEADER = struct.Struct("<IHHiIII")
_RECORD_HEADER = struct.Struct("<IIII")
_MAGIC = 0xA1B2C3D4
_ETHERNET = 1
LARGEST_FRAME = 262_144  # bytes; with segmentation offload a frame in a namespace may have 64 KiB

KINDS = ("esp-udp", "esp", "igmp", "sap", "nats", "arp", "icmp", "mld", "other")
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_HOP_BY_HOP, _ICMP, _IGMP, _TCP, _UDP, _ESP, _ICMPV6 = 0, 1, 2, 6, 17, 50, 58
_MLD_TYPES = (130, 131, 132, 143)  # RFC 3810 sections 5 and 8
_UDP_PORTS = {4500: "esp-udp", 9875: "sap"}  # RFC 3948, RFC 2974
_IGMP_V3_REPORT = 0x22
_MLD_V2_REPORT = 143


def pcap_header() -> bytes:
    """The first 24 bytes of a pcap file of Ethernet frames."""
    return _FILE_HEADER.pack(_MAGIC, 2, 4, 0, 0, LARGEST_FRAME, _ETHERNET)


def pcap_record(at: float, frame: bytes) -> bytes:
    """A frame as it stands in a pcap file; `at` in seconds since 1970."""
    microseconds = round(at * 1_000_000)
    return _RECORD_HEADER.pack(*divmod(microseconds, 1_000_000), len(frame), len(frame)) + frame


def parse_pcap(content: bytes) -> list[tuple[float, bytes]]:
    """The frames of a pcap file with their times; `Rejected("pcap")` where it isn't one of ours, or is torn."""
    if len(content) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(content)[::6] != (_MAGIC, _ETHERNET):
        raise Rejected("pcap", "header")
    frames = []
    offset = _FILE_HEADER.size
    while offset < len(content):
        if len(content) - offset < _RECORD_HEADER.size:
            raise Rejected("pcap", "torn record")
        seconds, microseconds, size, _ = _RECORD_HEADER.unpack_from(content, offset)
        offset += _RECORD_HEADER.size
        if len(content) - offset < size:
            raise Rejected("pcap", "torn frame")
        frames.append((seconds + microseconds / 1_000_000, content[offset : offset + size]))
        offset += size
    return frames


@dataclass(frozen=True, slots=True)
class Packet:
    """What a frame carries: addresses, the protocol's number, and for UDP and TCP the ports (0 otherwise).

    `payload` is what follows the UDP header; of other protocols all that follows the IP header.
    """

    source: str
    destination: str
    protocol: int
    source_port: int
    destination_port: int
    payload: bytes


def parse_packet(frame: bytes) -> Packet | None:
    """The IP packet in an Ethernet frame; None where there is none, or where it is cut off."""
    if len(frame) < 14:
        return None
    kind, content = int.from_bytes(frame[12:14], "big"), frame[14:]
    try:
        return _ipv4(content) if kind == _IPV4 else _ipv6(content) if kind == _IPV6 else None
    except (IndexError, AddressValueError, struct.error):
        return None


def _ipv4(packet: bytes) -> Packet:
    size = int.from_bytes(packet[2:4], "big") or len(packet)  # 0: longer than 64 KiB, by segmentation offload
    source, destination = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    first_fragment = not int.from_bytes(packet[6:8], "big") & 0x1FFF
    return _packet(source, destination, packet[9], packet[4 * (packet[0] & 15) : size], first_fragment)


def _ipv6(packet: bytes) -> Packet:
    source, destination = str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40]))
    protocol, content = packet[6], packet[40 : 40 + int.from_bytes(packet[4:6], "big")]
    if protocol == _HOP_BY_HOP:  # MLD has a router alert there
        protocol, content = content[0], content[8 * (content[1] + 1) :]
    return _packet(source, destination, protocol, content, True)


def _packet(source: str, destination: str, protocol: int, content: bytes, has_ports: bool) -> Packet:
    source_port = destination_port = 0
    if protocol in (_UDP, _TCP) and has_ports:
        source_port, destination_port = struct.unpack_from(">HH", content)
        if protocol == _UDP:
            content = content[8:]
    return Packet(source, destination, protocol, source_port, destination_port, content)


def classify(frame: bytes, nats_port: int = 4222) -> str:
    """The kind of an Ethernet frame, one of `KINDS`."""
    if frame[12:14] == _ARP.to_bytes(2, "big"):
        return "arp"
    packet = parse_packet(frame)
    if packet is None:
        return "other"
    ports = (packet.destination_port, packet.source_port)
    match packet.protocol:
        case 17:  # UDP
            return next((_UDP_PORTS[port] for port in ports if port in _UDP_PORTS), "other")
        case 6:  # TCP
            return "nats" if nats_port in ports else "other"
        case 58:  # ICMPv6
            return "mld" if packet.payload[:1] and packet.payload[0] in _MLD_TYPES else "icmp"
        case number:
            return {_IGMP: "igmp", _ICMP: "icmp", _ESP: "esp"}.get(number, "other")


def count_kinds(frames: Iterable[bytes], nats_port: int = 4222) -> dict[str, int]:
    """How many frames there are of each kind that occurs."""
    return dict(Counter(classify(frame, nats_port) for frame in frames))


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One record of a report, RFC 3376 section 4.2 and RFC 3810 section 5.2: `change` is its type (1 to 6)."""

    change: int
    group: str
    sources: tuple[str, ...]


IS_INCLUDE, IS_EXCLUDE, TO_INCLUDE, TO_EXCLUDE, ALLOW, BLOCK = range(1, 7)


def parse_report(frame: bytes) -> list[GroupRecord]:
    """The records of an IGMPv3 or MLDv2 report; none where the frame is something else. `Rejected("igmp")`,
    `Rejected("mld")` where it is torn."""
    packet = parse_packet(frame)
    if packet is None:
        return []
    kind = packet.protocol, packet.payload[:1]
    if kind == (_IGMP, bytes([_IGMP_V3_REPORT])):
        return _records(packet.payload, 4, "igmp")
    if kind == (_ICMPV6, bytes([_MLD_V2_REPORT])):
        return _records(packet.payload, 16, "mld")
    return []


def _records(report: bytes, size: int, kind: str) -> list[GroupRecord]:
    """Both protocols have one layout; addresses are of `size` bytes."""
    records, rest = [], report[8:]
    try:
        (number,) = struct.unpack_from(">H", report, 6)
        for _ in range(number):
            change, auxiliary_words, count, *addresses = struct.unpack_from(f">BBH{size}s", rest)
            addresses += struct.unpack_from(f"{size}s" * count, rest, 4 + size)
            group, *sources = (str(ip_address(address)) for address in addresses)
            records.append(GroupRecord(change, group, tuple(sources)))
            rest = rest[4 + size + size * count + 4 * auxiliary_words :]
    except struct.error:
        raise Rejected(kind, "torn report") from None
    return records
