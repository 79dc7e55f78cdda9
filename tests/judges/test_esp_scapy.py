"""scapy, an independent reader and writer of ESP, both ways, in every variant."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import ESP, IPSecIntegrityError
from scapy.packet import Packet, Raw

from mcsa.errors import Rejected
from mcsa.esp.wire import parse_ip, parse_udp
from tests.esp.parts import SENDER, inbound, open_together, outbound
from tests.judges.esp import PAYLOAD, PORT, SOURCE_PORT, VARIANTS, Variant, scapy_association

pytestmark = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def as_scapy_reads(variant: Variant, packet: bytes) -> Packet:
    """Our packet as it stands on the wire, parsed by scapy. Of ESP in UDP it is what the kernel would take out."""
    datagram = variant.datagram(packet)
    read: Packet = IP(datagram) if variant.ip == 4 else IPv6(datagram)
    assert read[ESP].spi == int.from_bytes(packet[:4], "big")  # it knows UDP port 4500 as well
    if variant.wire == "protocol-50":
        return read
    inside = bytes(read[UDP].payload)
    bare = Variant(variant.suite, "protocol-50", variant.ip).datagram(inside)
    return IP(bare) if variant.ip == 4 else IPv6(bare)


def by_scapy(variant: Variant, sequence: int, payload: bytes = PAYLOAD) -> bytes:
    """The ESP packet that scapy makes of a payload, with an IV and a UDP checksum of its own, out of its wire."""
    inside = UDP(sport=SOURCE_PORT, dport=PORT) / Raw(payload)
    header = (
        IP(src=variant.source, dst=variant.group) if variant.ip == 4 else IPv6(src=variant.source, dst=variant.group)
    )
    plain = bytes(header / inside)
    sealed = scapy_association(variant.suite).encrypt(IP(plain) if variant.ip == 4 else IPv6(plain), seq_num=sequence)
    packet = bytes(sealed[ESP])
    if variant.wire == "udp":
        read = IP if variant.ip == 4 else IPv6
        parsed = parse_udp(memoryview(bytes(read(variant.datagram(packet))[UDP].payload)))
        assert parsed is not None
        return bytes(parsed)
    return bytes(parse_ip(memoryview(bytes(sealed)))) if variant.ip == 4 else packet  # IPv6: the kernel strips it


def test_scapy_opens_ours(variant: Variant) -> None:
    for payload in (PAYLOAD, b"", bytes(1_352)):
        packet = outbound(variant.suite).seal(payload, SOURCE_PORT, PORT)
        opened = scapy_association(variant.suite).decrypt(as_scapy_reads(variant, packet))
        assert (opened[UDP].sport, opened[UDP].dport, opened[UDP].len) == (SOURCE_PORT, PORT, 8 + len(payload))
        assert bytes(opened[UDP].payload) == payload


def test_scapy_opens_each_packet_of_a_batch(variant: Variant) -> None:
    [batch] = outbound(variant.suite).seal_batches([PAYLOAD, PAYLOAD[::-1], PAYLOAD], SOURCE_PORT, PORT)
    opened = []
    for start in range(0, len(batch.view), batch.segment_size):
        packet = bytes(batch.view[start : start + batch.segment_size])
        opened.append(bytes(scapy_association(variant.suite).decrypt(as_scapy_reads(variant, packet))[UDP].payload))
    assert opened == [PAYLOAD, PAYLOAD[::-1], PAYLOAD]


def test_ours_opens_scapys(variant: Variant) -> None:
    receiver = inbound(variant.suite)
    receiver.set_roster({SENDER: variant.source})
    for sequence, payload in ((1, PAYLOAD), (7, b""), (2**32 - 1, bytes(1_352))):
        opened = receiver.open(by_scapy(variant, sequence, payload), variant.source)
        assert (opened.sender_id, opened.sequence, opened.payload) == (SENDER, sequence, payload)
        assert (opened.source_port, opened.destination_port) == (SOURCE_PORT, PORT)


def test_ours_opens_scapys_in_batches(variant: Variant) -> None:
    receiver = inbound(variant.suite)
    receiver.set_roster({SENDER: variant.source})
    payloads = [PAYLOAD[n:] + PAYLOAD[:n] for n in range(3)]
    packets = [by_scapy(variant, sequence, payload) for sequence, payload in enumerate(payloads, start=1)]
    batch = open_together(receiver, packets, variant.source)
    assert [payload for run in batch.runs for payload in run.payloads] == payloads  # each with another UDP checksum


def test_scapy_notices_tampering_with_ours(variant: Variant) -> None:
    packet = outbound(variant.suite).seal(PAYLOAD, SOURCE_PORT, PORT)
    for place in range(4, len(packet)):
        broken = packet[:place] + bytes((packet[place] ^ 1,)) + packet[place + 1 :]
        with pytest.raises(IPSecIntegrityError):
            scapy_association(variant.suite).decrypt(as_scapy_reads(variant, broken))


def test_ours_notices_tampering_with_scapys(variant: Variant) -> None:
    receiver, packet = inbound(variant.suite), by_scapy(variant, 1)
    receiver.set_roster({SENDER: variant.source})
    for place in range(4, len(packet)):
        broken = packet[:place] + bytes((packet[place] ^ 1,)) + packet[place + 1 :]
        expected = "replay" if broken[4:8] == bytes(4) else "integrity"
        with pytest.raises(Rejected, match=expected):
            receiver.open(broken, variant.source)
        assert open_together(receiver, [broken], variant.source).rejected == [expected]
    assert receiver.open(packet, variant.source).payload == PAYLOAD
