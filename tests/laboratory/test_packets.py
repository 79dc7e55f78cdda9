"""What a frame is, told apart with frames that scapy made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.igmp import IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLDMultAddrRec,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.ipsec import ESP
from scapy.layers.l2 import ARP, Dot3, Ether

from mcsa.errors import Rejected
from mcsa.laboratory.packets import (
    IS_EXCLUDE,
    KINDS,
    TO_INCLUDE,
    GroupRecord,
    Packet,
    classify,
    count_kinds,
    parse_packet,
    parse_pcap,
    parse_report,
    pcap_header,
    pcap_record,
)

HEAD = Ether() / IP(src="198.18.0.1", dst="239.255.1.2")
REPORT = bytes(
    Ether()
    / IP(src="198.18.0.1", dst="224.0.0.22")
    / IGMPv3_MR(
        records=[
            IGMPv3_MR_Group(rtype=2, maddr="239.1.1.1"),
            IGMPv3_MR_Group(rtype=3, maddr="232.1.1.1", srcaddrs=["192.0.2.1", "192.0.2.2"]),
        ],
    )
)
MLD_REPORT = bytes(
    Ether()
    / IPv6(src="fe80::1", dst="ff02::16")
    / IPv6ExtHdrHopByHop(options=[RouterAlert()])
    / ICMPv6MLReport2(
        records=[
            ICMPv6MLDMultAddrRec(rtype=2, dst="ff15::8000:1"),
            ICMPv6MLDMultAddrRec(rtype=3, dst="ff35::8000:2", sources=["2001:db8::1", "2001:db8::2"]),
        ],
    )
)
FRAMES = {
    "esp-udp": HEAD / UDP(sport=4500, dport=4500) / b"spi",
    "esp": HEAD / ESP(spi=1, seq=1),
    "igmp": Ether(REPORT),
    "sap": HEAD / UDP(sport=40_000, dport=9875) / b"v=0",
    "nats": HEAD / TCP(sport=4222, dport=50_000),
    "arp": Ether() / ARP(),
    "icmp": HEAD / ICMP(),
    "mld": Ether(MLD_REPORT),
    "other": HEAD / UDP(sport=53, dport=53),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_told(kind: str) -> None:
    assert classify(bytes(FRAMES[kind])) == kind


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (Ether() / IPv6() / ICMPv6EchoRequest(), "icmp"),
        (HEAD / TCP(sport=80, dport=81), "other"),
        (Ether() / IP(frag=10, proto=17) / b"\x11\x94\x11\x94", "other"),  # has no ports, whatever it looks like
        (Dot3() / b"spanning tree", "other"),
        (Ether() / IPv6(nh=58), "icmp"),
    ],
    ids=["icmp6", "tcp", "fragment", "802.3", "empty icmp6"],
)
def test_what_is_near_a_kind_but_not_it(frame: Ether, kind: str) -> None:
    assert classify(bytes(frame)) == kind


def test_the_brokers_port_can_be_another() -> None:
    frame = bytes(HEAD / TCP(sport=50_000, dport=14_222))
    assert (classify(frame), classify(frame, nats_port=14_222)) == ("other", "nats")


def test_counts() -> None:
    frames = [bytes(FRAMES[kind]) for kind in ("esp-udp", "igmp", "esp-udp")]
    assert count_kinds(frames) == {"esp-udp": 2, "igmp": 1}


def test_a_packets_parts() -> None:
    frame = bytes(HEAD / UDP(sport=4500, dport=4501) / b"payload") + bytes(9)  # Ethernet pads
    assert parse_packet(frame) == Packet("198.18.0.1", "239.255.1.2", 17, 4500, 4501, b"payload")


def test_a_reports_records() -> None:
    assert parse_report(REPORT) == [
        GroupRecord(IS_EXCLUDE, "239.1.1.1", ()),
        GroupRecord(TO_INCLUDE, "232.1.1.1", ("192.0.2.1", "192.0.2.2")),
    ]
    assert parse_report(MLD_REPORT) == [
        GroupRecord(IS_EXCLUDE, "ff15::8000:1", ()),
        GroupRecord(TO_INCLUDE, "ff35::8000:2", ("2001:db8::1", "2001:db8::2")),
    ]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("igmp", "mld")])
def test_what_is_no_report_has_no_records(kind: str) -> None:
    assert parse_report(bytes(FRAMES[kind])) == []


@pytest.mark.parametrize("size", [len(REPORT) - 1, len(REPORT) - 9, 44])
def test_a_torn_report_is_rejected(size: int) -> None:
    with pytest.raises(Rejected, match="igmp: torn report"):
        parse_report(REPORT[:size])


@pytest.mark.parametrize("missing", [1, 33, 40])
def test_a_torn_mld_report_is_rejected(missing: int) -> None:
    with pytest.raises(Rejected, match="mld: torn report"):
        parse_report(MLD_REPORT[:-missing])


@given(st.binary(max_size=120))
def test_any_bytes_have_a_kind(frame: bytes) -> None:
    assert classify(frame) in KINDS


@given(st.binary(max_size=60), st.sampled_from([b"\x08\x00", b"\x86\xdd"]))
def test_any_ip_packet_has_a_kind(packet: bytes, kind: bytes) -> None:
    assert classify(bytes(12) + kind + packet) in KINDS


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1).map(float), st.binary(max_size=200))))
def test_a_pcap_file_gives_back_what_was_written(frames: list[tuple[float, bytes]]) -> None:
    assert parse_pcap(pcap_header() + b"".join(pcap_record(at, frame) for at, frame in frames)) == frames


def test_times_have_microseconds() -> None:
    ((at, _),) = parse_pcap(pcap_header() + pcap_record(1_700_000_000.123456, b""))
    assert at == pytest.approx(1_700_000_000.123456, abs=1e-6)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "header"),
        (bytes(24), "header"),
        (pcap_header()[:-4] + b"\x71\0\0\0", "header"),  # another link type
        (pcap_header() + bytes(15), "torn record"),
        (pcap_header() + pcap_record(0.0, b"frame")[:-1], "torn frame"),
    ],
)
def test_files_that_are_none_of_ours_are_rejected(content: bytes, detail: str) -> None:
    with pytest.raises(Rejected, match=f"pcap: {detail}"):
        parse_pcap(content)
