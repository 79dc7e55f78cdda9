"""IP and UDP headers: what scapy says of those we write, and what we read of scapy's."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, in6_chksum
from scapy.packet import Raw
from scapy.utils import checksum as scapy_checksum

from mcsa.errors import Rejected
from mcsa.esp.ip import Datagram, alike, checksum, headers_size, parse_datagram, too_big, write_headers

SOURCE, GROUP = "198.18.0.1", "239.1.2.3"
SOURCE_6, GROUP_6 = "2001:db8::1", "ff15::7"


def packed(address: str) -> bytes:
    return ip_address(address).packed


@given(st.binary(max_size=200))
def test_the_checksum_is_scapys(content: bytes) -> None:
    assert checksum(content) == scapy_checksum(content)


@given(
    st.binary(max_size=300), st.integers(0, 65_535), st.integers(0, 65_535), st.integers(0, 255), st.integers(0, 255)
)
def test_scapy_reads_what_we_write_over_ipv4(payload: bytes, source: int, port: int, tos: int, ttl: int) -> None:
    headers = write_headers(packed(SOURCE), packed(GROUP), source, port, tos, ttl, len(payload))
    read = IP(headers + payload)
    assert (read.src, read.dst, read.tos, read.ttl, read.proto, str(read.flags)) == (SOURCE, GROUP, tos, ttl, 17, "DF")
    assert (read[UDP].sport, read[UDP].dport, read[UDP].len) == (source, port, 8 + len(payload))
    assert scapy_checksum(headers[:20]) == 0
    udp = bytearray(headers[20:] + payload)  # as the device does it: over all that follows, the sum so far included
    udp[6:8] = checksum(bytes(udp)).to_bytes(2, "big")
    complete = IP(headers[:20] + bytes(udp))
    del complete[UDP].chksum
    assert IP(bytes(complete))[UDP].chksum in (int.from_bytes(udp[6:8], "big"), 0xFFFF)


def test_scapy_reads_what_we_write_over_ipv6() -> None:
    payload = b"hello"
    headers = write_headers(packed(SOURCE_6), packed(GROUP_6), 5004, 5006, 0xB8, 7, len(payload))
    read = IPv6(headers + payload)
    assert (read.src, read.dst, read.tc, read.hlim, read.nh) == (SOURCE_6, GROUP_6, 0xB8, 7, 17)
    udp = bytearray(headers[40:] + payload)
    udp[6:8] = checksum(bytes(udp)).to_bytes(2, "big")
    assert in6_chksum(17, read, bytes(udp)) == 0
    assert len(headers) == headers_size(packed(SOURCE_6)) == 48


@pytest.mark.parametrize("family", ["IPv4", "IPv4 with options", "IPv6"])
def test_we_read_what_scapy_writes(family: str) -> None:
    ip = {
        "IPv4": IP(src=SOURCE, dst=GROUP, tos=0x2E, ttl=9),
        "IPv4 with options": IP(src=SOURCE, dst=GROUP, tos=0x2E, ttl=9, options=[IPOption_Router_Alert()]),
        "IPv6": IPv6(src=SOURCE_6, dst=GROUP_6, tc=0x2E, hlim=9),
    }[family]
    raw = b"front" + bytes(ip / UDP(sport=1000, dport=2000) / Raw(b"payload"))
    read = parse_datagram(raw, 5, len(raw))
    source, group = (SOURCE_6, GROUP_6) if family == "IPv6" else (SOURCE, GROUP)
    assert read == Datagram(packed(source), packed(group), 1000, 2000, 0x2E, 9, len(raw) - 7, len(raw))
    assert raw[read.start : read.end] == b"payload"


PLAIN = bytes(IP(src=SOURCE, dst=GROUP) / UDP(sport=1, dport=2) / Raw(b"x" * 30))
PLAIN_6 = bytes(IPv6(src=SOURCE_6, dst=GROUP_6) / UDP(sport=1, dport=2) / Raw(b"x" * 30))


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (b"", "short"),
        (PLAIN[:19], "short"),
        (PLAIN[:-1], "short"),
        (PLAIN + b"x", "short"),
        (b"\x44" + PLAIN[1:], "short"),  # a header of 16 bytes
        (b"\x50" + PLAIN[1:], "short"),  # version 5
        (bytes(IP(src=SOURCE, dst=GROUP) / UDP(sport=1, dport=2, len=99)), "short"),
        (bytes(IP(src=SOURCE, dst=GROUP, proto=17) / Raw(b"1234567")), "short"),
        (bytes(IP(src=SOURCE, dst=GROUP) / ICMP()), "protocol"),
        (bytes(IP(src=SOURCE, dst=GROUP, flags="MF") / UDP()), "fragment"),
        (bytes(IP(src=SOURCE, dst=GROUP, frag=3, proto=17) / Raw(b"12345678")), "fragment"),
        (PLAIN_6[:39], "short"),
        (PLAIN_6[:-1], "short"),
        (bytes(IPv6(src=SOURCE_6, dst=GROUP_6, nh=58) / Raw(b"\x8f")), "protocol"),
        (bytes(IPv6(src=SOURCE_6, dst=GROUP_6) / IPv6ExtHdrFragment() / UDP()), "fragment"),
    ],
)
def test_what_is_no_whole_udp_datagram_is_rejected_by_cause(raw: bytes, cause: str) -> None:
    with pytest.raises(Rejected) as rejected:
        parse_datagram(raw, 0, len(raw))
    assert rejected.value.cause == cause


@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_rejected(raw: bytes) -> None:
    try:
        assert parse_datagram(raw, 0, len(raw)).end == len(raw)
    except Rejected as rejected:
        assert rejected.cause in ("short", "protocol", "fragment")


def test_packets_of_one_stream_and_size_are_alike_and_others_are_not() -> None:
    def packet(**changed: Any) -> bytes:
        fields: dict[str, Any] = {"src": SOURCE, "dst": GROUP, "id": 1, "tos": 0, "ttl": 1, "sport": 1, "dport": 2}
        fields |= {"size": 30} | changed
        ip = {name: fields[name] for name in ("src", "dst", "id", "tos", "ttl")}
        udp = {name: fields[name] for name in ("sport", "dport")}
        return bytes(IP(**ip) / UDP(**udp) / Raw(b"x" * fields["size"]))

    same = alike(packet(), 0)
    assert alike(packet(id=7), 0) == same
    others: list[dict[str, Any]] = [
        {"src": "198.18.0.2"},
        {"dst": "239.1.2.4"},
        {"tos": 4},
        {"ttl": 2},
        {"sport": 3},
        {"dport": 3},
        {"size": 31},
    ]
    for changed in others:
        assert alike(packet(**changed), 0) != same
    assert alike(PLAIN[:27], 0) is None and alike(PLAIN_6[:47], 0) is None
    assert alike(PLAIN_6, 0) != alike(PLAIN, 0)


def test_a_fragments_sender_is_told_what_fits() -> None:
    first = bytes(IP(src=SOURCE, dst=GROUP, flags="MF") / UDP(sport=1, dport=2) / Raw(b"x" * 30))
    answer = too_big(b"front" + first, 5, 1_400, packed("169.254.77.84"))
    assert answer is not None
    read = IP(answer)
    assert (read.src, read.dst) == ("169.254.77.84", SOURCE)
    assert (read[ICMP].type, read[ICMP].code, read[ICMP].nexthopmtu) == (3, 4, 1_400)
    assert answer[28:] == first[:28]
    assert scapy_checksum(answer[:20]) == 0 and scapy_checksum(answer[20:]) == 0
    second = bytes(IP(src=SOURCE, dst=GROUP, frag=3, proto=17) / Raw(b"x" * 30))
    assert too_big(second, 0, 1_400, packed("169.254.77.84")) is None
    assert too_big(PLAIN_6, 0, 1_400, packed("169.254.77.84")) is None
