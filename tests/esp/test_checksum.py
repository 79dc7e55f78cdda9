"""The inner UDP checksum of IPv6 groups, against scapy's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from mcsa.esp.checksum import InnerChecksum, inner_checksum
from mcsa.esp.inner import frame_for
from tests.esp.parts import outbound, traffic_key

SOURCE, GROUP = "fd00::5", "ff15::8000:1"
CHECKSUM = InnerChecksum(SOURCE, GROUP)
payloads = st.binary(max_size=70)
ports = st.integers(0, 65_535)


def by_scapy(payload: bytes, source_port: int, destination_port: int) -> bytes:
    packet = IPv6(src=SOURCE, dst=GROUP) / UDP(sport=source_port, dport=destination_port) / Raw(payload)
    return bytes(packet)[46:48]


@given(payloads, ports, ports)
def test_it_is_what_scapy_computes(payload: bytes, source_port: int, destination_port: int) -> None:
    before, _ = frame_for(len(payload), source_port, destination_port)
    assert CHECKSUM.of(before, payload) == by_scapy(payload, source_port, destination_port)
    assert CHECKSUM.of_all(before, [payload, payload]).tobytes() == 2 * by_scapy(payload, source_port, destination_port)


def test_a_sum_of_zero_is_written_as_all_ones() -> None:
    """0 would say that there is none (RFC 768)."""
    before, _ = frame_for(2, 5004, 5004)
    number = int.from_bytes(CHECKSUM.of(before, b"\0\0"), "big")
    payload = number.to_bytes(2, "big")
    assert CHECKSUM.of(before, payload) == b"\xff\xff" == by_scapy(payload, 5004, 5004)


@pytest.mark.parametrize("size", [1, 2, 159, 160, 1_399, 1_400])
def test_every_packet_has_its_own_one_by_one_and_in_batches(size: int) -> None:
    sender, key = outbound(checksum=CHECKSUM), traffic_key()
    messages = [bytes((number,)) * size for number in range(5)]
    packets = [sender.seal(message, 5004, 5006) for message in messages]
    for batch in sender.seal_batches(messages, 5004, 5006):
        packets += [
            bytes(batch.view[start : start + batch.segment_size])
            for start in range(0, len(batch.view), batch.segment_size)
        ]
    for packet, message in zip(packets, messages * 2, strict=True):
        inside = key.cipher().decrypt(key.salt + packet[8:16], packet[16:], packet[:8])
        assert inside[6:8] == by_scapy(message, 5004, 5006)


def test_ipv4_groups_have_none() -> None:
    assert inner_checksum("198.18.0.5", "239.1.2.3") is None
    packet, key = outbound().seal(b"payload", 5004, 5006), traffic_key()
    assert key.cipher().decrypt(key.salt + packet[8:16], packet[16:], packet[:8])[6:8] == bytes(2)
