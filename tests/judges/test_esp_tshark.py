"""tshark, an independent reader of ESP, decrypts and checks what we send, in every variant that it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcsa.esp.checksum import inner_checksum
from mcsa.esp.outbound import OutboundAssociation
from tests.esp.parts import outbound, traffic_key
from tests.judges.esp import (
    PAYLOAD,
    PORT,
    SOURCE_PORT,
    TSHARK_VARIANTS,
    Variant,
    Verdict,
    ask_tshark,
    association_for,
    write_capture,
)

pytestmark = pytest.mark.parametrize("variant", TSHARK_VARIANTS, ids=str)
OUTER = {"udp": "udp:udpencap:esp", "protocol-50": "esp"}


def judge(folder: Path, variant: Variant, packets: list[bytes]) -> list[Verdict]:
    write_capture(folder / "esp.pcap", [variant.frame(packet) for packet in packets])
    return ask_tshark(folder / "esp.pcap", [association_for(variant.ip, variant.group, traffic_key(variant.suite))])


def seal(sender: OutboundAssociation, payloads: list[bytes]) -> list[bytes]:
    """In batches and one by one, in turn."""
    packets = []
    for batch in sender.seal_batches(payloads[::2], SOURCE_PORT, PORT):
        edges = range(0, len(batch.view), batch.segment_size)
        packets += [bytes(batch.view[start : start + batch.segment_size]) for start in edges]
    return packets + [sender.seal(payload, SOURCE_PORT, PORT) for payload in payloads[1::2]]


def test_it_decrypts_ours_and_finds_each_icv_good(tmp_path: Path, variant: Variant) -> None:
    payloads = [PAYLOAD[:size] * (1 + size % 40) for size in range(1, len(PAYLOAD) + 1)]  # every padding, up to 1 kB
    sender = outbound(variant.suite, checksum=inner_checksum(variant.source, variant.group))
    found = judge(tmp_path, variant, seal(sender, payloads))
    assert len(found) == len(payloads)
    for number, (said, payload) in enumerate(zip(found, payloads[::2] + payloads[1::2], strict=True), start=1):
        assert said.icv == "good"
        assert (said.spi, said.sequence) == (traffic_key(variant.suite).spi, number)
        assert said.ports == (str(SOURCE_PORT), str(PORT))
        assert said.payload == payload
        assert said.checksums[-1] == ("absent" if variant.ip == 4 else "good")  # RFC 8200 section 8.1
        assert said.protocols == f"eth:ethertype:ip{'' if variant.ip == 4 else 'v6'}:{OUTER[variant.wire]}:udp:data"


def test_it_finds_every_flipped_bit_and_every_repetition(tmp_path: Path, variant: Variant) -> None:
    packet = outbound(variant.suite).seal(PAYLOAD, SOURCE_PORT, PORT)
    places = [4, 7, *range(8, len(packet))]  # sequence number, IV, ciphertext, ICV; another SPI is nobody's
    broken = [bytearray(packet) for _ in places]
    for each, place in zip(broken, places, strict=True):
        each[place] ^= 1 << place % 8
    found = judge(tmp_path, variant, [packet, *map(bytes, broken), packet])
    assert [said.icv for said in found] == ["good"] + ["bad"] * len(places) + ["good"]
    assert "Wrong Sequence Number" not in found[0].complaints
    assert "Wrong Sequence Number" in found[-1].complaints
